"""Workflows whose bodies wait for events, and how each must end, with and without crashes, and whenever the events are sent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import durable
from durable import Retry, WaitTimeout, Workflow, context, days, hours, minutes, seconds
from tests.engine.cases import case, silent

Flow = Workflow[Any, Any]


async def noted(what: Any) -> Any:
    return what


@case(1, result={"paid": 5}, events=[("payment", {"paid": 5})])
def an_event(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_event("payment")


@case(1, result={"got": None}, events=[("nothing", None)])
def an_event_without_a_payload(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return {"got": await durable.wait_for_event("nothing", timeout_value="another", timeout=days(1))}


@case([], result=["a1", "b1", "a2"], events=[("a", "a1"), ("b", "b1"), ("a", "a2")])
def several_waits_in_one_body(w: Flow) -> None:
    @w.step
    async def wait(data: list[str]) -> list[str]:
        first = await durable.wait_for_event("a")
        await durable.run(noted, first)
        second = await durable.wait_for_event("b")
        return [first, second, await durable.wait_for_event("a")]


@case([], result=["1", "2", "3"], events=[("item", "1"), ("item", "2"), ("item", "3")])
def each_wait_gets_an_event_of_its_own(w: Flow) -> None:
    @w.step
    async def wait(data: list[str]) -> list[str]:
        return [await durable.wait_for_event("item") for _ in range(3)]


@case([], result=["first", "second"], events=[("go", "first"), ("go", "second")])
def a_second_step_never_gets_what_the_first_has_got(w: Flow) -> None:
    @w.step
    async def one(data: list[str]) -> list[str]:
        return [*data, await durable.wait_for_event("go")]

    @w.step
    async def two(data: list[str]) -> list[str]:
        return [*data, await durable.wait_for_event("go")]


@case(0, result="late")
def a_wait_whose_time_passes_gives_its_value(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        first = await durable.wait_for_event("never", timeout=minutes(5), timeout_value=None)
        assert first is None
        second = await durable.wait_for_event("never", timeout=minutes(5), timeout_value="late")
        await durable.sleep(hours(1))
        return second


@case(0, error="durable.errors.WaitTimeout", message='event:"never"')
def a_wait_whose_time_passes_without_a_value(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_event("never", timeout=days(1))


@case(0, result=2)
def a_wait_that_was_too_long_begins_anew_with_the_next_attempt(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=seconds(1)))
    async def wait(data: int) -> Any:
        try:
            await durable.wait_for_event("never", timeout=days(1))
        except WaitTimeout:
            if context().attempt == 2:
                return context().attempt
            raise


@case(0, result="caught")
def a_wait_that_was_too_long_is_caught_and_the_body_waits_on(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        with contextlib.suppress(WaitTimeout):
            await durable.wait_for_event("never", timeout=days(1))
        await durable.sleep(days(1))
        return "caught"


@case(0, result="there", events_before=[("there", "there")])
def an_event_that_is_there_beats_a_timeout_of_nothing(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_event("there", timeout=seconds(0), timeout_value="not there")


@case(0, result="an answer, then 2", events=[("answer", "an answer")])
def an_answer_is_kept_by_the_next_attempt(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def wait(data: int) -> Any:
        answer = await durable.wait_for_event("answer")
        if context().attempt == 1:
            raise ValueError("once more")
        return f"{answer}, then {context().attempt}"


# --- Any, all ----------------------------------------------------------------------------------------------------------


@case(0, result=["failed", 7, "x"], events=[("failed", 7), ("succeeded", "x")])
def the_first_of_several(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        name, payload = await durable.wait_for_any(["succeeded", "failed"], timeout=days(7))
        return [name, payload, await durable.wait_for_event("succeeded")]


@case(0, result=["expired", None])
def none_of_several(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        name, payload = await durable.wait_for_any(["a", "b"], timeout=days(7), timeout_value=("expired", None))
        return [name, payload]


@case(0, result={"legal": "yes", "finance": "no"}, events=[("finance", "no"), ("legal", "yes")])
def all_of_several(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_all(["legal", "finance"])


@case(0, result=["too late", "yes"], events=[("legal", "yes")])
def some_of_all_are_not_consumed_when_the_time_comes_first(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        both = await durable.wait_for_all(["legal", "finance"], timeout=days(5), timeout_value="too late")
        return [both, await durable.wait_for_event("legal")]


# --- At the same time --------------------------------------------------------------------------------------------------


@case({}, result={"one": 1, "two": 2}, events=[("two", 2), ("one", 1)])
def waits_in_several_arms(w: Flow) -> None:
    both = w.parallel("both")

    @both.step
    async def first(data: Any) -> Any:
        return {**data, "one": await durable.wait_for_event("one")}

    @both.step
    async def second(data: Any) -> Any:
        return {**data, "two": await durable.wait_for_event("two")}


@case({}, result={"first": "earlier", "second": "later"}, events=[("same", "earlier"), ("same", "later")])
def of_two_waits_for_one_event_the_first_registered_is_the_first_served(w: Flow) -> None:
    both = w.parallel("both")

    @both.step
    async def first(data: Any) -> Any:
        return {**data, "first": await durable.wait_for_event("same")}

    @both.step
    async def second(data: Any) -> Any:
        for _ in range(50):
            await asyncio.sleep(0)
        return {**data, "second": await durable.wait_for_event("same")}


@case([3, 1, 2], result={"sum": 6}, events=[("item 1", 1), ("item 2", 2), ("item 3", 3)])
def a_wait_for_each_item(w: Flow) -> None:
    each = w.foreach(
        "each", items=lambda data: data, concurrency=2, into=lambda data, results: {"sum": sum(results.ok)}
    )

    @each.step
    async def wait(data: Any, item: int) -> int:
        return await durable.wait_for_event(f"item {item}")


@case({"n": 0}, result={"n": 3}, events=[("next", 0), ("next", 1), ("next", 2)])
def a_wait_in_each_iteration(w: Flow) -> None:
    loop = w.loop("loop", until=lambda data: data["n"] == 3, max_iterations=5)

    @loop.step
    async def wait(data: Any) -> Any:
        assert await durable.wait_for_event("next") == data["n"]
        return {"n": data["n"] + 1}


@case(0, result=["a", None, "slept", 5], events=[("x", "a")])
def a_gather_of_everything(w: Flow) -> None:
    async def nap() -> str:
        await durable.sleep(hours(2), key="nap")
        return "slept"

    @w.step
    async def wait(data: int) -> Any:
        return list(
            await asyncio.gather(
                durable.wait_for_event("x"),
                durable.wait_for_event("y", timeout=hours(1), timeout_value=None),
                nap(),
                durable.run(noted, 5),
            )
        )


@case({}, error="builtins.ValueError", status="compensated", undone=["first/undo_first"], events=[("may I", "yes")])
def a_compensation_that_waits(w: Flow) -> None:
    async def undo_first(data: Any) -> None:
        assert await durable.wait_for_event("may I") == "yes"

    w.step(compensate=undo_first, name="first")(silent)

    @w.step
    async def fail() -> None:
        raise ValueError("no")


@case([], result=["b", "a"], events=[("a:b", "a"), ("a", "b")])
def waits_whose_names_and_keys_look_alike(w: Flow) -> None:
    @w.step
    async def wait(data: list[str]) -> list[str]:
        return list(await asyncio.gather(durable.wait_for_event("a", key="b"), durable.wait_for_event("a:b")))


@case(0, error="durable.errors.UsageError", message="Give a list of them")
def names_without_an_order(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_any({"a", "b"})  # type: ignore[arg-type]


@case(0, error="durable.errors.UsageError", message="at most a hundred years")
def a_timeout_beyond_all_calendars(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_event("a", timeout=days(40_000))


@case(0, error="durable.errors.UsageError", message="cannot be a key")
def a_key_that_cannot_be_stored(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_event("a", key="\0")


OURS = ("paid", {"order": 1, "ok": True})


@case({"order": 1}, result=OURS[1], events=[OURS], to_children=True)
def an_event_that_matches(w: Flow) -> None:
    @w.step
    async def wait(data: dict[str, int]) -> Any:
        return await durable.wait_for_event("paid", match={"order": data["order"]}, timeout=days(1))


@case(1, result="late")
def an_event_that_matches_comes_too_late(w: Flow) -> None:
    @w.step
    async def wait(data: int) -> Any:
        return await durable.wait_for_event("paid", match={"order": 1}, timeout=days(1), timeout_value="late")
