"""Loops, and how each workflow must end."""

from __future__ import annotations

from typing import Any

from durable import Goto, Retry, Workflow, context, hours, seconds
from tests.engine.cases import case, fail_until, fails, increment, same, silent, undo

Flow = Workflow[Any, Any]
FAR = Retry(3, backoff="constant", delay=hours(1))


def at_least(limit: int) -> Any:
    return lambda data: data >= limit


@case(0, result=5, calls={f"up[{n}]/increment": 1 for n in range(5)})
def loop_without_bounds(w: Flow) -> None:
    w.loop("up", until=at_least(5)).step(increment)


@case(0, result=3, calls={"up[2]/increment": 1, "after": 1})
def loop_within_bounds(w: Flow) -> None:
    w.loop("up", until=at_least(3), max_iterations=3).step(increment)
    w.step(name="after")(same)


@case(
    0,
    error="durable.errors.LoopExhausted",
    message="'up' did not come to its end within its 3 iterations",
    calls={"up[2]/increment": 1, "up[3]/increment": 0, "never": 0},
)
def loop_that_is_exhausted(w: Flow) -> None:
    w.loop("up", until=at_least(9), max_iterations=3).step(increment)
    w.step(name="never")(silent)


@case(9, result=10, calls={"up[0]/increment": 1})
def loop_that_runs_once_although_it_is_true_already(w: Flow) -> None:
    w.loop("up", until=at_least(9)).step(increment)


@case({}, error="builtins.KeyError", message="missing", calls={"up[0]/same": 1})
def loop_whose_until_fails(w: Flow) -> None:
    w.loop("up", until=lambda data: data["missing"]).step(same)
    w.step(name="never")(silent)


@case(0, error="builtins.ValueError", message="third", calls={"up[2]/maybe": 2})
def loop_whose_body_fails(w: Flow) -> None:
    up = w.loop("up", until=at_least(9))

    @up.step(retry=Retry(2, delay=seconds(0)))
    async def maybe(data: int) -> int:
        if data == 2:
            raise ValueError("third")
        return data + 1


@case(0, result=4, calls={"up[1]/flaky": 3, "up[3]/flaky": 3, "up[0]/second": 1})
def far_retries_in_a_loop(w: Flow) -> None:
    up = w.loop("up", until=at_least(4))

    @up.step(retry=FAR)
    async def flaky(data: int) -> int:
        fail_until(3)
        return data + 1

    up.step(name="second")(silent)


@case({"n": 0, "seen": []}, result={"n": 6, "seen": [1, 2, 3, 4, 5, 6]}, calls={"outer[1]/inner[2]/count": 1})
def loop_in_a_loop(w: Flow) -> None:
    outer = w.loop("outer", until=lambda data: data["n"] >= 6)
    inner = outer.loop("inner", until=lambda data: data["n"] % 3 == 0)
    inner.step(name="count")(lambda data: {**data, "n": data["n"] + 1})
    inner.step(name="note")(lambda data: {**data, "seen": [*data["seen"], data["n"]]})


@case(
    {"n": 0, "m": 10},
    result={"n": 3, "m": 12},
    calls={"both/left/up[2]/count": 1, "both/right/down[1]/count": 2},
)
def loops_in_arms(w: Flow) -> None:
    both = w.parallel("both")
    up = both.arm("left").loop("up", until=lambda data: data["n"] == 3)
    up.step(name="count")(lambda data: {**data, "n": data["n"] + 1})
    down = both.arm("right").loop("down", until=lambda data: data["m"] == 12)
    down.step(name="count", retry=FAR)(lambda data: count_m(data))


def count_m(data: dict[str, int]) -> dict[str, int]:
    fail_until(2)
    return {**data, "m": data["m"] + 1}


@case([], result=[[3, 4, 5], 3], calls={"each[0]/up[2]/increment": 1, "each[2]/up[2]/increment": 1})
def loops_in_items(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1, 2], concurrency=2, into=lambda _, rs: [rs.ok, len(rs)])
    each.step(name="start")(lambda data, item: item)
    each.loop("up", until=lambda data, item: data >= item + 3).step(increment)


@case(0, result=["x", 7], calls={"up[0]/kind/false/add": 1, "up[6]/kind/true/add": 1, "up[2]/kind/true/add": 0})
def loop_around_a_branch(w: Flow) -> None:
    up = w.loop("up", until=at_least(7))
    kind = up.branch("kind", on=lambda data: data > 3)
    kind.case(True).step(name="add")(increment)
    kind.case(False).step(name="add")(increment)
    w.step(name="pair")(lambda data: ["x", data])


