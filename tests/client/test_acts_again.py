"""What a review found in acts: each stays found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import durable
from durable import Durable, ExecutionFailed, UsageError, Workflow, seconds
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

broken = True
did: list[str] = []


async def undo(data: Data) -> None:
    did.append("undo")


async def undo_with(data: Data) -> None:
    did.append(f"undo {data['n']}")


counting = Workflow[Data, Data]("counting")


@counting.step
async def one(data: Data) -> Data:
    return {"n": 1}


@counting.step(compensate=undo_with)
async def says_nothing(data: Data) -> None: ...


@counting.step
async def two(data: Data) -> Data:
    return {"n": 2}


@counting.step
async def breaks_down(data: Data) -> Data:
    raise ValueError("broken")


saga = Workflow[Data, Data]("saga")


@saga.step(compensate=undo)
async def do(data: Data) -> None: ...


@saga.step
async def hang(data: Data) -> None:
    if data.get("fail"):
        raise ValueError("broken")
    await durable.wait_for_event("never")


kid = Workflow[Data, Data]("kid")


@kid.step
async def play(data: Data) -> Data:
    did.append("kid")
    if data.get("breaks") and broken:
        raise ValueError("broken")
    return data


async def tell(data: Data) -> None:
    await durable.call_workflow(kid, {})
    did.append("told")


teller = Workflow[Data, Data]("teller", on_failure=tell)


@teller.step
async def breaks(data: Data) -> Data:
    raise ValueError("broken")


parent = Workflow[Data, Any]("parent")


@parent.step
async def begins(data: Data) -> Any:
    child = await durable.start_workflow(kid, {"breaks": True})
    await durable.wait_for_event("go")
    return await child.result()


sleepy = Workflow[Data, Data]("sleepy")


@sleepy.step
async def naps(data: Data) -> Data:
    await durable.sleep(seconds(0.3))
    did.append("slept")
    if await durable.wait_for_event("x", timeout=seconds(0.1), timeout_value=None) is not None:
        did.append("another answer")
    if broken:
        raise ValueError("broken")
    return data


@pytest.fixture(autouse=True)
def fresh() -> None:
    global broken
    broken = True
    did.clear()


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Durable]:
    async with Durable(database, workflows=[saga, kid, teller, parent, sleepy, counting]) as engine:
        yield engine
    await assert_invariants(database)


async def until(engine: Durable, id: str, status: str) -> None:
    async with asyncio.timeout(20):
        while (await engine.get_execution(id)).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def fails(handle: durable.Handle[Any]) -> None:
    with pytest.raises(ExecutionFailed):
        await handle.result(20)


async def test_a_fork_of_one_that_was_undone_undoes_what_it_has_copied(engine: Durable) -> None:
    handle = await engine.start(saga, {})
    await until(engine, handle.id, "waiting")
    await handle.cancel(compensate=True)
    await fails(handle)
    assert did == ["undo"]
    fork = await handle.fork(from_step="hang", data={"fail": True})
    await fails(fork)
    assert did == ["undo", "undo"]
    assert await fork.status() == "compensated"


async def test_a_fork_undoes_a_step_with_the_data_right_after_it(engine: Durable) -> None:
    handle = await engine.start(counting, {"n": 0})
    await fails(handle)
    await fails(await handle.fork(from_step="breaks_down", data={"n": 3}))
    assert did == ["undo 1", "undo 1"]


async def test_an_ending_that_calls_a_child_calls_another_after_a_retry(engine: Durable) -> None:
    handle = await engine.start(teller, {})
    await fails(handle)
    await handle.retry()
    await fails(handle)
    assert did == ["kid", "told", "kid", "told"]


async def test_a_parent_hears_of_the_end_of_a_started_child_that_was_retried(engine: Durable) -> None:
    global broken
    handle = await engine.start(parent, {})
    async with asyncio.timeout(20):
        while not (children := (await engine.list_children(handle.id)).items):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    child = engine.handle(children[0].id)
    await until(engine, child.id, "failed")
    broken = False
    assert await child.retry()
    await handle.send_event("go")
    assert await handle.result(20) == {"breaks": True}


async def test_a_retry_sleeps_and_waits_no_more_for_what_is_over(engine: Durable) -> None:
    global broken
    handle = await engine.start(sleepy, {})
    await fails(handle)
    broken = False
    await handle.retry()
    await handle.send_event("x", 1)
    await handle.result(20)
    assert "another answer" not in did
    steps = (await engine.get_execution(handle.id, include_steps=True)).steps or ()
    assert sum(effect.kind == "waiting" for step in steps for effect in step.effects) == 2


async def test_what_cannot_be_meant_is_refused(engine: Durable) -> None:
    with pytest.raises(UsageError, match="limit is -1"):
        await engine.cancel_many(workflow=kid, limit=-1)
    handle = await engine.start(saga, {})
    await until(engine, handle.id, "waiting")
    await handle.cancel()
