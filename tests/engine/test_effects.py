"""What effects must not do to their body, and a body to its effects, where a crash harness does not look."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import durable
from durable import Retry, UsageError, Workflow, days, hours, seconds
from durable.engine.journal import Blocked, Completed
from durable.errors import ClaimLost, Interruption
from durable.testing import MemoryJournal, run
from tests.engine.test_strands import Guarded, go_on, paths

Flow = Workflow[Any, Any]


def flow(body: Any, **options: Any) -> Flow:
    workflow: Flow = Workflow("flow")
    workflow.step(name="body", **options)(body)
    return workflow


async def once() -> int:
    return 1


async def test_a_body_that_only_waits_lets_go_for_as_long_as_it_is_to_wait() -> None:
    async def body() -> None:
        await durable.sleep(hours(2))

    outcome = await go_on(flow(body), MemoryJournal())
    assert isinstance(outcome, Blocked)
    assert outcome.delay == pytest.approx(7200, abs=1)


async def test_the_wait_that_ends_first_wakes_the_execution() -> None:
    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both")
    for name, count in (("a", 5), ("b", 3)):

        async def body(data: Any, count: int = count) -> None:
            await asyncio.gather(durable.sleep(hours(count), key="x"), durable.sleep(hours(count + 1), key="y"))

        both.step(name=name)(body)
    outcome = await go_on(workflow, MemoryJournal())
    assert isinstance(outcome, Blocked)
    assert outcome.delay == pytest.approx(3 * 3600, abs=1)


async def test_a_failure_beside_a_long_sleep_is_not_put_off_until_the_sleep_is_over() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("now")

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(durable.sleep(days(30)))
            group.create_task(asyncio.wait_for(asyncio.gather(fail()), 10))

    ended = await run(flow(body), {})
    assert ended.seconds < 60
    assert ended.failure is not None


@pytest.mark.parametrize("swallowing", [False, True])
async def test_a_lost_claim_ends_a_body_that_catches_every_exception(swallowing: bool) -> None:
    went_on: list[str] = []

    async def body() -> None:
        for _ in range(2):
            try:
                await durable.run(once)
            except Exception as error:
                went_on.append(repr(error))
            except BaseException:
                if not swallowing:
                    raise
        went_on.append("to the end")

    journal = Guarded()
    journal.lost = "body"
    with pytest.raises(ClaimLost):
        await go_on(flow(body), journal)
    assert went_on == (["to the end"] if swallowing else [])
    assert paths(journal) == []


async def test_a_draining_worker_begins_no_call_and_its_body_hears_of_no_error() -> None:
    heard: list[BaseException] = []
    journal = Guarded()

    async def drain() -> None:
        journal.draining = True

    async def body() -> None:
        try:
            await durable.run(drain)
            await durable.run(once)
        except Exception as error:
            heard.append(error)

    with pytest.raises(Interruption, match="drains"):
        await go_on(flow(body), journal)
    assert heard == []
    assert [record.kind for record in journal.records] == ["ran"]


async def test_what_a_body_has_left_behind_records_nothing_when_it_is_over() -> None:
    left: list[asyncio.Task[Any]] = []
    refused: list[BaseException] = []
    go = asyncio.Event()

    async def late() -> int:
        await go.wait()
        return 1

    async def straggler() -> None:
        try:
            await durable.run(late)
        except asyncio.CancelledError as error:
            refused.append(error)
        try:
            await durable.run(once)
        except UsageError as error:
            refused.append(error)

    async def body() -> None:
        left.append(asyncio.create_task(straggler()))
        await asyncio.sleep(0)

    journal = MemoryJournal()
    outcome = await go_on(flow(body), journal)
    assert isinstance(outcome, Completed)
    go.set()
    await asyncio.wait(left)
    assert [type(error) for error in refused] == [asyncio.CancelledError, UsageError]
    assert journal.records == []


async def test_a_plain_function_that_is_cancelled_is_waited_for() -> None:
    go, began, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        go.wait(30)
        ended.set()

    async def body() -> None:
        await durable.run(slow)

    journal = MemoryJournal()
    task = asyncio.create_task(go_on(flow(body), journal))
    await asyncio.to_thread(began.wait, 30)
    journal.stop()
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, go.set)
    await asyncio.wait({task})
    assert ended.is_set(), "else it would overlap its own next call"


async def test_a_body_is_not_suspended_while_a_call_of_its_own_is_under_way() -> None:
    async def slow() -> str:
        for _ in range(100):
            await asyncio.sleep(0)
        return "done"

    bodies = 0

    async def body() -> Any:
        nonlocal bodies
        bodies += 1
        called, _ = await asyncio.gather(durable.run(slow), durable.sleep(hours(1)))
        return called

    ended = await run(flow(body), {})
    assert ended.result == "done"
    kinds = [record.kind for record in ended.records]
    assert kinds.count("ran") == 1


async def test_a_body_with_too_many_effects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.engine.effects.EFFECTS_MAX", 3)

    async def body() -> None:
        for _ in range(4):
            await durable.run(once)

    ended = await run(flow(body, retry=Retry(3, delay=seconds(0))), {})
    assert ended.failure is not None
    assert "more than 3 effects" in ended.failure.message
    assert ended.calls["body"] == 1
