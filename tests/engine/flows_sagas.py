"""Compensations and on_failure, and how each workflow must end."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import Context, Goto, Retry, Workflow, context, hours, seconds
from tests.engine.cases import case, fail_until, fails, increment, logs, puts, same, silent, undo

Flow = Workflow[Any, Any]
FAR = Retry(3, backoff="constant", delay=hours(1))
NO = {"error": "builtins.ValueError", "message": "no"}
UNDONE: dict[str, Any] = {**NO, "status": "compensated"}


def release(data: Any) -> Any:
    return {"released": data}


async def cannot(here: Context) -> None:
    assert here.failure is not None
    raise RuntimeError(f"cannot undo after {here.failure.message}")


async def tell(data: Any, here: Context) -> Any:
    assert here.failure is not None
    return [data, here.failure.type, here.attempt]


# --- In sequence --------------------------------------------------------------------------------------------------


@case(
    [],
    **UNDONE,
    undone=["c/undo", "b/release", "a/undo"],
    values={"a/undo": [["a"], "no"], "b/release": {"released": ["a", "b"]}, "c/undo": [["a", "b", "c"], "no"]},
    calls={"a": 1, "a/undo": 1, "plain": 1, "never": 0},
)
def the_last_is_undone_first(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="b", compensate=release)(logs("b"))
    w.step(name="plain")(silent)
    w.step(name="c", compensate=undo)(logs("c"))
    w.step(name="fail")(fails())
    w.step(name="never", compensate=undo)(silent)


@case([], result=["a", "b"], undone=[])
def success_undoes_nothing(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="b", compensate=undo, compensate_on="started")(logs("b"))


@case([], **NO, undone=[])
def a_step_that_failed_is_not_undone(w: Flow) -> None:
    w.step(name="fail", compensate=undo)(fails())


@case(
    [1],
    **UNDONE,
    undone=["silent/undo", "grow/undo", "first/undo"],
    values={"silent/undo": [[1, "x"], "no"], "grow/undo": [[1, "x"], "no"], "first/undo": [[1], "no"]},
)
def a_step_without_a_result_is_undone_with_the_data_it_left(w: Flow) -> None:
    w.step(name="first", compensate=undo)(silent)
    w.step(name="grow", compensate=undo)(logs("x"))
    w.step(name="silent", compensate=undo)(silent)
    w.step(name="change")(logs("y"))
    w.step(name="fail")(fails())


@case([], **UNDONE, undone=["fail/undo", "a/undo"], values={"fail/undo": [["a"], "no"], "a/undo": [["a"], "no"]})
def a_step_that_was_begun_is_undone_with_the_data_it_was_given(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="fail", compensate=undo, compensate_on="started", retry=FAR)(fails())


@case(
    ["x"],
    error="durable.errors.StepTimeout",
    status="compensated",
    undone=["slow/release"],
    values={"slow/release": {"released": ["x"]}},
)
def a_step_that_timed_out_is_undone_if_asked_for(w: Flow) -> None:
    @w.step(compensate=release, compensate_on="started", timeout=seconds(0.02))
    async def slow() -> None:
        await asyncio.Event().wait()


@case([], **UNDONE, undone=["b/undo"], values={"b/undo": [["b"], "no"]})
def a_begun_step_that_completed_is_undone_with_its_result(w: Flow) -> None:
    w.step(name="b", compensate=undo, compensate_on="started")(logs("b"))
    w.step(name="fail")(fails())


@case(0, **UNDONE, undone=["count#3/undo", "count#2/undo", "count/undo"], values={"count#2/undo": [2, "no"]})
def each_visit_is_undone(w: Flow) -> None:
    w.step(name="count", compensate=undo)(increment)
    w.decision(name="again")(lambda data: Goto("count") if data < 3 else None)
    w.step(name="fail")(fails())


@case(
    {"kind": 1},
    **UNDONE,
    undone=["kind/1/inner/true/book/undo"],
    values={"kind/1/inner/true/book/undo": [{"kind": 1, "x": 2}, "no"]},
)
def steps_of_cases_are_undone(w: Flow) -> None:
    case_one = w.branch("kind", on=lambda data: data["kind"]).case(1)
    inner = case_one.branch("inner", on=lambda: True)
    inner.case(True).step(name="book", compensate=undo)(puts(x=2))
    inner.case(False).step(name="never", compensate=undo)(silent)
    case_one.step(name="fail")(fails())


# --- What is being undone fails -----------------------------------------------------------------------------------


@case(
    [],
    **NO,
    status="compensation_failed",
    undone=["c/undo", "b/cannot", "a/undo"],
    values={"a/undo": [["a"], "no"]},
    calls={"b/cannot": 1, "a/undo": 1},
)
def a_failing_compensation_does_not_stop_the_others(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="b", compensate=cannot)(logs("b"))
    w.step(name="c", compensate=undo)(logs("c"))
    w.step(name="fail")(fails())


@case(
    [], **UNDONE, undone=["b/release", "a/flaky"], values={"a/flaky": [["a"], 3]}, calls={"a/flaky": 3, "b/release": 2}
)
def compensations_are_retried_near_and_far(w: Flow) -> None:
    @w.compensation(retry=FAR)
    async def flaky(data: Any) -> Any:
        fail_until(3)
        return [data, context().attempt]

    @w.compensation(name="release", retry=Retry(2, delay=seconds(0.01)))
    async def again() -> None:
        fail_until(2)

    w.step(name="a", compensate=flaky)(logs("a"))
    w.step(name="b", compensate=again)(logs("b"))
    w.step(name="fail")(fails())


@case([], **NO, status="compensation_failed", undone=["b/flaky", "a/undo"], calls={"b/flaky": 3, "a/undo": 1})
def a_compensation_fails_after_far_retries(w: Flow) -> None:
    w.compensation(name="flaky", retry=FAR)(cannot)
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="b", compensate=cannot)(logs("b"))
    w.step(name="fail")(fails())


@case([], **NO, status="compensation_failed", undone=["a/undo"], calls={"a/undo": 0})
def a_compensation_whose_data_does_not_fit_fails(w: Flow) -> None:
    @w.compensation(name="undo")
    async def picky(data: int) -> None: ...

    w.step(name="a", compensate=picky)(same)
    w.step(name="fail")(fails())


# --- on_failure ---------------------------------------------------------------------------------------------------


def with_tell(name: str, **options: Any) -> Flow:
    return Workflow(name, on_failure=tell, **options)


@case(
    ["in"],
    of=with_tell,
    **UNDONE,
    undone=["a/undo"],
    values={"tell": [["in"], "builtins.ValueError", 1]},
    calls={"tell": 1},
)
def on_failure_runs_after_what_was_undone(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="fail")(fails())


@case(["in"], of=with_tell, **NO, undone=[], values={"tell": [["in"], "builtins.ValueError", 1]}, calls={"tell": 1})
def on_failure_runs_when_there_is_nothing_to_undo(w: Flow) -> None:
    w.step(name="a")(logs("a"))
    w.step(name="fail")(fails())


@case(["in"], of=with_tell, result=["in", "a"], calls={"tell": 0})
def on_failure_does_not_run_after_success(w: Flow) -> None:
    w.step(name="a")(logs("a"))


@case([], of=lambda name: Workflow(name, on_failure=cannot), **UNDONE, undone=["a/undo"], calls={"cannot": 1})
def on_failure_that_fails_changes_nothing(w: Flow) -> None:
    w.step(name="a", compensate=undo)(logs("a"))
    w.step(name="fail")(fails())


async def tell_in_the_end(data: Any) -> Any:
    fail_until(3)
    return [data, context().attempt]


@case(
    [7],
    of=lambda name: Workflow(name, on_failure=tell_in_the_end, retry=FAR),
    **NO,
    values={"tell_in_the_end": [[7], 3]},
    calls={"tell_in_the_end": 3, "fail": 3},
)
def on_failure_is_retried_like_any_step(w: Flow) -> None:
    w.step(name="fail")(fails())


@case(
    [],
    of=with_tell,
    error="durable.errors.NonRetryable",
    message="takes",
    values={"tell": [[], "durable.errors.NonRetryable", 1]},
)
def on_failure_is_told_of_data_that_did_not_fit(w: Flow) -> None:
    w.step(name="a")(increment)
