"""The crash harness can fail: each kind of fault that it is to find, put into an engine that has none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from durable import Retry, Workflow, context, seconds
from durable.engine import ending
from durable.engine.interpreter import Interpreter
from durable.engine.journal import Past, Record
from durable.engine.strands import Strand
from durable.model.definition import Step
from durable.testing import MemoryJournal, Run, crash_everywhere, run
from durable.testing.comparison import differences
from tests.engine.cases import fails, increment, logs, puts, same, silent, undo

Flow = Workflow[Any, Any]


# --- Steps ----------------------------------------------------------------------------------------------------------


async def test_the_harness_notices_a_body_that_depends_on_the_memory_of_its_worker() -> None:
    workflow, calls = Workflow[Any, Any]("forgetful"), [0]

    @workflow.step
    async def count() -> int:
        calls[0] += 1
        return calls[0]  # 1 uninterrupted, then 2 in the worker that crashes and 3 in the next

    with pytest.raises(AssertionError, match=r"crashed before write 1 was durable:\n- its result is '3'"):
        await crash_everywhere(workflow, None)


def two_steps() -> Workflow[Any, Any]:
    workflow: Workflow[Any, Any] = Workflow("two")

    @workflow.step
    async def first() -> None: ...

    @workflow.step(retry=Retry(2, delay=seconds(0)))
    async def second() -> None:
        if context().attempt == 1:
            raise ValueError

    return workflow


async def test_the_harness_notices_an_engine_that_forgets_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    original = MemoryJournal.claim

    def forgetful(self: MemoryJournal, timeout: float | None) -> Any:
        history, left = original(self, timeout)
        for past in history.by_path.values():
            past.completed = None
        return history, left

    monkeypatch.setattr(MemoryJournal, "claim", forgetful)
    with pytest.raises(AssertionError, match=r"'first' \(attempt 1\) ran although its result was durable"):
        await crash_everywhere(two_steps(), None)


async def test_the_harness_notices_an_engine_that_counts_a_crash_as_an_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = MemoryJournal.claim

    def miscounting(self: MemoryJournal, timeout: float | None) -> Any:
        history, left = original(self, timeout)
        if self.crashes:
            history.add(Record(history.next_seq, "second", "failed", 1, delay=0.0))
        return history, left

    monkeypatch.setattr(MemoryJournal, "claim", miscounting)
    with pytest.raises(AssertionError, match="a crash is not an attempt"):
        await crash_everywhere(two_steps(), None)


async def test_the_harness_notices_an_engine_that_writes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unwritten(self: Interpreter, strand: Strand, *records: Record) -> None:
        for record in records:
            self.subject.history.add(record)

    monkeypatch.setattr(Interpreter, "write", unwritten)
    with pytest.raises(AssertionError):
        await crash_everywhere(two_steps(), None)


# --- Compensations --------------------------------------------------------------------------------------------------


def saga() -> Flow:
    workflow: Flow = Workflow("saga")
    for name in "abc":
        workflow.step(name=name, compensate=undo)(puts(**{name: 1}))
    workflow.step(name="fail", compensate=undo)(fails())
    return workflow


async def test_the_harness_notices_compensations_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ending.to_undo
    monkeypatch.setattr(ending, "to_undo", lambda run: original(run)[::-1])
    with pytest.raises(AssertionError, match=r"the body of 'a/undo' \(attempt 1\) ran before 'c' was undone"):
        await crash_everywhere(saga(), {})


async def test_the_harness_notices_a_compensation_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ending.to_undo
    monkeypatch.setattr(ending, "to_undo", lambda run: original(run)[:2])
    with pytest.raises(AssertionError, match=r"'a' was not undone"):
        await crash_everywhere(saga(), {})


async def test_the_harness_notices_a_compensation_of_what_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(run: Interpreter) -> Iterator[tuple[str, Step, Past]]:
        yield from original(run)
        step = run.definition.body.nodes[-1]
        assert isinstance(step, Step)
        yield "fail", step, Past(note=Record(0, "fail", "started", data_seq=0))

    original = ending._undoable
    monkeypatch.setattr(ending, "_undoable", careless)
    with pytest.raises(
        AssertionError, match=r"'fail/undo' \(attempt 1\) ran although 'fail' was neither completed nor"
    ):
        await crash_everywhere(saga(), {})


async def test_the_harness_notices_a_status_that_hides_a_failed_compensation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hiding(*args: Any) -> Any:
        return await original(*args) or True

    original = ending._undo
    monkeypatch.setattr(ending, "_undo", hiding)

    async def cannot(data: Any) -> None:
        raise KeyError

    workflow: Flow = Workflow("saga")
    workflow.step(name="a", compensate=cannot)(puts(a=1))
    workflow.step(name="fail")(fails())
    with pytest.raises(AssertionError, match="it is compensated, but its journal says compensation_failed"):
        await crash_everywhere(workflow, {})


# --- Composites -----------------------------------------------------------------------------------------------------


async def test_the_harness_notices_an_engine_that_forgets_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    original, asked = MemoryJournal.claim, [0]

    def forgetful(self: MemoryJournal, timeout: float | None) -> Any:
        history, left = original(self, timeout)
        for past in history.by_path.values():
            past.note = None
        return history, left

    def on() -> bool:
        asked[0] += 1
        return asked[0] % 2 == 1

    monkeypatch.setattr(MemoryJournal, "claim", forgetful)
    workflow: Flow = Workflow("choosy")
    kind = workflow.branch("kind", on=on)
    kind.case(True).step(name="step")(silent)
    kind.case(False).step(name="step")(silent)
    with pytest.raises(AssertionError, match=r"'kind/\w+/step' \(attempt 1\) ran although 'kind' had chosen '\w+'"):
        await crash_everywhere(workflow, None)


async def test_the_harness_notices_an_engine_that_forgets_the_iterations_that_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = MemoryJournal.claim

    def forgetful(self: MemoryJournal, timeout: float | None) -> Any:
        history, left = original(self, timeout)
        if (past := history.by_path.get("up")) is not None and past.note is not None:
            past.note = msgspec.structs.replace(past.note, attempt=past.note.attempt - 1)
        return history, left

    monkeypatch.setattr(MemoryJournal, "claim", forgetful)
    workflow: Flow = Workflow("loop")
    workflow.loop("up", until=lambda data: data > 3).step(name="add")(increment)
    with pytest.raises(
        AssertionError, match=r"'up\[0\]/add' \(attempt 1\) ran although 1 iterations of 'up' were over"
    ):
        await crash_everywhere(workflow, 0)


async def test_the_harness_notices_an_engine_that_goes_into_a_node_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = MemoryJournal.claim

    def forgetful(self: MemoryJournal, timeout: float | None) -> Any:
        history, left = original(self, timeout)
        if "both" in history.by_path:
            del history.by_path["both"], history.by_path["both/a"]
        return history, left

    monkeypatch.setattr(MemoryJournal, "claim", forgetful)
    workflow: Flow = Workflow("both")
    both = workflow.parallel("both")
    both.step(name="a")(silent)
    both.step(name="b")(silent)
    workflow.step(name="after")(silent)
    with pytest.raises(AssertionError, match=r"'both/a' \(attempt 1\) ran although 'both' was over"):
        await crash_everywhere(workflow, None)


def counting() -> Any:
    """A body that tells how often it was run."""
    calls = [0]

    async def count(data: Any) -> Any:
        calls[0] += 1
        return {**data, "calls": calls[0]}

    return count


async def test_the_harness_compares_what_is_beside_an_arm_whose_siblings_all_finish() -> None:
    workflow: Flow = Workflow("patient")
    both = workflow.parallel("both", on_error="complete_all", into=lambda: {})
    both.step(name="forgetful")(counting())
    both.step(name="fail")(fails())
    with pytest.raises(AssertionError, match="its records are not the same"):
        await crash_everywhere(workflow, {})


async def test_the_harness_compares_what_is_outside_of_a_node_that_was_raced() -> None:
    workflow: Flow = Workflow("raced")
    workflow.step(name="forgetful")(counting())
    both = workflow.parallel("both")
    both.step(name="fail")(fails())
    both.step(name="other")(same)
    with pytest.raises(AssertionError, match="its records are not the same"):
        await crash_everywhere(workflow, {})


async def test_the_harness_lets_chance_decide_how_far_the_siblings_of_a_failing_arm_come() -> None:
    workflow: Flow = Workflow("raced")
    both = workflow.parallel("both")
    both.step(name="forgetful")(counting())
    arm = both.arm("arm")
    for name in "abc":
        arm.step(name=name)(logs(name))
    both.step(name="fail")(fails())
    await crash_everywhere(workflow, [])
    ended = await run(workflow, [])
    assert ended.status.value == "failed"


def twice(data: Any) -> bool:
    return data["round"] == 2


def rounds(workflow: Flow, until: Callable[[Any], bool] = twice) -> Any:
    """What is passed over when it fails, in each round of a loop."""
    loop = workflow.loop("up", until=until, max_iterations=2)
    loop.step(name="round")(lambda data: {**data, "round": data.get("round", 0) + 1})
    return loop.parallel("all", on_error="complete_all", into=lambda data: data).arm("arm")


async def test_the_harness_lets_chance_decide_what_a_round_that_is_over_keeps_of_a_node_that_was_raced() -> None:
    workflow, kept = Workflow[Any, Any]("raced"), set[bool]()
    both = rounds(workflow).parallel("both")
    arm = both.arm("arm")
    arm.step(name="first")(silent)

    @arm.step(compensate=undo)
    async def book() -> None:  # too late, unless a crash has left it only this to do
        await asyncio.sleep(0)

    @both.step
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    def look(run: Run) -> None:
        found = {record.path for record in run.records}
        kept.add("up[0]/all/arm/both/arm/book" in found)
        assert ("up[0]/round" in found) == ("up[0]/all/arm/both/arm/book" in found)  # it holds the data to undo it with

    await crash_everywhere(workflow, {}, check=look)
    assert kept == {True, False}


async def test_the_harness_compares_what_a_round_that_is_over_keeps_beside_a_node_that_was_raced() -> None:
    workflow: Flow = Workflow("raced")
    arm = rounds(workflow)
    arm.step(name="forgetful", compensate=undo)(counting())
    both = arm.parallel("both")
    both.step(name="fail")(fails())
    both.step(name="other", compensate=undo)(silent)
    with pytest.raises(AssertionError, match=r"its records are not the same: \[\('up\[0\]/all/arm/forgetful'"):
        await crash_everywhere(workflow, {})


async def test_a_node_that_was_raced_in_a_round_that_is_over_does_not_excuse_another_failure() -> None:
    workflow, asked = Workflow[Any, Any]("raced"), [0]

    def until(data: Any) -> bool:
        asked[0] += 1
        if data["round"] == 2:
            raise ValueError(asked[0])
        return False

    both = rounds(workflow, until).parallel("both")
    both.step(name="fail")(fails())
    both.step(name="other")(silent)
    plain, other = await run(workflow, {}), await run(workflow, {})
    for got in (other, replace(other, dropped=[])):  # a database does not tell what was dropped
        found = [*differences(workflow.definition, got, plain)]
        assert found[0].startswith("its failure is ('builtins.ValueError', '4'), but"), found
