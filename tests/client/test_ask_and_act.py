from __future__ import annotations

import asyncio

import pytest

from durable import (
    Durable,
    Execution,
    ExecutionCancelled,
    ExecutionFailed,
    Status,
    UnknownExecution,
    UsageError,
    seconds,
)
from tests.client import flows


async def test_a_failed_execution_tells_its_error(engine: Durable) -> None:
    handle = await engine.start(flows.failing, {"what": "luck"}, id="unlucky")
    with pytest.raises(ExecutionFailed, match="no luck") as caught:
        await handle.result(timeout=30)
    assert caught.value.failure.type == "builtins.ValueError"
    execution = await engine.get_execution("unlucky", include_steps=True)
    assert execution.status is Status.FAILED
    assert execution.error is not None
    assert "break_down" in execution.error.traceback
    assert "durable/engine" not in execution.error.traceback
    assert execution.steps is not None
    assert [(step.path, step.status) for step in execution.steps] == [("break_down", "failed")]


async def test_a_result_that_does_not_come_in_time_is_a_timeout_and_changes_nothing(engine: Durable) -> None:
    handle = await engine.start(flows.holding, {})
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.05)
    assert await handle.status() is Status.RUNNING
    assert await handle.cancel()


async def test_many_may_wait_for_one_result_and_one_may_stop(engine: Durable, database: str) -> None:
    async with Durable(database, workflows=[flows], worker=False) as client:
        handle = await client.start(flows.double, 3, delay=seconds(0.3))
        waiting = [asyncio.create_task(handle.result(timeout=30)) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await asyncio.gather(*waiting[1:]) == [6] * 4


async def test_a_result_can_be_asked_for_long_after_the_end(engine: Durable, database: str) -> None:
    await (await engine.start(flows.double, 3, id="long ago")).result(timeout=30)
    async with Durable(database, workflows=[flows], worker=False) as client:
        assert await client.handle("long ago", flows.double).result(timeout=30) == 6


async def test_cancelling_stops_the_running_body(engine: Durable) -> None:
    handle = await engine.start(flows.holding, {}, id="held")
    await asyncio.wait_for(flows.held.setdefault("held", asyncio.Event()).wait(), 30)
    assert await handle.cancel("changed our mind")
    with pytest.raises(ExecutionCancelled, match="changed our mind"):
        await handle.result(timeout=30)
    while "held" not in flows.cancelled:  # noqa: ASYNC110 - the body is cancelled a moment after the call returns
        await asyncio.sleep(0.01)
    assert not await handle.cancel("again")
    execution = await engine.get_execution("held")
    assert (execution.status, execution.reason) == (Status.CANCELLED, "changed our mind")


async def test_cancelling_what_has_not_begun_keeps_it_from_beginning(engine: Durable) -> None:
    handle = await engine.start(flows.double, 1, delay=seconds(3600))
    assert await handle.cancel()
    with pytest.raises(ExecutionCancelled):
        await handle.result(timeout=30)


async def test_unknown_executions_are_told(engine: Durable) -> None:
    for ask in (
        engine.get_execution("nobody"),
        engine.cancel("nobody"),
        engine.handle("nobody").result(timeout=30),
    ):
        with pytest.raises(UnknownExecution):
            await ask


async def everything(engine: Durable, **filters: object) -> list[Execution]:
    found: list[Execution] = []
    cursor: str | None = None
    while True:
        page = await engine.list_executions(limit=3, cursor=cursor, **filters)  # type: ignore[arg-type]
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


async def test_lists_are_newest_first_in_pages_without_gaps_or_repeats(engine: Durable) -> None:
    done = [await engine.start(flows.double, n, id=f"done {n}", tags={"n": n % 2}) for n in range(4)]
    for handle in done:
        await handle.result(timeout=30)
    later = [await engine.start(flows.double, n, id=f"later {n}", delay=seconds(3600)) for n in range(3)]
    running = await engine.start(flows.holding, {}, id="running")
    await asyncio.wait_for(flows.held.setdefault("running", asyncio.Event()).wait(), 30)

    newest_first = ["running", *(h.id for h in reversed(later)), *(h.id for h in reversed(done))]
    assert [e.id for e in await everything(engine)] == newest_first
    assert [e.id for e in await everything(engine, workflow=flows.holding)] == ["running"]
    assert [e.id for e in await everything(engine, status="pending")] == [h.id for h in reversed(later)]
    assert [e.id for e in await everything(engine, status=["completed", "running"])] == [
        "running",
        *(h.id for h in reversed(done)),
    ]
    assert [e.id for e in await everything(engine, tags={"n": 1})] == ["done 3", "done 1"]
    assert await everything(engine, tags={"n": 1}, status="failed") == []
    await running.cancel()


async def test_wrong_questions_are_refused(engine: Durable) -> None:
    with pytest.raises(UsageError, match="limit"):
        await engine.list_executions(limit=0)
    with pytest.raises(UsageError, match="The statuses are"):
        await engine.list_executions(status="done")
    with pytest.raises(UsageError, match="cursor"):
        await engine.list_executions(cursor="nonsense")