@case({"n": 0}, result={"n": 3, "all": [2, 3]}, calls={"up[1]/each[0]/look": 1, "up[2]/both/b": 1})
def loop_around_everything(w: Flow) -> None:
    up = w.loop("up", until=lambda data: data["n"] == 3)
    each = up.foreach("each", items=lambda data: [data["n"], data["n"] + 1], concurrency=2, collect_as="all")
    each.step(name="look")(lambda data, item: item)
    both = up.parallel("both")
    both.step(name="a")(lambda data: {**data, "n": data["n"] + 1})
    both.step(name="b")(silent)


@case(0, result=4, calls={"up[0]/count": 1, "up[0]/count#2": 1, "up[1]/count": 1, "up[1]/count#2": 1})
def goto_in_a_loop(w: Flow) -> None:
    up = w.loop("up", until=at_least(4))
    up.step(name="count")(increment)
    up.decision(name="again")(lambda data: Goto("count") if data % 2 else None)


@case([], result={"left": None, "third": 2}, calls={"both/left/up[0]/silent": 1})
def the_result_of_a_loop_that_changed_nothing_is_none(w: Flow) -> None:
    both = w.parallel("both", merge="collect")
    both.arm("left").loop("up", until=lambda: True).step(silent)
    third = both.arm("third")
    third.step(name="start")(lambda: 1)
    third.loop("up", until=lambda: True).step(increment)


# --- Loops and compensations --------------------------------------------------------------------------------------


@case(
    [0],
    error="builtins.ValueError",
    status="compensated",
    undone=[f"up[{n}]/book/undo" for n in (2, 1, 0)],
    values={f"up[{n}]/book/undo": [[0, *range(1, n + 2)], "no"] for n in range(3)},
)
def what_iterations_did_is_undone(w: Flow) -> None:
    up = w.loop("up", until=lambda data: len(data) == 4, max_iterations=5)
    up.step(name="first")(silent)
    up.step(name="book", compensate=undo)(lambda data: [*data, len(data)])
    up.step(name="last")(silent)
    w.step(name="fail")(fails())


@case(
    [0],
    error="builtins.ValueError",
    status="compensated",
    undone=[f"up[{n}]/book/undo" for n in (2, 1, 0)],
    values={f"up[{n}]/book/undo": [[0, *range(1, n + 2)], "no"] for n in range(3)},
)
def what_iterations_did_without_a_result_is_undone_with_their_data(w: Flow) -> None:
    # The data of `book` is held by the record of `grow`, or by that of an iteration, which are dropped otherwise.
    up = w.loop("up", until=lambda data: len(data) == 4, max_iterations=5)
    up.step(name="grow")(lambda data: [*data, len(data)])
    up.step(name="book", compensate=undo)(silent)
    up.step(name="last")(same)
    w.step(name="fail")(fails())


@case(
    [0],
    error="durable.errors.LoopExhausted",
    status="compensated",
    undone=[f"up[{n}]/book/undo" for n in (2, 1, 0)],
    values={
        f"up[{n}]/book/undo": [[0, *range(1, n + 1)], "'up' did not come to its end within its 3 iterations"]
        for n in range(3)
    },
)
def what_iterations_began_is_undone_with_the_data_of_the_one_before(w: Flow) -> None:
    up = w.loop("up", until=lambda: False, max_iterations=3)
    up.step(name="book", compensate=undo)(silent)
    up.step(name="grow")(lambda data: [*data, len(data)])


@case(
    [0],
    error="builtins.ValueError",
    status="compensated",
    undone=[
        "outer[1]/inner[1]/book/undo",
        "outer[1]/inner[0]/book/undo",
        "outer[0]/inner[1]/book/undo",
        "outer[0]/inner[0]/book/undo",
    ],
    values={"outer[0]/inner[0]/book/undo": [[0, 1], "no"], "outer[1]/inner[1]/book/undo": [[0, 1, 2, 3, 4], "no"]},
)
def what_loops_in_loops_did_is_undone(w: Flow) -> None:
    outer = w.loop("outer", until=lambda data: len(data) == 5, max_iterations=5)
    inner = outer.loop("inner", until=lambda data: len(data) % 2 == 1, max_iterations=5)
    inner.step(name="grow")(lambda data: [*data, len(data)])
    inner.step(name="book", compensate=undo)(silent)
    w.step(name="fail")(fails())


@case(0, result=3, calls={"up[0]/look": 1})
def loop_paths_are_counted_from_nought(w: Flow) -> None:
    up = w.loop("up", until=at_least(3))

    @up.step
    async def look(data: int) -> int:
        assert context().path == f"up[{data}]/look"
        return data + 1
