"""`retry`: what has failed goes on from where it failed, in place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import durable
from durable import Durable, ExecutionFailed, NotRetryable, Retry, UnknownExecution, Workflow, assign, context, seconds
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

broken = True
began: list[str] = []

pipeline = Workflow[Data, Data]("pipeline", retry=Retry(max_attempts=2, delay=seconds(0), jitter=0))


@pipeline.step
async def first(data: Data) -> Data:
    began.append("first")
    return assign(data, first=True)


@pipeline.step
async def second(data: Data) -> Data:
    began.append(f"second {context().attempt} of {context().max_attempts}")
    if broken:
        raise ValueError("broken")
    return assign(data, second=True)


waits = Workflow[Data, Data]("waits")
both = waits.parallel("both", on_error="fail_fast", merge="collect")
child = Workflow[str, str]("child")
failed = asyncio.Event()


@child.step
async def waits_itself(data: str) -> str:
    return await durable.wait_for_event("go")


def arm(name: str) -> Any:
    return both.arm(name)


@arm("asks").step
async def asks(data: Data) -> Any:
    return await durable.wait_for_approval("boss")


@arm("calls").step
async def calls(data: Data) -> Any:
    return await durable.call_workflow(child, "x")


@arm("listens").step
async def listens(data: Data) -> Any:
    return await durable.wait_for_event("news", match={"order": 7})


@arm("sleeps").step
async def sleeps(data: Data) -> str:
    await durable.sleep(seconds(0.05))
    return await durable.wait_for_event("plain")


@arm("fails").step
async def fails(data: Data) -> str:
    await durable.wait_for_event("fail")
    if broken:
        raise ValueError("broken")
    return "did not"


ended: list[str] = []
told = Workflow[Data, Data]("told", timeout=seconds(30))


async def tell(data: Data) -> None:
    ended.append("told")


told = Workflow[Data, Data]("told", timeout=seconds(30), on_failure=tell)


@told.step
async def breaks(data: Data) -> Data:
    if broken:
        raise ValueError("broken")
    return data


async def undo(data: Data) -> None:
    ended.append("undone")


saga = Workflow[Data, Data]("saga")


@saga.step(compensate=undo)
async def do(data: Data) -> None: ...


@saga.step
async def then_break(data: Data) -> None:
    raise ValueError("broken")


parent = Workflow[Data, Data]("parent")


@parent.step
async def calls_pipeline(data: Data) -> Data:
    return await durable.call_workflow(pipeline, {}, ref="one")


items = Workflow[list[int], list[int]]("items")
each = items.foreach("each", items=lambda data: data, concurrency=2, into=lambda data, results: results.ok)


@each.step
async def double(data: list[int], item: int) -> int:
    began.append(f"item {item}")
    if broken and item == 2:
        raise ValueError("broken")
    return 2 * item


late = Workflow[str, Any]("late", timeout=seconds(60), queue="slow")


@late.step
async def waits_too_long(data: str) -> Any:
    if data == "child":
        return await durable.call_workflow(child, "x")
    return await durable.wait_for_approval("boss")


FLOWS = [pipeline, waits, child, told, saga, parent, items, late]


@pytest.fixture(autouse=True)
def fresh() -> None:
    global broken
    broken = True
    began.clear()
    ended.clear()


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Durable]:
    async with Durable(database, workflows=FLOWS, queues={"default": 10, "slow": 10}) as engine:
        yield engine
    await assert_invariants(database)


def mend() -> None:
    global broken
    broken = False


async def fail(handle: durable.Handle[Any]) -> None:
    with pytest.raises(ExecutionFailed, match="broken"):
        await handle.result(20)


async def test_it_goes_on_from_the_failed_step_with_a_new_round_of_attempts(engine: Durable) -> None:
    handle = await engine.start(pipeline, {})
    await fail(handle)
    assert await handle.retry("once more", by="ann")
    await fail(handle)
    mend()
    assert await handle.retry()
    assert await handle.result(20) == {"first": True, "second": True}
    assert not await handle.retry()
    assert began == ["first", *(f"second {n} of {m}" for n, m in ((1, 2), (2, 2), (3, 4), (4, 4), (5, 6)))]
    execution = await engine.get_execution(handle.id, include_steps=True)
    assert [(s.path, s.status, len(s.attempts)) for s in execution.steps or ()] == [
        ("first", "completed", 1),
        ("second", "completed", 5),
    ]
    assert [(act.kind, act.by, act.reason) for act in (await engine.list_acts(handle.id)).items] == [
        ("retry", None, None),
        ("retry", "ann", "once more"),
    ]
    assert [e.id for e in (await engine.list_executions(status="failed")).items] == []


async def test_what_was_waited_for_in_vain_is_waited_for_anew(engine: Durable) -> None:
    handle = await engine.start(waits, {})
    async with asyncio.timeout(20):
        while not (await engine.list_pending_inputs()).items or not (await engine.list_children(handle.id)).items:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stale = await children_of(engine, handle)
    await handle.send_event("fail")
    await fail(handle)
    mend()
    assert await handle.retry()
    async with asyncio.timeout(20):
        while not (await engine.list_pending_inputs()).items or not await children_of(engine, handle) - stale:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (fresh,) = await children_of(engine, handle) - stale
    await handle.provide_input("boss", "approved")
    await engine.send_event(fresh, "go", "gone")
    await handle.send_event("plain", "plainly")
    await engine.emit("news", {"order": 7})
    result = await handle.result(20)
    assert result == {
        "asks": "approved",
        "calls": "gone",
        "listens": {"order": 7},
        "sleeps": "plainly",
        "fails": "did not",
    }
    assert (await engine.get_execution(fresh)).status == "completed"
    async with asyncio.timeout(20):
        while [(await engine.get_execution(id)).status for id in stale] != ["cancelled"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["child", "answer"])
async def test_an_answer_that_came_before_the_end_and_was_not_read_counts_after_a_retry(
    engine: Durable, database: str, kind: str
) -> None:
    handle = await engine.start(late, kind)
    async with asyncio.timeout(20):
        while not (await engine.list_pending_inputs()).items and not await children_of(engine, handle):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while await handle.status() != "waiting":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await engine.pause_queue("slow")
    if kind == "child":
        (first,) = await children_of(engine, handle)
        await engine.send_event(first, "go", "approved")
    else:
        await handle.provide_input("boss", "approved")
    connection = await asyncpg.connect(database)
    await connection.execute("update durable.execution set deadline_at = durable.clock() where deadline_at is not null")
    await connection.close()
    await engine.resume_queue("slow")
    with pytest.raises(ExecutionFailed, match="DeadlineExceeded"):
        await handle.result(20)
    assert await handle.retry()
    assert await handle.result(20) == "approved"
    assert len(await children_of(engine, handle)) == (kind == "child")
    assert not (await engine.list_pending_inputs()).items


async def children_of(engine: Durable, handle: durable.Handle[Any]) -> set[str]:
    return {child.id for child in (await engine.list_children(handle.id)).items}


async def test_its_ending_is_run_again_if_it_fails_again(engine: Durable) -> None:
    handle = await engine.start(told, {})
    await fail(handle)
    assert ended == ["told"]
    before = (await engine.get_execution(handle.id)).deadline_at
    await handle.retry()
    await fail(handle)
    assert ended == ["told", "told"]
    mend()
    await handle.retry()
    await handle.result(20)
    assert ended == ["told", "told"]
    assert before is None
    assert (await engine.get_execution(handle.id)).deadline_at is not None


async def test_items_that_were_completed_are_not_done_again(engine: Durable) -> None:
    handle = await engine.start(items, [1, 2, 3, 4])
    await fail(handle)
    mend()
    await handle.retry()
    assert await handle.result(20) == [2, 4, 6, 8]
    assert began.count("item 1") == 1
    assert began.count("item 2") == 2


async def test_what_was_undone_and_what_a_parent_was_told_of_is_refused_with_what_to_do(engine: Durable) -> None:
    undone = await engine.start(saga, {})
    with pytest.raises(ExecutionFailed):
        await undone.result(20)
    with pytest.raises(NotRetryable, match="fork"):
        await undone.retry()
    caller = await engine.start(parent, {})
    with pytest.raises(ExecutionFailed):
        await caller.result(20)
    (called,) = (await engine.list_children(caller.id)).items
    with pytest.raises(NotRetryable, match="Retry that one"):
        await engine.retry(called.id)
    mend()
    await caller.retry()
    assert await caller.result(20) == {"first": True, "second": True}
    with pytest.raises(UnknownExecution):
        await engine.retry("nobody")


async def test_many_are_retried_by_filter(engine: Durable) -> None:
    handles = [await engine.start(pipeline, {}, tags={"day": 1}) for _ in range(3)]
    for handle in handles:
        await fail(handle)
    mend()
    assert (await engine.retry_many(workflow=pipeline, tags={"day": 1}, dry_run=True)).matched == 3
    assert (await engine.retry_many(workflow=pipeline, tags={"day": 1})).changed == 3
    for handle in handles:
        await handle.result(20)
