"""What a body does with a cancellation, in a real worker: its own, and one that it swallows."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from durable import Durable, ExecutionFailed, Workflow, seconds


async def test_a_body_that_cancels_itself_fails_instead_of_running_for_ever(database: str) -> None:
    workflow: Workflow[None, None] = Workflow("selfish")
    calls: list[int] = []

    @workflow.step
    async def selfish() -> None:
        calls.append(1)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with Durable(database, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, None)
        with pytest.raises(ExecutionFailed, match="StepAborted"):
            await handle.result(timeout=30)
    assert calls == [1]


async def test_a_base_exception_in_a_body_fails_the_step_and_not_the_worker(database: str) -> None:
    class Stop(BaseException):
        pass

    workflow: Workflow[None, None] = Workflow("stopping")

    @workflow.step
    async def stop() -> None:
        raise Stop

    async with Durable(database, workflows=[workflow]) as engine:
        for _ in range(2):
            handle = await engine.start(workflow, None)
            with pytest.raises(ExecutionFailed, match="Stop"):
                await handle.result(timeout=30)


async def test_a_body_that_swallows_the_deadline_does_not_outlive_it(database: str) -> None:
    workflow: Workflow[None, None] = Workflow("deaf", timeout=seconds(0.5))
    later: list[int] = []

    @workflow.step
    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    @workflow.step
    async def after() -> None:
        later.append(1)

    async with Durable(database, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, None)
        with pytest.raises(ExecutionFailed, match="DeadlineExceeded"):
            await handle.result(timeout=30)
    assert not later
