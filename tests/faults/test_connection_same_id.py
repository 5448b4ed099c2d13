"""The same id starts once, whoever starts it and however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from durable import Durable, IdConflict, starting
from tests.faults import in_process
from tests.faults.in_process import GUARD, THREE, Bodies, engine, settled, single, three


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


async def test_an_id_started_by_many_tasks_of_two_engines_starts_once(database: str, bodies: Bodies) -> None:
    async with engine(database) as first, engine(database) as second, engine(database, worker=False) as client:
        await settled(first)
        await settled(second)
        engines = [first, second, client] * 20
        handles = await asyncio.gather(*(running.start(three, {}, id="mine") for running in engines))
        assert [handle.created for handle in handles].count(True) == 1
        assert len({handle.execution_id for handle in handles}) == 1
        assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 60
        assert (await client.start(three, {}, id="mine")).created is False, "also when it has ended"
        assert len((await client.list_executions()).items) == 1
    assert set(bodies.runs().values()) == {1}


async def test_many_ids_started_by_many_at_once_start_once_each(database: str, bodies: Bodies) -> None:
    async with engine(database) as first, engine(database) as second:
        await settled(first)
        await settled(second)
        ids = [f"order-{n}" for n in range(40)]
        starts = [running.start(three, {}, id=id) for id in ids for running in (first, second, first)]
        many = [running.start_many(three, [{}] * 40, ids=ids[::step]) for running, step in ((first, 1), (second, -1))]
        handles = list(await asyncio.gather(*starts))
        for more in await asyncio.gather(*many):
            handles += more
        created = [handle.id for handle in handles if handle.created]
        assert sorted(created) == sorted(ids)
        assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 200
    assert set(bodies.runs().values()) == {1}


async def test_one_id_twice_in_one_call_starts_once(database: str, bodies: Bodies) -> None:
    async with engine(database) as running:
        handles = await running.start_many(three, [{}, {}, {}], ids=["mine", "mine", "other"])
        assert sorted(handle.created for handle in handles) == [False, True, True]
        assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 3
    assert set(bodies.runs().values()) == {1}


@pytest.fixture
async def held(database: str, bodies: Bodies) -> AsyncIterator[tuple[Durable, asyncpg.Connection[asyncpg.Record]]]:
    """A client, and a connection in whose transaction the id "held" is started."""
    async with engine(database, worker=False) as client:
        connection = await asyncpg.connect(database)
        await connection.execute("begin")
        await client.start(three, {}, id="held", connection=connection)
        yield client, connection
        await connection.close()


async def exist(client: Durable, count: int) -> None:
    async def there() -> bool:
        return len((await client.list_executions(limit=count)).items) == count

    await in_process.until(there)


async def test_an_id_in_an_open_transaction_holds_up_none_of_the_others_that_are_started_with_it(
    held: tuple[Durable, asyncpg.Connection[asyncpg.Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, connection = held
    monkeypatch.setattr(starting, "AT_ONCE", 10)
    monkeypatch.setattr(starting, "UNDER_WAY", 20)
    monkeypatch.setattr(starting, "PATIENCE", 0.01)
    ids = ["held", *(f"order-{n}" for n in range(100))]
    many = asyncio.create_task(client.start_many(three, [{}] * 101, ids=ids))
    await exist(client, 100)
    assert not many.done()
    await connection.execute("commit")
    assert [(handle.id, handle.created) for handle in await many] == [(id, id != "held") for id in ids]


async def test_workers_hear_of_what_was_started_by_a_call_that_was_cancelled(
    held: tuple[Durable, asyncpg.Connection[asyncpg.Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = held
    told: list[str] = []
    monkeypatch.setattr(client.parts().herald, "ready", told.append)
    many = asyncio.create_task(client.start_many(three, [{}] * 6, ids=["held", *map(str, range(5))]))
    await exist(client, 5)
    many.cancel()
    with pytest.raises(asyncio.CancelledError):
        await many
    assert told == ["default"]


async def test_an_id_of_another_workflow_is_a_conflict_for_whoever_came_second(database: str, bodies: Bodies) -> None:
    async with engine(database) as first, engine(database) as second:
        await settled(first)
        await settled(second)
        starts = [(first, three), (second, single)] * 10
        outcomes = await asyncio.gather(
            *(running.start(workflow, {}, id="mine") for running, workflow in starts), return_exceptions=True
        )
        handles = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        conflicts = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(handles) == len(conflicts) == 10
        assert [handle.created for handle in handles].count(True) == 1
        assert all(isinstance(conflict, IdConflict) and "mine" in str(conflict) for conflict in conflicts)
        assert len({str(await handle.result(GUARD)) for handle in handles}) == 1
    assert len({execution for execution, _, _ in bodies.began}) == 1


async def test_an_id_that_must_be_new_is_refused_for_all_but_one(database: str, bodies: Bodies) -> None:
    async with engine(database) as first, engine(database) as second:
        await settled(first)
        await settled(second)
        outcomes = await asyncio.gather(
            *(running.start(three, {}, id="mine", on_conflict="error") for running in [first, second] * 10),
            return_exceptions=True,
        )
        (handle,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert handle.created
        assert all(isinstance(outcome, IdConflict) for outcome in outcomes if outcome is not handle)
        assert await handle.result(GUARD) == THREE


async def test_an_id_that_is_a_uuid_is_that_uuid_and_two_spellings_are_two(database: str, bodies: Bodies) -> None:
    uuid = "0190f3a4-7d2e-7c1b-9c55-5a7e6f1d2c3b"
    async with engine(database) as running:
        lower, upper = await running.start(three, {}, id=uuid), await running.start(three, {}, id=uuid.upper())
        assert (str(lower.execution_id), lower.created, upper.created) == (uuid, True, True)
        assert upper.execution_id != lower.execution_id
        assert (await running.get_execution(uuid.upper())).id == uuid.upper()
        assert await lower.result(GUARD) == await upper.result(GUARD) == THREE
