"""What has ended is deleted when it was kept for long enough, whole, and its ids do not start again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
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
from durable.store.connection import Link
from durable.store.queries import Query, load
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


family = Workflow[Data, Data]("family", retention=Retention(completed=seconds(0)))


@family.step
async def bear(data: Data) -> Data:
    for n in range(3):
        await durable.call_workflow(plain, {}, ref=f"child {n}")
    return data


waiter = Workflow[Data, Any]("waiter", retention=seconds(0))


@waiter.step
async def wait(data: Data) -> Any:
    return await durable.wait_for_event("go")


@pytest.fixture
async def dsn(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


def engine(dsn: str, **options: Any) -> Durable:
    return Durable(dsn, workflows=[plain, short, parent, waiter, family], **options)


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


@pytest.mark.parametrize("how", ["start", "sql", "fork"])
async def test_an_id_that_is_being_deleted_does_not_start_again(dsn: str, how: str) -> None:
    blocked = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    janitors, watcher = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    async with engine(dsn) as one_engine:
        await (await one_engine.start(plain, {}, id="webhook-7")).result(20)
        other = await one_engine.start(plain, {})
        await other.result(20)
        deleting = janitors.transaction()
        await deleting.start()
        page = load("retention/delete").sql
        row = await janitors.fetchrow(page, "plain", "completed", 0.0, None, None, 1, False)
        assert row is not None
        assert row["deleted"] == 1

        async def from_sql() -> Any:
            sql = await asyncpg.connect(dsn)
            try:
                return await sql.fetchval("select durable.start_execution('plain', '{}', id => 'webhook-7')")
            finally:
                await sql.close()

        acts: dict[str, Any] = {
            "start": lambda: one_engine.start(plain, {}, id="webhook-7"),
            "sql": from_sql,
            "fork": lambda: other.fork(new_id="webhook-7"),
        }
        starting = asyncio.ensure_future(acts[how]())
        async with asyncio.timeout(20):
            while not await watcher.fetchval(blocked):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await deleting.commit()
        if how == "start":
            assert not (await asyncio.wait_for(starting, 20)).created
        else:
            with pytest.raises((asyncpg.SerializationError, IdConflict)):
                await asyncio.wait_for(starting, 20)
        assert await watcher.fetchval("select count(*) from durable.execution") == 1
    await janitors.close()
    await watcher.close()


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


async def test_what_takes_too_long_to_delete_is_divided_and_a_single_one_does_not_hold_up_the_rest(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may have very many children, which go with it: PostgreSQL then cancels the statement by its timeout."""
    fetch, asked, created = Link.fetch, list[int](), list[datetime]()

    async def slow(self: Link, query: Query, *arguments: Any) -> Any:
        if query.sql == load("retention/delete").sql:
            *_, after, _, most, dry_run = arguments
            asked.append(most)
            (page,) = await fetch(self, query, *arguments[:-1], True)
            big = (
                page["last_at"] is not None and (after is None or after < created[5]) and created[5] <= page["last_at"]
            )
            if not dry_run and (most > 3 or big):
                raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        return await fetch(self, query, *arguments)

    async with engine(dsn, retention=Retention(completed=seconds(0))) as one_engine:
        for _ in range(12):
            handle = await one_engine.start(plain, {})
            await handle.result(20)
            created.append((await one_engine.get_execution(handle.id)).created_at)
        monkeypatch.setattr(Link, "fetch", slow)
        assert (await one_engine.cleanup()).deleted == 11
        assert asked[0] == janitor.PAGE
        monkeypatch.undo()
        assert (await one_engine.cleanup()).deleted == 1


async def test_executions_with_many_children_are_deleted_a_few_at_a_time(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "PAGE", 8)
    fetch, asked = Link.fetch, list[int]()

    async def counted(self: Link, query: Query, *arguments: Any) -> Any:
        if query.sql == load("retention/delete").sql:
            asked.append(arguments[5])
        return await fetch(self, query, *arguments)

    monkeypatch.setattr(Link, "fetch", counted)
    async with engine(dsn) as one_engine:
        handles = await one_engine.start_many(family, [{}] * 40)
        await asyncio.gather(*(handle.result(20) for handle in handles))
        assert (await one_engine.cleanup()).deleted == 40 * 4
    assert 2 in asked


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
