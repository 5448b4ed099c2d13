"""Compensations of steps inside of composites, and deadlines, and how each workflow must end."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import ArmResults, Retry, Workflow, hours, seconds
from tests.engine.cases import case, fail_until, fails, hangs, logs, puts, same, silent, undo
from tests.engine.flows_sagas import NO, UNDONE, Flow, tell

# --- In arms and items --------------------------------------------------------------------------------------------


@case(
    {},
    **UNDONE,
    undone=["both/right/d/undo", "both/b/undo"],
    values={"both/b/undo": [{"b": 1}, "no"], "both/right/d/undo": [{"c": 1, "d": 1}, "no"]},
)
def steps_of_arms_are_undone(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="b", compensate=undo)(puts(b=1))
    right = both.arm("right")
    right.step(name="c")(puts(c=1))
    right.step(name="d", compensate=undo)(puts(d=1))
    w.step(name="fail")(fails())


@case(
    {}, error="builtins.ValueError", message="arm", status="compensated", undone=["first/undo"], calls={"both/slow": 1}
)
def a_failing_arm_undoes_what_was_before(w: Flow) -> None:
    w.step(name="first", compensate=undo)(puts(n=1))
    both = w.parallel("both")
    both.step(name="fail")(fails("arm"))

    @both.step(compensate=undo)
    async def slow() -> None:
        await asyncio.Event().wait()


@case({}, error="builtins.ValueError", message="arm", status="compensated")
def what_siblings_of_a_failing_arm_did_or_began_is_undone(w: Flow) -> None:
    # Which of them have come how far is decided by chance.
    both = w.parallel("both")
    fast = both.arm("fast")
    for number in range(3):
        fast.step(name=f"s{number}", compensate=undo)(puts(n=number))
    slow = both.arm("slow")
    slow.step(name="book", compensate=undo)(silent)

    @slow.step(compensate=undo, compensate_on="started")
    async def hang() -> None:
        await asyncio.Event().wait()

    failing = both.arm("failing")
    failing.step(name="first")(silent)
    failing.step(name="book", compensate=undo)(silent)
    failing.step(name="fail")(fails("arm"))


@case({}, **UNDONE, undone=["both/b/undo"], calls={"both/fail": 1, "both/b/undo": 1, "never": 0})
def arms_that_all_finish_are_undone_when_one_failed(w: Flow) -> None:
    both = w.parallel("both", on_error="complete_all")
    both.step(name="fail")(fails())
    both.step(name="b", compensate=undo)(puts(b=1))
    w.step(name="never")(silent)


@case({}, result=["fail"], undone=[])
def a_failure_that_an_into_handles_undoes_nothing(w: Flow) -> None:
    def into(_: Any, results: ArmResults) -> Any:
        return list(results.errors)

    both = w.parallel("both", on_error="complete_all", into=into)
    both.step(name="fail", compensate=undo, compensate_on="started")(fails())
    both.step(name="b", compensate=undo)(puts(b=1))


@case({}, result={}, undone=[])
def a_failing_item_that_is_passed_over_undoes_nothing(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1], on_error="continue")
    each.step(name="book", compensate=undo)(lambda data, item: {"booked": item})
    each.step(name="fail")(fails())


@case(
    {},
    **UNDONE,
    undone=["each[1]/book/undo", "each[0]/book/undo"],
    values={"each[0]/book/undo": [{"booked": 0}, "no"], "each[1]/book/undo": [{"booked": 1}, "no"]},
)
def steps_of_failed_items_are_undone_when_the_execution_fails_later(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1], on_error="continue")
    each.step(name="book", compensate=undo)(lambda data, item: {"booked": item})
    each.step(name="fail")(fails("item"))
    w.step(name="fail")(fails())


@case(
    {},
    error="builtins.ValueError",
    message="item 2",
    status="compensated",
    undone=["each[2]/book/undo", "each[1]/book/undo", "each[0]/book/undo"],
)
def items_one_after_the_other_are_undone(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1, 2, 3])
    each.step(name="book", compensate=undo)(lambda data, item: {"booked": item})

    @each.step
    async def check(data: Any, item: int) -> None:
        if item == 2:
            raise ValueError("item 2")


@case({}, **UNDONE, values={f"each[{n}]/book/undo": [{"booked": n}, "no"] for n in range(7)}, slow=True)
def items_three_at_a_time_are_undone(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(7)), concurrency=3)

    @each.step(compensate=undo)
    async def book(data: Any, item: int) -> Any:
        for _ in range(item % 3):
            await asyncio.sleep(0)
        return {"booked": item}

    w.step(name="fail")(fails())


@case({"n": 0}, **UNDONE, undone=["all/c/each[0]/up[1]/book/undo", "all/c/each[0]/up[0]/book/undo", "first/undo"])
def steps_at_depth_four_are_undone(w: Flow) -> None:
    w.step(name="first", compensate=undo)(silent)
    arm = w.parallel("all").arm("c")
    each = arm.foreach("each", items=lambda: [5], concurrency=2)
    up = each.loop("up", until=lambda data: data["n"] == 2, max_iterations=5)
    up.step(name="book", compensate=undo)(lambda data: {**data, "n": data["n"] + 1})
    arm.step(name="same")(same)
    w.step(name="fail")(fails())


# --- Deadlines ----------------------------------------------------------------------------------------------------


LATE: dict[str, Any] = {"error": "durable.errors.DeadlineExceeded", "message": "did not end within"}


def within(limit: Any) -> Any:
    return lambda name: Workflow(name, timeout=limit, on_failure=tell)


@case(
    [],
    of=within(seconds(0.1)),
    **LATE,
    status="compensated",
    undone=["a/undo"],
    values={"tell": [[], "durable.errors.DeadlineExceeded", 1]},
    by_the_clock=True,
)
def a_deadline_in_a_body_undoes(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))

    @w.step
    async def slow() -> None:
        await asyncio.Event().wait()

    w.step(name="never")(silent)


@case(
    [],
    of=within(hours(5)),
    **LATE,
    status="compensated",
    undone=["flaky/undo", "a/undo"],
    calls={"flaky": 3, "tell": 1},
)
def a_deadline_between_retries_undoes(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    retry = Retry(100, backoff="constant", delay=hours(2), max_delay=hours(9), jitter=0)
    w.step(name="flaky", retry=retry, compensate=undo, compensate_on="started")(fails())


@case(
    {},
    of=within(seconds(0.1)),
    **LATE,
    status="compensated",
    by_the_clock=True,
    values={"both/a/undo": [{"a": 1}, "the execution did not end within its workflow's timeout of 0:00:00.100000"]},
)
def a_deadline_in_arms_and_items_undoes(w: Flow) -> None:
    both = w.parallel("both", on_error="complete_all")
    both.step(name="a", compensate=undo)(puts(a=1))
    both.arm("b").foreach("each", items=lambda: [1, 2, 3], concurrency=2).step(name="hang")(hangs)
    retry = Retry(9, delay=hours(9), max_delay=hours(9))
    both.step(name="c", compensate=undo, compensate_on="started", retry=retry)(fails())
    both.step(name="d", compensate=undo, compensate_on="started")(hangs)


@case(
    [],
    of=within(seconds(0.1)),
    **NO,
    status="compensated",
    undone=["a/slow"],
    values={"a/slow": ["a"], "tell": [[], "builtins.ValueError", 1]},
    by_the_clock=True,
)
def a_deadline_does_not_stop_what_is_being_undone(w: Flow) -> None:
    @w.compensation
    async def slow(data: Any) -> Any:
        await asyncio.sleep(0.2)
        return data

    w.step(name="a", compensate=slow)(logs("a"))
    w.step(name="fail")(fails())


@case(
    [],
    of=within(hours(3)),
    **NO,
    status="compensated",
    undone=["a/flaky"],
    values={"a/flaky": ["a"]},
    calls={"a/flaky": 3},
)
def a_deadline_does_not_stop_the_retries_of_what_is_being_undone(w: Flow) -> None:
    @w.compensation(retry=Retry(3, delay=hours(2), max_delay=hours(9)))
    async def flaky(data: Any) -> Any:
        fail_until(3)
        return data

    w.step(name="a", compensate=flaky)(logs("a"))
    w.step(name="fail")(fails())
