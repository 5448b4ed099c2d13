"""Workflows whose bodies begin others, and how each must end, with and without crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Child, ChildFailed, Retry, Workflow, context, days, hours
from tests.engine.cases import case, silent

Flow = Workflow[Any, Any]

double = Workflow[int, int]("double")


@double.step
async def twice(data: int) -> int:
    return data * 2


failing = Workflow[Any, Any]("failing")


@failing.step
async def fail(data: Any) -> Any:
    raise ValueError(f"no {data}")


slow = Workflow[Any, Any]("slow")


@slow.step
async def sleep(data: Any) -> Any:
    await durable.sleep(hours(5))
    return ["slept", data]


listening = Workflow[Any, Any]("listening")


@listening.step
async def listen(data: Any) -> Any:
    return [data, await durable.wait_for_event("go"), await durable.wait_for_text("why")]


undone = Workflow[Any, Any]("undone")
undone.step(name="book", compensate=silent)(silent)
undone.step(name="fail")(fail)


@case(5, result=11)
def a_child(w: Flow) -> None:
    @w.step
    async def call(data: int) -> int:
        return await durable.call_workflow(double, data) + 1


@case(1, result=[2, 4, 6])
def several_calls_in_one_body(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return [await durable.call_workflow(double, n) for n in (1, 2, 3)]


@case(1, result=[2, 4, 6])
def several_calls_at_the_same_time(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return list(await asyncio.gather(*(durable.call_workflow(double, n, ref=f"n{n}") for n in (1, 2, 3))))


@case(1, error="durable.errors.AmbiguousEffect", by_the_clock=True)
def calls_that_nobody_can_tell_apart(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return await asyncio.gather(*(durable.call_workflow(double, n) for n in (1, 2, 3)))


@case([1, 2, 3], result=[2, 4, 6])
def a_child_for_each_item(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: data, concurrency=2, into=lambda data, results: results.ok)

    @each.step
    async def call(data: Any, item: int) -> int:
        return await durable.call_workflow(double, item)


@case(2, result={"one": 4, "two": ["slept", 2]})
def children_in_arms(w: Flow) -> None:
    both = w.parallel("both", merge="collect")

    @both.step
    async def one(data: int) -> int:
        return await durable.call_workflow(double, data)

    @both.step
    async def two(data: int) -> Any:
        return await durable.call_workflow(slow, data)


@case(1, error="durable.errors.ChildFailed", message="has ended failed: ValueError: no 1")
def a_child_that_fails(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return await durable.call_workflow(failing, data)


@case(1, result=["failed", "ValueError: no 1", "compensated"])
def a_failure_that_is_handled(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        said: list[str] = []
        try:
            await durable.call_workflow(failing, data)
        except ChildFailed as error:
            said += [error.status, str(error.failure)]
        try:
            await durable.call_workflow(undone, data)
        except ChildFailed as error:
            said.append(error.status)
        return said


@case(1, result=[2, 2])
def the_next_attempt_calls_another_one(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def call(data: int) -> Any:
        child = failing if context().attempt == 1 else double
        return [context().attempt, await durable.call_workflow(child, data, ref="it")]


@case(1, result=[2, 2])
def a_result_outlives_the_attempt(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def call(data: int) -> Any:
        result = await durable.call_workflow(double, data)
        if context().attempt == 1:
            raise ValueError("after the answer")
        return [context().attempt, result]


@case(1, result="too late")
def a_child_that_does_not_end_in_time(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return await durable.call_workflow(slow, data, timeout=hours(1), timeout_value="too late")


@case(1, error="durable.errors.WaitTimeout", message='child:"slow"')
def a_child_that_does_not_end_in_time_fails(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return await durable.call_workflow(slow, data, timeout=hours(1))


@case(1, result=["slept", 1])
def a_child_that_sleeps(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return await durable.call_workflow(slow, data, timeout=hours(6))


@case(1, result=[1, "now", "so"], events=[("go", "now")], inputs=[("why", "so")], to_children=True)
def a_child_that_waits_for_others(w: Flow) -> None:
    @w.step
    async def call(data: int) -> Any:
        return await durable.call_workflow(listening, data, timeout=days(1))


@case(1, result=[2, ["slept", 1], ["slept", 1]], by_the_clock=True)
def children_that_are_waited_for_later(w: Flow) -> None:
    @w.step
    async def begin(data: int) -> Any:
        one: Child[int] = await durable.start_workflow(double, data)
        other = await durable.start_workflow(slow, data, ref="slow one")
        first = await one.result()
        again = await other.result()
        return [first, again, await other.result()]


@case(1, result=1)
def a_child_that_nobody_waits_for(w: Flow) -> None:
    @w.step
    async def begin(data: int) -> None:
        await durable.start_workflow(failing, data)
        await durable.start_workflow(double, data)


@case(3, result=12)
def children_of_children(w: Flow) -> None:
    middle = Workflow[int, int]("middle")

    @middle.step
    async def pass_on(data: int) -> int:
        return await durable.call_workflow(double, data)

    @w.step
    async def call(data: int) -> int:
        return await durable.call_workflow(middle, data) * 2


@case(1, status="compensated", error="builtins.ValueError", undone=["book/cancel"])
def a_compensation_calls(w: Flow) -> None:
    async def cancel(data: Any) -> Any:
        return await durable.call_workflow(double, 4)

    w.step(name="book", compensate=cancel)(silent)
    w.step(name="fail")(fail)


@case({"n": 1}, result={"n": 8})
def a_child_in_a_loop(w: Flow) -> None:
    again = w.loop("again", until=lambda data: data["n"] >= 8, max_iterations=10)

    @again.step
    async def grow(data: dict[str, int]) -> dict[str, int]:
        return {"n": await durable.call_workflow(double, data["n"])}
