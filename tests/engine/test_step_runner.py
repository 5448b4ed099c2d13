"""One attempt of one step: where it runs, what it knows, how it is stopped."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from durable import Context, JsonCodec, NonRetryable, Retry, StepTimeout, UsageError, Workflow, context, seconds
from durable.engine.step_runner import Reply, StepRunner
from durable.model.definition import Step
from durable.testing import run
from tests.engine.bodies import dies_at_first, fails, says_its_pid_and_hangs, where_am_i

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
async def runner() -> AsyncIterator[StepRunner]:
    runner = StepRunner(JsonCodec(), threads=1, processes=1)
    yield runner
    runner.close()


def step_of(function: Any, **options: Any) -> Step:
    workflow: Workflow[Any, Any] = Workflow("one")
    workflow.step(**options)(function)
    (step,) = workflow.definition.body
    assert isinstance(step, Step)
    return step


def here(path: str = "step") -> Context:
    return Context("execution", "one", {"tenant": "acme"}, path, 1, 3, None)


# --- On the loop -----------------------------------------------------------------------------------------------


async def test_the_body_runs_in_the_task_that_asks_for_it(runner: StepRunner) -> None:
    tasks: list[Any] = []

    async def body() -> None:
        tasks.append(asyncio.current_task())

    assert await runner.attempt(step_of(body), "null", here()) == Reply(None)
    assert tasks == [asyncio.current_task()]


async def test_context_is_known_inside_a_step_and_not_outside(runner: StepRunner) -> None:
    mine = here()

    async def body() -> None:
        assert context() is mine
        assert await asyncio.create_task(child()) is mine

    async def child() -> Context:
        return context()

    await runner.attempt(step_of(body), "null", mine)
    with pytest.raises(UsageError):
        context()


async def test_a_timeout_cancels_the_body_and_says_so_in_its_context(runner: StepRunner) -> None:
    mine, seen = here(), list[str]()

    async def body() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(StepTimeout, match=r"'body' ran longer than its timeout of 0:00:00\.01"):
        await runner.attempt(step_of(body, timeout=seconds(0.01)), "null", mine)
    assert seen == ["cancelled"]
    assert mine.cancelled


async def test_a_cancellation_from_outside_during_a_timed_step_is_no_timeout(runner: StepRunner) -> None:
    running, mine = asyncio.Event(), here()

    async def body() -> None:
        running.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(runner.attempt(step_of(body, timeout=seconds(60)), "null", mine))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mine.cancelled


async def test_data_that_does_not_fit_is_refused_before_the_body_runs(runner: StepRunner) -> None:
    called: list[int] = []

    async def body(data: list[int]) -> None:
        called.append(1)

    with pytest.raises(NonRetryable, match=r"step 'body' takes: \$\[1\]: expected int, got str"):
        await runner.attempt(step_of(body), '[1, "x"]', here())
    assert not called


# --- In a thread -----------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_with_the_callers_context_variables(runner: StepRunner) -> None:
    mine = here()

    def body() -> list[Any]:
        COLOUR.set(COLOUR.get() + "?")
        assert context() is mine
        return [COLOUR.get(), threading.current_thread() is threading.main_thread()]

    COLOUR.set("red")
    assert await runner.attempt(step_of(body), "null", mine) == Reply('["red?",false]')
    assert COLOUR.get() == "red"


def stubborn(struck: threading.Event, release: threading.Event) -> Any:
    """A body that sees its cancellation, says so, and does not return until it may."""

    def body() -> str:
        while not context().cancelled:
            time.sleep(0.001)
        struck.set()
        assert release.wait(60)
        return "too late"

    return body


async def in_time(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 60)


async def test_a_thread_step_keeps_its_slot_until_the_thread_returns(runner: StepRunner) -> None:
    struck, release, mine = threading.Event(), threading.Event(), here("first")
    began: list[str] = []

    def second() -> None:
        began.append("second")

    first = step_of(stubborn(struck, release), timeout=seconds(0.01))
    attempt = asyncio.create_task(runner.attempt(first, "null", mine))
    await in_time(struck)
    other = asyncio.create_task(runner.attempt(step_of(second), "null", here("second")))
    await asyncio.sleep(0.05)
    assert mine.cancelled
    assert not attempt.done()
    assert not began
    release.set()
    with pytest.raises(StepTimeout):
        await attempt
    await other
    assert began == ["second"]


async def test_a_thread_step_outlasts_cancellations_and_its_result_is_not_thrown_away(runner: StepRunner) -> None:
    struck, release = threading.Event(), threading.Event()
    attempt = asyncio.create_task(runner.attempt(step_of(stubborn(struck, release)), "null", here()))
    await asyncio.sleep(0)
    for _ in range(3):
        attempt.cancel()
        await asyncio.sleep(0.01)
    await in_time(struck)
    assert not attempt.done()
    release.set()
    assert await attempt == Reply('"too late"')


async def test_waiting_for_a_thread_is_not_the_time_of_the_step(runner: StepRunner) -> None:
    release = threading.Event()

    def holder() -> None:
        assert release.wait(60)

    def quick() -> int:
        return 1

    holding = asyncio.create_task(runner.attempt(step_of(holder), "null", here()))
    waiting = asyncio.create_task(runner.attempt(step_of(quick, timeout=seconds(0.5)), "null", here()))
    await asyncio.wait({waiting}, timeout=0.6)
    release.set()
    await holding
    assert await waiting == Reply("1")


async def test_a_step_that_is_cancelled_before_its_thread_began_never_runs(runner: StepRunner) -> None:
    release, called = threading.Event(), list[int]()

    def holder() -> None:
        assert release.wait(60)

    def body() -> None:
        called.append(1)

    holding = asyncio.create_task(runner.attempt(step_of(holder), "null", here()))
    waiting = asyncio.create_task(runner.attempt(step_of(body), "null", here()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await holding
    assert not called


async def test_an_error_that_comes_after_the_cancellation_makes_no_noise(runner: StepRunner) -> None:
    noise: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: noise.append(about))

    def body() -> None:
        while not context().cancelled:
            time.sleep(0.001)
        raise ValueError("stopped half-way")

    with pytest.raises(StepTimeout):
        await runner.attempt(step_of(body, timeout=seconds(0.01)), "null", here())
    gc.collect()
    await asyncio.sleep(0)
    assert noise == []


# --- In a worker process ---------------------------------------------------------------------------------------


async def test_a_process_step_runs_in_another_process_and_knows_its_context(runner: StepRunner) -> None:
    reply = await runner.attempt(step_of(where_am_i, process=True), '{"n":1}', here())
    assert reply.value is not None
    found = JsonCodec().decode(reply.value)
    assert found.pop("pid") != os.getpid()
    assert found == {"n": 1, "key": "execution:step", "tags": {"tenant": "acme"}, "engine": None}


async def test_a_process_step_is_killed_at_its_timeout(runner: StepRunner, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    # The time of starting a process is the step's: enough of it, on a busy machine.
    step = step_of(says_its_pid_and_hangs, process=True, timeout=seconds(5))
    with pytest.raises(StepTimeout):
        await runner.attempt(step, JsonCodec().encode(str(file)), here())
    pid = int(file.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_death_of_a_worker_process_is_a_failed_attempt() -> None:
    workflow: Workflow[int, int] = Workflow("fragile")
    workflow.step(process=True, retry=Retry(2, delay=seconds(0)))(dies_at_first)
    ended = await run(workflow, 1)
    assert ended.result == 2
    assert [(record.kind, record.attempt) for record in ended.records] == [("failed", 1), ("completed", 2)]
    assert "BrokenWorkerProcess" in (ended.records[0].error or "")


async def test_an_error_in_a_worker_process_keeps_its_type_and_its_traceback() -> None:
    workflow: Workflow[str, None] = Workflow("failing")
    workflow.step(process=True)(fails)
    failure = (await run(workflow, "gone")).failure
    assert failure is not None
    assert failure.type == "builtins.KeyError"
    assert "raise KeyError(data)" in failure.traceback


async def test_an_error_that_pickle_cannot_carry_is_still_told() -> None:
    workflow: Workflow[str, None] = Workflow("failing")
    workflow.step(process=True)(fails)
    failure = (await run(workflow, "awkward")).failure
    assert failure is not None
    assert "AwkwardError: 7: no more" in failure.message
    assert "raise AwkwardError(7" in failure.traceback
