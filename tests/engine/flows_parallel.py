"""Parallels, and how each workflow must end."""

from __future__ import annotations

import functools
from typing import Any

from durable import ArmResults, Err, Ok, Retry, Workflow, context, hours, seconds
from durable.codec import DEPTH_MAX
from tests.engine.cases import case, fail_until, fails, hangs, increment, puts, same, silent

Flow = Workflow[Any, Any]
FAR = Retry(3, backoff="constant", delay=hours(1))
NEAR = Retry(3, backoff="constant", delay=seconds(0.01))


# --- What becomes of the results ----------------------------------------------------------------------------------


@case({"n": 1}, result={"n": 1, "a": 1, "b": {"c": 2}}, calls={"both/a": 1, "both/b": 1, "after": 1})
def arms_of_one_step_are_merged(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a")(puts(a=1))
    both.step(name="b")(puts(b={"c": 2}))
    both.step(name="nothing")(silent)

    @w.step
    async def after(data: Any) -> None:
        assert data == {"n": 1, "a": 1, "b": {"c": 2}}


@case({"n": {"deep": 1, "kept": 2}, "left": 3}, result={"n": {"deep": 1, "kept": 2, "x": 1, "y": 2}, "left": 3})
def merging_keeps_what_arms_left_out(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a")(lambda: {"n": {"x": 1}})
    both.step(name="b")(lambda: {"n": {"y": 2}, "left": 3})


@case({"n": 1}, result={"n": 1, "x": 3, "y": 2}, calls={"both/left/one": 1, "both/left/three": 1, "both/right/two": 1})
def arms_of_many_steps(w: Flow) -> None:
    both = w.parallel("both", merge="deep")
    left = both.arm("left")
    for number, name in enumerate(("one", "two", "three"), start=1):
        left.step(name=name)(puts(x=number))
    right = both.arm("right")
    right.step(name="one")(silent)
    right.step(name="two")(puts(y=2))


@case({"n": 1}, result={"n": 1, "x": 1, "y": 2, "z": 3})
def arms_whose_last_step_returns_nothing(w: Flow) -> None:
    both = w.parallel("both")
    left = both.arm("left")
    left.step(name="one")(puts(x=1))
    left.step(name="two")(silent)
    right = both.arm("right")
    right.step(name="one")(puts(y=2))
    right.foreach("each", items=lambda data: [1, 2]).step(name="item")(silent)
    w.parallel("late", merge="last_wins").arm("only").step(name="one")(puts(z=3))


@case({"n": 0}, error="durable.errors.MergeConflict", message="arms 'a' and 'b' both changed 'n'", calls={"never": 0})
def arms_that_change_the_same_place(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a")(puts(n=1))
    both.step(name="b")(puts(n=True))
    w.step(name="never")(silent)


@case({"n": 0}, result={"n": 1})
def arms_that_agree(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a")(puts(n=1))
    both.step(name="b")(puts(n=1))


@case({"n": 0}, result={"n": 2, "a": 1})
def arms_of_which_the_last_wins(w: Flow) -> None:
    both = w.parallel("both", merge="last_wins")
    both.step(name="a")(puts(n=1, a=1))
    both.step(name="b")(puts(n=2))
    both.step(name="c")(same)


@case(5, result={"a": 6, "bee": None, "c": 5})
def arms_that_are_collected(w: Flow) -> None:
    both = w.parallel("both", merge="collect")
    both.step(name="a")(increment)
    both.step(name="b", key="bee")(silent)
    both.arm("c").step(name="step")(same)


@case(5, result=6)
def data_that_is_no_object_is_changed_by_one_arm(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a")(increment)
    both.step(name="b")(silent)
    both.step(name="c")(same)


@case(5, error="durable.errors.MergeConflict", message="both changed 'the data'")
def data_that_is_no_object_is_not_changed_by_two(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a")(increment)
    both.step(name="b")(lambda: 7)


@case([], result=[["a", "bee", "c"], 1, None, [2]], calls={"both/a": 1})
def results_by_key_in_the_order_of_declaration(w: Flow) -> None:
    def into(data: list[Any], results: ArmResults) -> list[Any]:
        assert data == []
        return [list(results), *results.ok.values()]

    both = w.parallel("both", into=into)
    both.step(name="a")(lambda: 1)
    both.step(name="b", key="bee")(silent)
    both.arm("c").step(name="step")(lambda: [2])


@case({}, error="builtins.ValueError", message="not like this", calls={"both/a": 1})
def an_into_that_fails(w: Flow) -> None:
    def into(_: Any, results: ArmResults) -> None:
        raise ValueError("not like this")

    both = w.parallel("both", into=into)
    both.step(name="a")(puts(a=1))
    both.arm("b").step(name="c")(puts(b=1))
    w.step(name="never")(silent)


@case({"n": 1}, result={"n": 1}, calls={"both/a": 1})
def an_into_that_returns_nothing(w: Flow) -> None:
    both = w.parallel("both", into=lambda: None)
    both.step(name="a")(puts(a=1))
    both.step(name="b")(puts(a=2))


def nested() -> Any:
    data: Any = 0
    for _ in range(DEPTH_MAX):
        data = [data]
    return data


@case({}, error="durable.errors.EncodeError", message="deep", calls={"both/deep": 1})
def results_that_are_too_deep_together(w: Flow) -> None:
    w.parallel("both", merge="collect").step(name="deep")(nested)


@case({}, error="durable.errors.EncodeError", message="deep", calls={"each[0]/deep": 1})
def items_that_are_too_deep_together(w: Flow) -> None:
    w.foreach("each", items=lambda: [1], collect_as="all").step(name="deep")(nested)


# --- Failures -----------------------------------------------------------------------------------------------------


@case({}, error="builtins.ValueError", message="bad", calls={"both/a": 2, "never": 0})
def a_failing_arm_ends_its_siblings(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a", retry=Retry(2, delay=seconds(0)))(fails("bad"))
    slow = both.arm("slow")
    slow.step(name="hangs")(hangs)
    slow.step(name="never")(silent)
    w.step(name="never")(silent)


@case({}, error="builtins.ValueError", message="bad", calls={"outer/b/inner/fail": 1})
def a_failing_arm_ends_what_is_deep_inside_its_siblings(w: Flow) -> None:
    outer = w.parallel("outer")
    left = outer.arm("a").parallel("inner")
    left.arm("x").foreach("each", items=lambda: [1, 2, 3], concurrency=2).step(name="hangs")(hangs)
    left.arm("y").step(name="hangs")(hangs)
    right = outer.arm("b").parallel("inner")
    right.step(name="fail")(fails("bad"))
    right.step(name="hangs")(hangs)


@case(
    {},
    error="builtins.ValueError",
    message="first",
    calls={"both/a": 1, "both/b/two": 1, "both/c": 3, "never": 0},
)
def complete_all_lets_the_others_finish_and_then_fails(w: Flow) -> None:
    both = w.parallel("both", on_error="complete_all")
    both.step(name="a")(fails("first"))
    arm = both.arm("b")
    arm.step(name="one")(silent)
    arm.step(name="two")(puts(b=1))
    both.step(name="c", retry=FAR)(fails("second"))
    w.step(name="never")(silent)


@case({}, result=[["a", "d"], [1], "builtins.ValueError", True], calls={"both/a": 2, "both/b": 1, "both/d/inner/x": 1})
def complete_all_with_an_into_decides_about_failures(w: Flow) -> None:
    def into(_: Any, results: ArmResults) -> Any:
        a, b = results["a"], results["b"]
        assert isinstance(a, Err)
        return [list(results.errors), list(results.ok.values()), a.error.type, isinstance(b, Ok)]

    both = w.parallel("both", on_error="complete_all", into=into)
    both.step(name="a", retry=Retry(2, delay=seconds(0)))(fails())
    both.step(name="b")(lambda: 1)
    inner = both.arm("d").parallel("inner")
    inner.step(name="x")(fails("inner"))
    inner.step(name="y")(silent)


@case({}, error="durable.errors.MergeConflict", message="both changed", calls={"outer/a/inner/x": 1})
def a_conflict_in_an_arm_is_its_failure(w: Flow) -> None:
    outer = w.parallel("outer", on_error="complete_all")
    inner = outer.arm("a").parallel("inner")
    inner.step(name="x")(puts(n=1))
    inner.step(name="y")(puts(n=2))
    outer.arm("b").step(name="z")(puts(m=2))


# --- Retries ------------------------------------------------------------------------------------------------------


@case({}, result={"a": 3, "b": 3, "c": 3}, calls={"both/a": 3, "both/b": 3, "both/c/step": 3})
def far_and_near_retries_in_arms(w: Flow) -> None:
    def body(name: str) -> Any:
        async def step(data: Any) -> Any:
            fail_until(3)
            return {name: context().attempt}

        return step

    both = w.parallel("both")
    both.step(name="a", retry=FAR)(body("a"))
    both.step(name="b", retry=NEAR)(body("b"))
    both.arm("c").step(name="step", retry=FAR)(body("c"))


@case({}, result={"outer": {"a": {}, "b": {}}}, calls={"outer/p/inner/a": 3, "outer/q": 3})
def far_retries_in_nested_arms(w: Flow) -> None:
    def into(_: Any, results: ArmResults) -> Any:
        return {"outer": results.ok["p"]}

    outer = w.parallel("outer", into=into)
    inner = outer.arm("p").parallel("inner", merge="collect")
    inner.step(name="a", retry=FAR)(fails(attempts=2))
    inner.step(name="b", retry=FAR)(fails(attempts=2))
    outer.step(name="q", retry=FAR)(fails(attempts=2))


@case({}, error="builtins.ValueError", message="in the end", calls={"both/a": 3})
def far_retries_that_fail_in_the_end_end_their_siblings(w: Flow) -> None:
    both = w.parallel("both")
    both.step(name="a", retry=FAR)(fails("in the end"))
    both.step(name="b", retry=Retry(1_000, delay=hours(1), backoff="constant"))(fails("never in the end"))


# --- Depth --------------------------------------------------------------------------------------------------------


def leaf(data: Any, number: int) -> Any:
    return {f"n{number}": context().path}


@case(
    {},
    result={f"n{n}": f"p0/a{n // 4 % 2}/p1/a{n // 2 % 2}/p2/a{n % 2}" for n in range(8)},
    calls={"p0/a1/p1/a1/p2/a1": 1, "p0/a0/p1/a0/p2/a0": 1},
)
def parallels_in_parallels(w: Flow) -> None:
    def grow(block: Any, depth: int, number: int) -> None:
        parallel = block.parallel(f"p{depth}")
        for arm in range(2):
            inner = 2 * number + arm
            if depth == 2:
                parallel.step(name=f"a{arm}")(functools.partial(leaf, number=inner))
            else:
                grow(parallel.arm(f"a{arm}"), depth + 1, inner)

    grow(w, 0, 0)


@case(
    {"n": 2},
    result={"n": 2, "x": "even", "y": [0, 2], "z": 8},
    calls={"all/b/each[1]/double": 1, "all/c/grow[1]/twice": 1},
)
def every_node_in_an_arm(w: Flow) -> None:
    everything = w.parallel("all")
    kind = everything.arm("a").branch("kind", on=lambda data: data["n"] % 2)
    kind.case(0).step(name="even")(puts(x="even"))
    kind.case(1).step(name="never")(silent)
    each = everything.arm("b").foreach("each", items=lambda data: list(range(data["n"])), concurrency=2, collect_as="y")
    each.step(name="double")(lambda data, item: item * 2)
    third = everything.arm("c")
    third.step(name="start")(lambda data: {**data, "z": data["n"]})
    third.loop("grow", until=lambda data: data["z"] > 5).step(name="twice")(lambda data: {**data, "z": data["z"] * 2})
