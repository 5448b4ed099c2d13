"""The same id starts once, whoever starts it and however often."""

from __future__ import annotations

import asyncio

import pytest

from durable import IdConflict
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
