"""What the interpreter makes of a definition, when nothing crashes and when everything does."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import Retry, Workflow, context, hours, seconds
from durable.engine.interpreter import Interpreter
from durable.engine.journal import Blocked
from durable.testing import MemoryJournal, Run, crash_everywhere, run
from tests.engine import (
    flows_branches,
    flows_children,
    flows_effects,
    flows_events,
    flows_foreach,
    flows_functions,
    flows_inputs,
    flows_loops,
    flows_parallel,
    flows_sagas,
    workflows,
)
from tests.engine.cases import CASES, Case
from tests.engine.workflows import Colour, Point

_DECLARED = (
    workflows,
    flows_branches,
    flows_children,
    flows_effects,
    flows_events,
    flows_functions,
    flows_inputs,
    flows_parallel,
    flows_foreach,
    flows_loops,
    flows_sagas,
)  # importing them fills CASES


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.workflow.name)


def check(case: Case, ended: Run) -> None:
    if case.error is None:
        assert ended.failure is None, ended.failure
        assert ended.result == case.result
        assert type(ended.result) is type(case.result)
    else:
        assert ended.failure is not None
        assert ended.failure.type == case.error, ended.failure
        assert case.message in ended.failure.message
    assert ended.status.value == (case.status or ("completed" if case.error is None else "failed"))
    results = {r.path: json.loads(r.value or "null") for r in ended.records if r.kind == "completed"}
    for path, value in case.values.items():
        assert results[path] == value, path
    if case.undone is not None:
        assert undone_in(ended) == case.undone


def undone_in(ended: Run) -> list[str]:
    """The compensations that were run, in their order. They stand inside the steps that they undo."""
    undone: dict[str, None] = {}
    began = next((record.seq for record in ended.records if record.kind == "failing"), math.inf)
    for record in sorted(ended.records, key=lambda record: record.seq):
        if record.seq > began and "/" in record.path:
            undone[record.path] = None
    return list(undone)


@each(CASES)
async def test_a_workflow_ends_as_it_should(case: Case) -> None:
    ended = await run(case.workflow, case.input, crashes=case.crashes, **case.outside)
    check(case, ended)
    for path, times in case.calls.items():
        assert ended.calls[path] == times, path
    assert "never" not in ended.calls


@each([case for case in CASES if not case.by_the_clock])
async def test_a_workflow_ends_the_same_wherever_workers_crash(case: Case) -> None:
    pairs = 4 if case.slow else 40
    report = await crash_everywhere(
        case.workflow, case.input, crashes=case.crashes, second_crashes=pairs, **case.outside
    )
    check(case, report.uninterrupted)
    assert report.runs >= 2


@each([case for case in CASES if case.events and not case.to_children])
async def test_an_event_sent_before_the_wait_is_delivered_as_if_it_had_been_sent_later(case: Case) -> None:
    report = await crash_everywhere(
        case.workflow, case.input, events_before=case.events, inputs=case.inputs, second_crashes=4
    )
    check(case, report.uninterrupted)


KINDS = st.sampled_from(["succeed", "none", "fail"])


@st.composite
def pipelines(draw: st.DrawFn) -> Workflow[Any, Any]:
    workflow: Workflow[Any, Any] = Workflow("pipeline")
    for number in range(draw(st.integers(1, 4))):
        kind, failures, far = draw(KINDS), draw(st.integers(0, 2)), draw(st.booleans())
        attempts = max(failures + (kind != "fail"), 1)

        async def body(data: Any, kind: str = kind, failures: int = failures, number: int = number) -> Any:
            if kind == "fail" or context().attempt <= failures:
                raise ValueError(f"{number}: {context().attempt}")
            return None if kind == "none" else [number, data]

        retry = Retry(attempts, delay=hours(1) if far else seconds(0.01))
        workflow.step(name=f"step{number}", retry=retry)(body)
    return workflow


@given(pipelines())
@settings(max_examples=60)
def test_any_pipeline_ends_the_same_wherever_workers_crash(workflow: Workflow[Any, Any]) -> None:
    report = asyncio.run(crash_everywhere(workflow, 0, second_crashes=6))
    assert report.runs >= 2
    for repeat in report.repeats:
        assert repeat.times <= 1 + len(repeat.crashed)


# --- Faults of other systems that must not come back ----------------------------------------------------------------


async def test_a_step_is_never_applied_to_its_own_output_after_a_crash() -> None:
    workflow: Workflow[int, int] = Workflow("increments")
    for name in ("one", "two", "three"):

        async def add(n: int) -> int:
            return n + 1

        workflow.step(name=name)(add)
    report = await crash_everywhere(workflow, 0)
    assert report.uninterrupted.result == 3


@dataclass
class Annotated:
    pair: tuple[int, int]
    colour: Colour
    at: datetime
    day: date
    price: Decimal
    id: UUID
    point: Point


def values() -> dict[str, Any]:
    at = datetime(2031, 1, 2, tzinfo=UTC)
    return {
        "pair": (1, 2),
        "colour": Colour.RED,
        "at": at,
        "day": at.date(),
        "price": Decimal("1.10"),
        "id": UUID(int=9),
        "point": Point(1),
    }


async def test_values_in_untyped_places_never_change_type_only_after_a_crash() -> None:
    workflow: Workflow[Any, Any] = Workflow("untyped")

    @workflow.step
    async def make() -> Any:
        return values()

    @workflow.step
    async def look(data: Any) -> Any:
        return {key: type(value).__name__ for key, value in data.items()}

    report = await crash_everywhere(workflow, None)
    text = dict.fromkeys(("colour", "at", "day", "price", "id"), "str")
    assert report.uninterrupted.result == {"pair": "list", "point": "dict", **text}


async def test_values_in_typed_places_keep_their_types_whatever_crashes() -> None:
    workflow: Workflow[Any, Any] = Workflow("typed")

    @workflow.step
    async def make() -> Annotated:
        return Annotated(**values())

    @workflow.step
    async def look(data: Annotated) -> Any:
        return {key: type(value).__name__ for key, value in vars(data).items()}

    report = await crash_everywhere(workflow, None)
    assert report.uninterrupted.result == {key: type(value).__name__ for key, value in values().items()}


async def test_each_step_has_a_copy_of_its_own_of_the_data() -> None:
    workflow: Workflow[Any, Any] = Workflow("copies")

    @workflow.step
    async def spoil(data: Any) -> None:
        data["n"] = 99

    @workflow.step(retry=Retry(2, delay=seconds(0)))
    async def spoil_and_fail(data: Any) -> None:
        data["n"] += 1
        if context().attempt == 1:
            raise ValueError

    report = await crash_everywhere(workflow, {"n": 1})
    assert report.uninterrupted.result == {"n": 1}


COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_a_step_sees_the_same_context_variables_whether_or_not_a_crash_came_before_it() -> None:
    workflow: Workflow[Any, Any] = Workflow("leaky")

    @workflow.step
    async def bind() -> None:
        COLOUR.set("red")

    @workflow.step
    async def look() -> str:
        return COLOUR.get()

    await crash_everywhere(workflow, None)


# --- What is recorded -----------------------------------------------------------------------------------------------


async def test_a_far_retry_gives_up_the_slot_and_a_near_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: dict[str, Run] = {}
    original, claims = MemoryJournal.claim, Counter[str]()

    def counted(self: MemoryJournal, timeout: float | None) -> Any:
        claims[name] += 1
        return original(self, timeout)

    monkeypatch.setattr(MemoryJournal, "claim", counted)
    for name, delay in (("near", seconds(0.1)), ("far", hours(1))):
        workflow: Workflow[Any, Any] = Workflow(name)

        @workflow.step(retry=Retry(2, delay=delay, jitter=0))
        async def flaky() -> None:
            if context().attempt == 1:
                raise ValueError

        ended[name] = await run(workflow, None)
    assert claims == {"near": 1, "far": 2}
    assert 0.1 <= ended["near"].seconds < 60
    assert 3600 <= ended["far"].seconds < 3660
    assert [record.delay for record in ended["far"].records] == [3600, None]


async def test_the_delay_of_a_retry_goes_on_while_no_worker_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked: list[float] = []
    original = Interpreter.run

    async def spy(self: Interpreter) -> Any:
        outcome = await original(self)
        if isinstance(outcome, Blocked):
            blocked.append(outcome.delay)
        return outcome

    monkeypatch.setattr(Interpreter, "run", spy)
    workflow: Workflow[Any, Any] = Workflow("delayed")

    @workflow.step(retry=Retry(2, delay=hours(1), jitter=0))
    async def flaky() -> None:
        if context().attempt == 1:
            raise ValueError

    await crash_everywhere(workflow, None, second_crashes=0)
    # Once in each of five runs, and once more where the failure itself was lost. Never anew after it was durable.
    assert blocked == [3600] * 6


async def test_the_recorded_traceback_shows_what_was_handled_when_the_error_came() -> None:
    workflow: Workflow[Any, Any] = Workflow("context")

    @workflow.step
    async def fail() -> None:
        try:
            raise KeyError("the first")
        except KeyError:
            raise ValueError("the second")  # noqa: B904 - the implicit context is what this is about

    failure = (await run(workflow, None)).failure
    assert failure is not None
    assert "KeyError: 'the first'" in failure.traceback
    assert "During handling of the above exception" in failure.traceback


async def test_a_quarantined_step_is_not_tried_again_whatever_its_retry_policy() -> None:
    workflow: Workflow[Any, Any] = Workflow("killer")

    @workflow.step(retry=Retry(10, delay=seconds(0)))
    async def killer() -> None: ...

    ended = await run(workflow, None, crashes=3, max_crashes=3)
    assert ended.failure is not None
    assert ended.failure.type == "durable.errors.WorkerCrashed"
    assert [(record.kind, record.attempt, record.delay) for record in ended.records] == [("failed", 1, None)]
    assert not ended.calls


async def test_a_cancelled_run_cancels_its_body_and_records_nothing_of_it() -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()
    workflow: Workflow[Any, Any] = Workflow("long")

    @workflow.step(retry=Retry(5, delay=seconds(0)))
    async def long() -> None:
        running.set()
        with contextlib.ExitStack() as stack:
            stack.callback(cancelled.set)
            await asyncio.Event().wait()

    task = asyncio.create_task(run(workflow, None))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
