"""Bodies that sleep and make calls once, on a real engine: what they hold, when they wake, and what is not done again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    Durable,
    ExecutionCancelled,
    ExecutionFailed,
    Retry,
    Status,
    UsageError,
    Workflow,
    days,
    hours,
    seconds,
)
from tests.support.invariants import assert_invariants

GUARD = 30
Data = dict[str, Any]


@pytest.fixture
async def checked(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


def flow(body: Any, **options: Any) -> Workflow[Any, Any]:
    """A workflow of one step."""
    workflow = Workflow[Any, Any]("flow")
    workflow.step(name="body", **options)(body)
    return workflow


async def until(engine: Durable, id: str, status: Status) -> None:
    async with asyncio.timeout(GUARD):
        while (await engine.get_execution(id)).status is not status:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_sleeping_execution_holds_no_slot_and_wakes_by_itself_and_not_early(checked: str) -> None:
    began, runs = 0.0, 0
    now = asyncio.get_running_loop().time

    async def nap(data: int) -> float:
        nonlocal began, runs
        runs += 1
        began = began or now()
        await durable.sleep(seconds(0.8))
        return now() - began

    async def quick(data: int) -> str:
        return "done"

    sleeper, other = flow(nap), Workflow[Any, Any]("other")
    other.step(quick)
    async with Durable(checked, workflows=[sleeper, other], queues={"default": 1}) as engine:
        handle = await engine.start(sleeper, 1)
        await until(engine, handle.id, Status.WAITING)
        assert await (await engine.start(other, 1)).result(GUARD) == "done"
        assert await handle.status() is Status.WAITING
        assert await handle.result(GUARD) >= 0.8
    assert runs == 2, "once to begin, once to go on"


async def test_what_was_called_once_is_not_called_again_by_the_worker_that_goes_on(checked: str) -> None:
    calls: list[int] = []

    async def charge(amount: int) -> str:
        calls.append(amount)
        return f"charge of {amount}"

    async def body(data: int) -> list[str]:
        first = await durable.run(charge, data)
        await durable.sleep(seconds(0.6))
        return [first, *await asyncio.gather(durable.run(charge, data + 1), durable.run(charge, data + 2))]

    workflow = flow(body)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, handle.id, Status.WAITING)
    async with Durable(checked, workflows=[workflow]) as engine:
        result = await engine.handle("x", workflow).result(GUARD)
        assert result == ["charge of 1", "charge of 2", "charge of 3"]
        assert sorted(calls) == [1, 2, 3]
        steps = (await engine.get_execution("x", include_steps=True)).steps
    assert steps is not None
    assert [len(step.attempts) for step in steps] == [1], "a wake-up is not an attempt"
    assert [effect.kind for effect in steps[0].effects] == ["ran", "waiting", "ran", "ran"]
    assert steps[0].effects[0].result == "charge of 1"
    slept = steps[0].effects[1]
    assert slept.until is not None
    assert slept.until - slept.recorded_at == timedelta(seconds=0.6)


async def test_a_call_that_fails_is_tried_again_without_holding_the_slot(checked: str) -> None:
    tries = 0

    async def flaky() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("not yet")
        return "there"

    async def body(data: int) -> str:
        return await durable.run(flaky, retry=Retry(3, backoff="constant", delay=seconds(0.4)))

    workflow = flow(body)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        await until(engine, handle.id, Status.WAITING)
        assert await handle.result(GUARD) == "there"
        steps = (await engine.get_execution(handle.id, include_steps=True)).steps
    assert steps is not None
    assert [effect.kind for effect in steps[0].effects] == ["tried", "tried", "ran"]
    assert [attempt.status for attempt in steps[0].attempts] == ["completed"]


async def test_the_clock_of_the_database_decides_when_an_instant_has_come(checked: str) -> None:
    connection = await asyncpg.connect(checked)
    await connection.execute(
        "create or replace function durable.clock() returns timestamptz language sql stable as "
        "$$select statement_timestamp() + interval '1 day'$$"
    )
    await connection.close()

    async def body(data: int) -> str:
        await durable.schedule_at(datetime.now(UTC) + timedelta(hours=23))
        return "it is tomorrow there"

    workflow = flow(body)
    async with Durable(checked, workflows=[workflow]) as engine:
        assert await (await engine.start(workflow, 1)).result(GUARD) == "it is tomorrow there"


async def test_an_instant_is_what_it_was_when_it_was_given_first(checked: str) -> None:
    async def body(data: int) -> str:
        await durable.schedule_at(datetime.now(UTC) + timedelta(seconds=0.6))  # another one each time
        return "reached"

    workflow = flow(body)
    async with Durable(checked, workflows=[workflow]) as engine:
        assert await (await engine.start(workflow, 1)).result(GUARD) == "reached"


async def test_a_steps_timeout_does_not_count_its_sleeps(checked: str) -> None:
    # The sibling is busy, so that the sleep is slept in place.
    async def sleeper(data: Data) -> Data:
        await durable.sleep(seconds(0.9))
        return {"slept": True}

    async def busy(data: Data) -> Data:
        await asyncio.sleep(1.2)
        return {"busy": True}

    workflow = Workflow[Data, Data]("flow")
    both = workflow.parallel("both", merge="collect")
    both.step(timeout=seconds(0.5))(sleeper)
    both.step(busy)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, {})
        assert await handle.result(GUARD) == {"sleeper": {"slept": True}, "busy": {"busy": True}}


async def test_a_steps_timeout_counts_what_is_not_slept(checked: str) -> None:
    async def body(data: Data) -> None:
        await durable.sleep(seconds(0.4))
        await asyncio.sleep(GUARD)

    workflow = flow(body, timeout=seconds(0.3))
    async with Durable(checked, workflows=[workflow]) as engine:
        with pytest.raises(ExecutionFailed, match="ran longer than its timeout"):
            await (await engine.start(workflow, {})).result(GUARD)


async def test_an_arm_that_sleeps_does_not_hold_up_its_sibling_and_goes_on_in_place(checked: str) -> None:
    order: list[str] = []

    async def sleeper(data: Data) -> None:
        order.append("sleeper")
        await durable.sleep(seconds(0.4))
        order.append("awake")

    async def busy(data: Data) -> None:
        async with asyncio.timeout(GUARD):
            while "awake" not in order:  # noqa: ASYNC110 - the sibling is to go on while this is busy
                await asyncio.sleep(0.01)
        order.append("busy")

    workflow = Workflow[Data, Data]("flow")
    both = workflow.parallel("both", merge="collect")
    both.step(sleeper)
    both.step(busy)
    async with Durable(checked, workflows=[workflow]) as engine:
        await (await engine.start(workflow, {})).result(GUARD)
    assert order == ["sleeper", "awake", "busy"]


async def test_a_sleep_ends_with_a_cancel_and_with_a_deadline(checked: str) -> None:
    undone: list[Data] = []

    async def undo(data: Data) -> None:
        undone.append(data)

    async def book(data: Data) -> Data:
        return {"booked": True}

    async def nap(data: Data) -> None:
        await durable.sleep(days(365))

    workflow = Workflow[Data, Data]("cancelled")
    workflow.step(compensate=undo)(book)
    workflow.step(nap)
    short = Workflow[Data, Data]("short", timeout=seconds(1.0))
    short.step(nap)
    async with Durable(checked, workflows=[workflow, short]) as engine:
        overdue = await engine.start(short, {})
        plain, compensated = await engine.start_many(workflow, [{}, {}])
        for handle in (plain, compensated):
            await until(engine, handle.id, Status.WAITING)
        assert await plain.cancel("enough")
        with pytest.raises(ExecutionCancelled):
            await plain.result(GUARD)
        assert await compensated.cancel("enough", compensate=True)
        with pytest.raises(ExecutionFailed) as caught:
            await compensated.result(GUARD)
        assert caught.value.status == "compensated"
        assert undone == [{"booked": True}]
        with pytest.raises(ExecutionFailed, match="DeadlineExceeded"):
            await overdue.result(GUARD)


async def test_waiting_outside_a_body_is_refused() -> None:
    with pytest.raises(UsageError, match="only in the body of a step"):
        await durable.sleep(hours(1))
    with pytest.raises(UsageError, match="only in the body of a step"):
        await durable.run(asyncio.sleep, 0)


async def test_a_body_is_told_what_it_may_not_await(checked: str) -> None:
    refused: list[str] = []

    def in_a_thread(data: Data) -> None:
        try:
            asyncio.run(durable.sleep(hours(1)))
        except UsageError as error:
            refused.append(str(error))
        assert threading.current_thread() is not threading.main_thread()

    async def wrong_types(data: Data) -> None:
        for wrong in (durable.sleep(5), durable.schedule_at(datetime.now()), durable.run(1)):  # type: ignore[arg-type,call-overload]
            try:
                await wrong
            except UsageError as error:
                refused.append(str(error))

    workflow = Workflow[Data, Data]("refused")
    workflow.step(in_a_thread)
    workflow.step(wrong_types)
    async with Durable(checked, workflows=[workflow]) as engine:
        await (await engine.start(workflow, {})).result(GUARD)
    assert len(refused) == 4
    assert "One in a thread cannot wait" in refused[0]
    assert "Give a timedelta" in refused[1]
    assert "time zone" in refused[2]
    assert "has no name" in refused[3]
