"""What has ended is deleted when it was kept for long enough, whole, and its ids do not start again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    ConfigurationError,
    DefinitionError,
    Durable,
    ExecutionFailed,
    IdConflict,
    Retention,
    UnknownExecution,
    Workflow,
    days,
    seconds,
)
from durable.runtime import janitor
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

plain = Workflow[Data, Data]("plain")


@plain.step
async def one(data: Data) -> Data:
    durable.context().progress(0.5)
    if data.get("bad"):
        raise ValueError("bad")
    return data


short = Workflow[Data, Data]("short", retention=seconds(0))


@short.step
async def two(data: Data) -> Data:
    return data


parent = Workflow[Data, Data]("parent", retention=Retention(completed=seconds(0)))


@parent.step
async def begin(data: Data) -> Data:
    await durable.call_workflow(plain, {}, ref="called")
    child = await durable.start_workflow(waiter, {}, ref="started")
    return {"child": child.id}


waiter = Workflow[Data, Any]("waiter", retention=seconds(0))


@waiter.step
async def wait(data: Data) -> Any:
    return await durable.wait_for_event("go")


@pytest.fixture
async def dsn(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


def engine(dsn: str, **options: Any) -> Durable:
    return Durable(dsn, workflows=[plain, short, parent, waiter], **options)


async def rows_left(dsn: str) -> dict[str, int]:
    connection = await asyncpg.connect(dsn)
    try:
        tables = ["execution", "journal", "past", "message", "input", "stream", "act", "ended", "subscription"]
        return {
            table: count
            for table in tables
            if (count := await connection.fetchval(f"select count(*) from durable.{table}"))
        }
    finally:
        await connection.close()


async def test_what_was_kept_for_long_enough_is_deleted_with_all_that_belongs_to_it(dsn: str) -> None:
    async with engine(dsn, retention=seconds(0)) as one_engine:
        handle = await one_engine.start(plain, {})
        await handle.result(20)
        failing = await one_engine.start(plain, {"bad": True})
        with pytest.raises(ExecutionFailed):
            await failing.result(20)
        asked = await one_engine.start(waiter, {})
        await asked.pause()
        await asked.cancel()
        assert (await one_engine.cleanup(dry_run=True)).deleted == 3
        assert (await one_engine.get_execution(handle.id)).status == "completed"
        assert (await one_engine.cleanup()).deleted == 3
        with pytest.raises(UnknownExecution):
            await one_engine.get_execution(handle.id)
    assert await rows_left(dsn) == {}


async def test_a_workflow_and_a_status_say_how_long(dsn: str) -> None:
    async with engine(dsn, retention=Retention(failed=days(1), completed=days(7))) as one_engine:
        kept = await one_engine.start(plain, {})
        gone = await one_engine.start(short, {})
        await asyncio.gather(kept.result(20), gone.result(20))
        bad = await one_engine.start(plain, {"bad": True})
        with pytest.raises(ExecutionFailed):
            await bad.result(20)
        assert (await one_engine.cleanup()).deleted == 1
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "create or replace function durable.clock() returns timestamptz language sql stable parallel safe "
            "return statement_timestamp() + interval '2 days'"
        )
        await connection.close()
        assert (await one_engine.cleanup()).deleted == 1
        assert (await one_engine.get_execution(kept.id)).status == "completed"
        with pytest.raises(UnknownExecution):
            await one_engine.get_execution(bad.id)


async def test_without_a_retention_everything_is_kept(dsn: str) -> None:
    async with engine(dsn) as one_engine:
        await (await one_engine.start(plain, {})).result(20)
        assert (await one_engine.cleanup()).deleted == 0


async def test_a_tree_is_deleted_whole_when_all_of_it_has_ended(dsn: str) -> None:
    async with engine(dsn) as one_engine:
        handle = await one_engine.start(parent, {})
        result = await handle.result(20)
        assert (await one_engine.cleanup()).deleted == 0, "a child goes on"
        await one_engine.send_event(result["child"], "go", 1)
        await one_engine.handle(result["child"]).result(20)
        assert len((await one_engine.list_children(handle.id)).items) == 2
        assert (await one_engine.cleanup()).deleted == 3
    assert await rows_left(dsn) == {}


async def test_an_id_that_was_generated_is_forgotten_with_its_execution(dsn: str) -> None:
    async with engine(dsn, retention=seconds(0)) as one_engine:
        for id in ("mine", None):
            await (await one_engine.start(plain, {}, id=id)).result(20)
        assert (await one_engine.cleanup()).deleted == 2
    async with engine(dsn, id_retention=seconds(0)) as one_engine:
        assert (await one_engine.cleanup()).ids_forgotten == 1


async def test_an_id_of_one_that_was_deleted_does_not_start_again_until_it_is_forgotten(dsn: str) -> None:
    uuid = "11111111-2222-4333-8444-555555555555"
    async with engine(dsn, retention=seconds(0)) as one_engine:
        for id in ("webhook-7", uuid):
            await (await one_engine.start(plain, {}, id=id)).result(20)
        assert (await one_engine.cleanup()).deleted == 2
        for id in ("webhook-7", uuid):
            again = await one_engine.start(plain, {}, id=id)
            assert not again.created
            with pytest.raises(IdConflict):
                await one_engine.start(plain, {}, id=id, on_conflict="error")
            with pytest.raises(IdConflict, match="plain"):
                await one_engine.start(short, {}, id=id)
            connection = await asyncpg.connect(dsn)
            async with connection.transaction():
                assert not (await one_engine.start(plain, {}, id=id, connection=connection)).created
            assert await connection.fetchval("select durable.start_execution('plain', '{}', id => $1)", id) == id
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute("select durable.start_execution('short', '{}', id => $1)", id)
            await connection.close()
        assert await rows_left(dsn) == {}
    async with engine(dsn, id_retention=seconds(0)) as one_engine:
        assert (await one_engine.cleanup()).ids_forgotten == 2
        assert (await one_engine.start(plain, {}, id="webhook-7")).created


async def test_many_pages_are_deleted_while_others_run(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "PAGE", 7)
    async with engine(dsn, retention=Retention(completed=seconds(0))) as one_engine:
        handles = await one_engine.start_many(plain, [{}] * 40)
        await asyncio.gather(*(handle.result(20) for handle in handles))
        others = await one_engine.start_many(waiter, [{}] * 10)
        results = await asyncio.gather(one_engine.cleanup(), one_engine.cleanup())
        assert sum(result.deleted for result in results) == 40
        for other in others:
            await other.send_event("go", 1)
            assert await other.result(20) == 1


async def test_workers_delete_by_themselves(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "EVERY", 0.05)
    async with engine(dsn) as one_engine:
        await (await one_engine.start(short, {})).result(20)
        async with asyncio.timeout(20):
            while await rows_left(dsn):  # noqa: ASYNC110 - a janitor deletes them
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("wrong", [5, timedelta(seconds=-1), Retention(completed=7)])  # type: ignore[arg-type]
def test_a_retention_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="retention is"):
        Workflow("wrong", retention=wrong)
    with pytest.raises(ConfigurationError, match="retention is"):
        Durable("", workflows=[plain], retention=wrong)
    with pytest.raises(ConfigurationError, match="id_retention is"):
        Durable("", workflows=[plain], id_retention=5)  # type: ignore[arg-type]
