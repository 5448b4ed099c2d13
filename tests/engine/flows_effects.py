"""Workflows whose bodies sleep and make calls once, and how each must end, with and without crashes."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import durable
from durable import NonRetryable, Retry, RunFailed, Workflow, context, days, hours, minutes, seconds
from tests.engine.cases import case, silent

Flow = Workflow[Any, Any]


async def add(a: int, b: int) -> int:
    return a + b


def plain(data: str) -> str:
    return data.upper()


async def fail_once_recorded() -> str:
    raise ValueError("never")


# --- Sleeping ---------------------------------------------------------------------------------------------------


@case(1, result=2)
def a_long_sleep(w: Flow) -> None:
    @w.step
    async def nap(data: int) -> int:
        await durable.sleep(days(3))
        return data + 1


@case(1, result=2)
def a_short_sleep(w: Flow) -> None:
    @w.step
    async def nap(data: int) -> int:
        await durable.sleep(seconds(0.01))
        return data + 1


@case(1, result=2)
def several_sleeps_in_one_body(w: Flow) -> None:
    @w.step
    async def nap(data: int) -> int:
        for _ in range(4):
            await durable.sleep(hours(1))
        return data + 1


@case(1, result=2)
def a_sleep_until_an_instant_that_moves_with_each_run(w: Flow) -> None:
    @w.step
    async def nap(data: int) -> int:
        await durable.schedule_at(datetime.now(UTC) + timedelta(hours=1))
        return data + 1


@case(1, result=2)
def an_instant_that_has_passed(w: Flow) -> None:
    @w.step
    async def nap(data: int) -> int:
        await durable.schedule_at(datetime(2020, 1, 1, tzinfo=UTC))
        return data + 1


@case(1, result=2, values={"nap": None, "after": 2})
def a_sleep_between_steps(w: Flow) -> None:
    @w.step
    async def nap() -> None:
        await durable.sleep(minutes(5))

    @w.step
    async def after(data: int) -> int:
        return data + 1


@case(1, result=3)
def a_sleep_before_a_failed_attempt(w: Flow) -> None:
    @w.step(retry=Retry(3, delay=hours(1)))
    async def nap(data: int) -> int:
        await durable.sleep(hours(1))
        if context().attempt < 3:
            raise ValueError("not yet")
        return data + 2


@case({}, result={"both": ["a", "b"]})
def sleeps_at_the_same_time_in_one_body(w: Flow) -> None:
    @w.step
    async def nap() -> Any:
        async def one(name: str, hour: int) -> str:
            await durable.sleep(hours(hour), key=name)
            return name

        return {"both": await asyncio.gather(one("a", 2), one("b", 1))}


@case({}, error="durable.errors.AmbiguousEffect")
def sleeps_at_the_same_time_without_keys(w: Flow) -> None:
    @w.step
    async def nap() -> Any:
        await asyncio.gather(durable.sleep(hours(2)), durable.sleep(hours(1)))


@case({}, result={"swallowed": "yes"})
def a_gather_that_returns_exceptions_does_not_swallow_a_suspension(w: Flow) -> None:
    @w.step
    async def nap() -> Any:
        found = await asyncio.gather(durable.sleep(hours(2)), return_exceptions=True)
        assert found == [None], found
        return {"swallowed": "yes"}


@case({}, result={"slept": True})
def a_body_that_swallows_its_cancellation_is_not_believed(w: Flow) -> None:
    @w.step
    async def nap() -> Any:
        try:
            await durable.sleep(hours(2))
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):
                await durable.sleep(hours(2))
            return {"slept": False}
        return {"slept": True}


@case({}, result={"closed": ["x"]})
def a_task_group_in_a_body_that_sleeps(w: Flow) -> None:
    @w.step
    async def nap() -> Any:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(durable.run(add, 1, 2))
            group.create_task(durable.sleep(hours(3)))
        assert first.result() == 3
        return {"closed": ["x"]}


# --- In arms, items, loops, compensations -------------------------------------------------------------------------


@case({}, result={"slow": 1, "fast": 1})
def an_arm_that_sleeps_beside_one_that_does_not(w: Flow) -> None:
    both = w.parallel("both")

    @both.step
    async def slow(data: Any) -> Any:
        await durable.sleep(hours(1))
        return {**data, "slow": 1}

    @both.step
    async def fast(data: Any) -> Any:
        return {**data, "fast": 1}


@case({}, result={"a": 1, "b": 1, "c": 2})
def arms_that_sleep_and_a_step_after_them(w: Flow) -> None:
    both = w.parallel("both")
    for name, count in (("a", 2), ("b", 1)):

        async def body(data: Any, name: str = name, count: int = count) -> Any:
            await durable.sleep(hours(count))
            return {**data, name: 1}

        arm = both.arm(f"arm_{name}")
        arm.step(name=name)(body)

    @w.step
    async def after(data: Any) -> Any:
        return {**data, "c": data["a"] + data["b"]}


@case([3, 1, 2], result=[4, 2, 3])
def items_that_sleep(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: data, concurrency=2, into=lambda _, results: results.ok)

    @each.step
    async def nap(_: Any, item: int) -> int:
        await durable.sleep(hours(item))
        return await durable.run(add, item, 1)


@case(0, result=3)
def a_loop_that_sleeps(w: Flow) -> None:
    rounds = w.loop("rounds", until=lambda n: n == 3, max_iterations=5)

    @rounds.step
    async def nap(data: int) -> int:
        await durable.sleep(hours(1))
        return await durable.run(add, data, 1)


async def undo_slowly(data: Any) -> None:
    await durable.sleep(hours(1))
    await durable.run(add, 1, 1)


@case({}, status="compensated", error="builtins.ValueError", undone=["b/undo_slowly", "a/undo_slowly"])
def compensations_that_sleep(w: Flow) -> None:
    w.step(compensate=undo_slowly, name="a")(silent)
    w.step(compensate=undo_slowly, name="b")(silent)

    @w.step
    async def fail() -> None:
        await durable.sleep(hours(1))
        raise ValueError("no")


@case({}, error="builtins.ValueError")
def a_failing_arm_ends_one_that_sleeps(w: Flow) -> None:
    both = w.parallel("both")

    @both.step
    async def sleeper() -> None:
        await durable.sleep(days(365))

    @both.step
    async def fail() -> None:
        await durable.sleep(hours(1))
        raise ValueError("no")


# --- Calls that are made once ------------------------------------------------------------------------------------


@case({}, result={"sum": 10, "text": "ABC"})
def calls_and_a_sleep(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        first = await durable.run(add, 1, 2)
        await durable.sleep(hours(1))
        text = await durable.run(plain, "abc")
        second = await durable.run(add, first, 7)
        return {"sum": second, "text": text}


@case({}, result=[0, 1, 4, 9])
def equal_calls_at_the_same_time(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        async def square(n: int) -> int:
            return await durable.run(add, n * n, 0, name="square")

        values = await asyncio.gather(*(square(n) for n in range(4)))
        again = await asyncio.gather(*(square(0) for _ in range(3)))
        assert again == [0, 0, 0]
        return values


async def slowly(turns: int) -> int:
    for _ in range(turns):
        await asyncio.sleep(0)
    return turns


@case({}, result=[2, 2])
def equal_calls_of_tasks_that_come_to_them_after_others(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        async def one(turns: int) -> int:
            await durable.run(slowly, turns)
            return await durable.run(add, 1, 1)

        return await asyncio.gather(one(9), one(1))


@case({}, result=[[2, 2], [2, 2], 2])
def equal_calls_of_tasks_that_begin_with_them_in_several_rounds(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        rounds = [await asyncio.gather(*(durable.run(add, 1, 1) for _ in range(2))) for _ in range(2)]
        return [*rounds, await durable.run(add, 1, 1)]


@case({}, result=[4, 2])
def each_call_has_an_idempotency_key_of_its_own(w: Flow) -> None:
    async def key(_: int) -> str:
        return context().idempotency_key

    def key_in_a_thread(_: int) -> str:
        return context().idempotency_key

    @w.step
    async def work() -> Any:
        keys = [await durable.run(key, 1), await durable.run(key, 1), await durable.run(key, 2)]
        keys.append(await durable.run(key_in_a_thread, 1))
        own = context().idempotency_key
        assert all(found.startswith(f"{own}:run:") for found in keys)
        return [len(set(keys)), len({own, *keys[:1]})]


async def declined() -> None:
    raise NonRetryable("the card was declined")


@case({}, error="durable.errors.RunRefused", message="the card was declined")
def a_call_that_is_not_to_be_made_again(w: Flow) -> None:
    @w.step(retry=Retry(5, delay=hours(1)))
    async def work() -> Any:
        assert context().attempt == 1
        await durable.run(declined)


@case({}, result="sent by post")
def a_body_that_goes_on_after_a_call_that_is_not_to_be_made_again(w: Flow) -> None:
    @w.step(retry=Retry(5, delay=hours(1)))
    async def work() -> Any:
        try:
            await durable.run(declined)
        except RunFailed:
            await durable.sleep(hours(1))
            return "sent by post"


@case({}, result={"tries": "builtins.ValueError"})
def a_call_that_fails_for_good(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        try:
            await durable.run(fail_once_recorded, retry=Retry(3, delay=hours(1)))
        except RunFailed as error:
            return {"tries": error.failure.type}


@case({}, error="durable.errors.RunFailed")
def a_call_that_fails_in_each_attempt(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def work() -> Any:
        await durable.run(fail_once_recorded, retry=Retry(2, delay=seconds(0)))


@case({}, result="ok")
def a_call_that_fails_in_one_attempt_is_made_anew_in_the_next(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def work() -> Any:
        attempt = context().attempt

        async def flaky() -> str:
            if attempt == 1:
                raise ValueError("not yet")
            return "ok"

        return await durable.run(flaky)


@case({}, result={"kept": 3})
def a_call_keeps_its_answer_in_the_next_attempt(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def work() -> Any:
        attempt = context().attempt

        async def of_attempt() -> int:
            return attempt + 2

        kept = await durable.run(of_attempt)
        if attempt == 1:
            raise ValueError("not yet")
        return {"kept": kept}


@case({}, error="durable.errors.NonRetryable")
def a_call_with_an_argument_that_cannot_be_stored(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        await durable.run(add, object(), 1)


@case({}, error="builtins.ValueError", message="at once")
def a_failure_beside_a_long_sleep_ends_the_body_at_once(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        async def fail() -> None:
            raise ValueError("at once")

        await asyncio.gather(durable.sleep(days(30)), asyncio.gather(asyncio.gather(fail())))


@case({}, result={"slept": 2})
def one_of_two_sleeps_ends_while_a_sibling_is_busy(w: Flow) -> None:
    both = w.parallel("both", merge="deep")

    @both.step
    async def sleeper(data: Any) -> Any:
        await asyncio.gather(durable.sleep(hours(1), key="a"), durable.sleep(days(30), key="b"))
        return {**data, "slept": 2}

    @both.step
    async def busy() -> None:
        for _ in range(200):
            await asyncio.sleep(0)


@case({}, error="builtins.ValueError")
def a_failing_arm_ends_one_that_sleeps_under_a_timeout(w: Flow) -> None:
    both = w.parallel("both")

    @both.step(timeout=seconds(20))
    async def sleeper() -> None:
        await durable.sleep(days(365))

    @both.step
    async def fail() -> None:
        for _ in range(60):
            await asyncio.sleep(0)
        raise ValueError("no")


@case({}, result={"caught": None})
def a_body_that_catches_everything(w: Flow) -> None:
    @w.step
    async def work() -> Any:
        caught = None
        try:
            await durable.sleep(hours(1))
            await durable.run(add, 1, 2)
        except Exception as error:  # what is no doing of the author's must not come by here
            caught = str(error)
        return {"caught": caught}
