"""What runs at the same time within one execution: how it stops, sleeps, is drained, and what it must not leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import defaultdict
from typing import Any

import pytest

from durable import ItemResults, Retry, Workflow, context, hours, seconds
from durable.codec import JsonCodec
from durable.engine.interpreter import Interpreter
from durable.engine.journal import Blocked, Completed, Outcome, Record, Subject
from durable.engine.step_runner import StepRunner
from durable.errors import ClaimLost, Interruption
from durable.testing import MemoryJournal, Point, crash_at, crash_everywhere, run
from tests.engine.cases import fail_until, fails, hangs, puts, silent, undo

Flow = Workflow[Any, Any]
FAR = Retry(3, backoff="constant", delay=hours(1))
GUARD = 60  # seconds


class Guarded(MemoryJournal):
    """A journal that says no when it is told to, and tells what is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.draining = False
        self.lost: str | None = None  # the path whose record is refused
        self.recorded: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def may_begin(self) -> None:
        if self.draining:
            raise Interruption("the worker drains")
        super().may_begin()

    async def record(self, *records: Record) -> None:
        for record in records:
            if record.path == self.lost:
                raise ClaimLost("taken over")
            await super().record(record)
            self.recorded[record.path].set()


def interpreter(workflow: Flow, journal: MemoryJournal, input: str = "{}") -> Interpreter:
    definition = workflow.definition
    history, _ = journal.claim(None)
    subject = Subject("memory", definition.name, input, history, crashes=journal.crashes)
    return Interpreter(definition, subject, journal, StepRunner(JsonCodec()))


async def go_on(workflow: Flow, journal: MemoryJournal) -> Outcome:
    async with asyncio.timeout(GUARD):
        return await interpreter(workflow, journal).run()


def paths(journal: MemoryJournal) -> list[str]:
    return sorted(record.path for record in journal.records)


# --- Cancellation ---------------------------------------------------------------------------------------------------


async def test_a_failed_parallel_leaves_its_task_uncancelled() -> None:
    # TaskGroup of Python 3.11 does not take back the cancel with which it wakes its own task; then one in a body goes wrong.
    workflow: Flow = Workflow("flow")
    each = workflow.foreach("each", items=lambda: [0, 1], on_error="continue", into=lambda _, rs: rs.ok)
    both = each.branch("kind", on=lambda _, item: item)
    failing = both.case(0).parallel("both")
    failing.step(name="fail")(fails())
    failing.step(name="hangs")(hangs)

    @both.case(1).step
    async def look() -> Any:
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    report = await crash_everywhere(workflow, {})
    assert report.uninterrupted.result == [0]


async def test_a_compensation_after_a_failed_parallel_runs_in_an_uncancelled_task() -> None:
    workflow, counts = Workflow[Any, Any]("flow"), list[int]()

    async def count() -> None:
        task = asyncio.current_task()
        assert task is not None
        counts.append(task.cancelling())

    workflow.step(name="first", compensate=count)(silent)
    both = workflow.parallel("both")
    both.step(name="fail")(fails())
    both.step(name="hangs")(hangs)
    await run(workflow, None)
    assert counts == [0]


async def test_a_sibling_that_swallows_its_cancellation_begins_nothing_more() -> None:
    workflow, running = Workflow[Any, Any]("flow"), asyncio.Event()
    both = workflow.parallel("both")
    arm = both.arm("arm")

    @arm.step(compensate=undo)
    async def deaf() -> dict[str, bool]:
        running.set()
        with contextlib.suppress(asyncio.CancelledError):
            await hangs()
        return {"done": True}

    arm.step(name="never")(silent)

    @both.step
    async def fail() -> None:
        await running.wait()
        raise ValueError

    ended = await run(workflow, {})
    assert "both/arm/never" not in ended.calls
    assert ended.calls["both/arm/deaf/undo"] == 1  # what it did is known, so it is undone


async def test_a_sibling_that_fails_while_it_is_ended_is_recorded_as_well() -> None:
    workflow, running = Workflow[Any, Any]("flow"), asyncio.Event()
    both = workflow.parallel("both")

    @both.step
    async def awkward() -> None:
        running.set()
        try:
            await hangs()
        except asyncio.CancelledError:
            raise ValueError("in its cleanup") from None

    @both.step
    async def fail() -> None:
        await running.wait()
        raise ValueError("the first")

    ended = await run(workflow, {})
    assert ended.failure is not None
    assert ended.failure.message == "the first"
    assert {record.path for record in ended.records} == {"both", "both/awkward", "both/fail"}


async def test_a_step_that_a_failing_sibling_keeps_from_beginning_is_not_undone() -> None:
    class Slow(MemoryJournal):
        """A journal in which one write lasts until the sibling has failed."""

        async def record(self, *records: Record) -> None:
            await super().record(*records)
            if records[0].path == "both/arm/first":
                writing.set()
                with contextlib.suppress(asyncio.CancelledError):  # a write is not interrupted
                    await hangs()

    workflow, journal, writing = Workflow[Any, Any]("flow"), Slow(), asyncio.Event()
    both = workflow.parallel("both")
    arm = both.arm("arm")
    arm.step(name="first", compensate=undo)(silent)
    arm.step(name="never", compensate=undo, compensate_on="started")(silent)

    @both.step
    async def fail() -> None:
        await writing.wait()
        raise ValueError

    await go_on(workflow, journal)
    assert paths(journal) == ["", "both", "both/arm/first", "both/arm/first/undo", "both/fail"]


async def test_cancelling_a_run_cancels_all_that_runs_at_the_same_time() -> None:
    workflow, seen, running = Workflow[Any, Any]("flow"), list[int](), asyncio.Semaphore(0)
    rows = workflow.foreach("rows", items=lambda: [0, 1, 2], concurrency=3)
    both = rows.parallel("both")

    async def body(_: Any, item: int) -> None:
        running.release()
        try:
            await hangs()
        finally:
            seen.append(item)

    both.step(name="one")(body)
    both.arm("arm").step(name="two")(body)
    task = asyncio.create_task(run(workflow, None))
    for _ in range(6):
        await running.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]


class Stubborn(Guarded):
    """A journal whose writes last for ever, and are given up only when the execution is stopped."""

    async def record(self, record: Record) -> None:
        if record.path != "outer/arm/inner/writes":
            return await super().record(record)
        self.recorded["begun"].set()
        while True:
            try:
                await hangs()
            except asyncio.CancelledError:
                if self.stopping():
                    raise


async def test_who_was_ended_by_a_sibling_and_is_still_writing_is_stopped_with_the_execution() -> None:
    workflow, journal = Workflow[Any, Any]("flow"), Stubborn()
    outer = workflow.parallel("outer")
    inner = outer.arm("arm").parallel("inner")
    inner.step(name="writes")(silent)
    inner.step(name="other")(silent)

    @outer.step
    async def fail() -> None:
        await journal.recorded["begun"].wait()
        raise ValueError

    task = asyncio.create_task(go_on(workflow, journal))
    await journal.recorded["begun"].wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    journal.stop()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=GUARD)
    assert done


async def test_a_lost_claim_ends_all_that_runs_at_the_same_time() -> None:
    workflow, journal, seen = Workflow[Any, Any]("flow"), Guarded(), list[str]()
    running = asyncio.Event()
    journal.lost = "both/quick"
    both = workflow.parallel("both", on_error="complete_all")
    both.step(name="quick")(running.wait)

    @both.step
    async def slow() -> None:
        running.set()
        try:
            await hangs()
        finally:
            seen.append("ended")

    with pytest.raises(ClaimLost):
        await go_on(workflow, journal)
    assert seen == ["ended"]
    assert not journal.records


async def test_a_deadline_that_strikes_while_it_is_being_undone_changes_nothing() -> None:
    workflow, journal = Workflow[Any, Any]("flow", timeout=hours(9)), MemoryJournal()
    workflow.compensation(name="undo", retry=FAR)(undo_in_the_end)
    workflow.step(name="book", compensate=undo_in_the_end)(puts(n=1))
    workflow.step(name="fail")(fails("the first failure"))
    for end in ("deadline_exceeded", "undo"):
        run = interpreter(workflow, journal)
        outcome = await run.run()
        assert isinstance(outcome, Blocked)
        assert run.failure is not None
        again = await (run.deadline_exceeded(outcome) if end == "deadline_exceeded" else run.undo("by hand", outcome))
        assert isinstance(again, Blocked)
        assert run.failure.message == "the first failure"
    assert [record.path for record in journal.records if record.kind == "failing"] == [""]


async def undo_in_the_end() -> None:
    fail_until(3)


# --- Draining and sleeping ------------------------------------------------------------------------------------------


async def test_a_drain_lets_every_body_come_to_its_end_and_begins_none() -> None:
    workflow, journal = Workflow[Any, Any]("flow"), Guarded()
    running, release = asyncio.Semaphore(0), asyncio.Event()

    async def body(data: Any) -> Any:
        running.release()
        await release.wait()
        return data

    both = workflow.parallel("both")
    for name in "ab":
        arm = both.arm(name)
        arm.step(name="one")(body)
        arm.step(name="two")(silent)
    task = asyncio.create_task(go_on(workflow, journal))
    for _ in "ab":
        await running.acquire()
    journal.draining = True
    release.set()
    with pytest.raises(Interruption):
        await task
    assert paths(journal) == ["both/a/one", "both/b/one"]
    journal.draining = False
    assert isinstance(await go_on(workflow, journal), Completed)
    assert running.locked()  # neither ran again


class Napping(Guarded):
    """A journal in which pauses end when it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        await self.over.wait()


async def test_the_execution_lets_go_when_all_that_is_left_sleeps_and_wakes_for_the_first() -> None:
    workflow, journal, busy = Workflow[Any, Any]("flow"), Napping(), asyncio.Event()
    both = workflow.parallel("both")
    for name, delay in (("a", hours(3)), ("b", hours(2))):
        both.step(name=name, retry=Retry(2, delay=delay, max_delay=delay, jitter=0))(fails(attempts=1))
    each = both.arm("c").foreach("each", items=lambda: [0, 1], concurrency=2)
    each.step(name="step", retry=Retry(2, delay=hours(4), max_delay=hours(4), jitter=0))(fails(attempts=1))

    @both.step
    async def long() -> None:
        await busy.wait()

    task = asyncio.create_task(go_on(workflow, journal))
    for path in ("both/a", "both/b", "both/c/each[0]/step", "both/c/each[1]/step"):
        await journal.recorded[path].wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()  # one is busy
    busy.set()
    outcome = await task
    assert isinstance(outcome, Blocked)
    assert outcome.record is None
    assert 7100 < outcome.delay <= 7200


async def test_who_sleeps_stays_asleep_when_others_are_ended_by_a_failure_that_is_handled() -> None:
    workflow, journal, woken = Workflow[Any, Any]("flow"), Napping(), asyncio.Event()
    both = workflow.parallel("both")

    @both.step(retry=FAR)
    async def sleeps() -> None:
        fail_until(2)
        woken.set()

    each = both.arm("arm").foreach("each", items=lambda: ["fails", "goes on"], on_error="continue")
    kind = each.branch("kind", on=lambda _, item: item)
    inner = kind.case("fails").parallel("inner")
    inner.step(name="sleeps", retry=FAR)(fails())

    @inner.step
    async def fail() -> None:
        for path in ("both/sleeps", "both/arm/each[0]/kind/fails/inner/sleeps"):
            await journal.recorded[path].wait()
        raise ValueError

    on = kind.case("goes on").parallel("on")
    on.step(name="short")(silent)

    @on.step
    async def last() -> None:
        await journal.recorded["both/arm/each[1]/kind/goes on/on/short"].wait()
        for _ in range(9):
            await asyncio.sleep(0)
        journal.over.set()
        await woken.wait()

    assert isinstance(await go_on(workflow, journal), Completed)


class Hurrying(MemoryJournal):
    """A journal in which long pauses pass, too, while others are busy."""

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_one_strand_of_many_sleeps_in_place_while_others_are_busy() -> None:
    workflow, journal = Workflow[Any, Any]("flow"), Hurrying()
    slept = asyncio.Event()
    both = workflow.parallel("both")

    @both.step(retry=FAR)
    async def flaky() -> None:
        fail_until(2)
        slept.set()

    @both.step
    async def long() -> None:
        await slept.wait()

    assert isinstance(await go_on(workflow, journal), Completed)


# --- Crashes of workers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["branch", "foreach", "loop", "parallel"])
async def test_a_rule_that_kills_its_workers_is_not_asked_for_ever(node: str) -> None:
    asked: list[str] = []

    def rule() -> Any:
        asked.append(node)

    workflow: Flow = Workflow("flow")
    match node:
        case "branch":
            workflow.branch("node", on=rule).case(None).step(name="step")(silent)
        case "foreach":
            workflow.foreach("node", items=rule).step(name="step")(silent)
        case "loop":
            workflow.loop("node", until=rule).step(name="step")(silent)
        case _:
            workflow.parallel("node", into=rule).step(name="step")(silent)
    # The worker dies while the rule is asked: its answer is the next record.
    at = Point(2 if node in ("loop", "parallel") else 1, "before")
    rest = [Point(1, "before")] * 2
    if node == "loop":  # whose last step is recorded with what the rule says
        at = Point(1, "before")
    ended = await crash_at(workflow, None, at, *rest, max_crashes=3)
    assert ended.failure is not None
    assert ended.failure.type == "durable.errors.WorkerCrashed"
    assert ended.failure.message.startswith("'node" if node != "loop" else "'node[0]/step'")
    assert len(asked) == 3


async def test_who_sleeps_is_not_blamed_for_crashes() -> None:
    workflow, journal = Workflow[Any, Any]("flow"), Napping()
    both = workflow.parallel("both", on_error="complete_all", into=lambda _, rs: sorted(rs.errors))
    both.step(name="sleeps", retry=FAR)(fails(attempts=1))
    both.step(name="kills")(silent)
    await journal.record(Record(1, "both/sleeps", "failed", 1, error='{"type":"x","message":"y"}', delay=3600))
    journal.crashes = 5
    assert isinstance(await go_on(workflow, journal), Blocked)
    final = {record.path for record in journal.records if record.delay is None}
    assert final == {"both/kills"}


# --- Rules ----------------------------------------------------------------------------------------------------------

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_context_variable_that_a_rule_sets_is_felt_by_nothing_after_it(kind: str) -> None:
    def plain() -> bool:
        COLOUR.set("red")
        return True

    async def of_the_loop() -> bool:
        COLOUR.set("red")
        await asyncio.sleep(0)
        assert COLOUR.get() == "red"
        return True

    rule = plain if kind == "def" else of_the_loop
    workflow: Flow = Workflow("flow")
    workflow.branch("kind", on=rule).case(True).step(name="look")(lambda: COLOUR.get())
    workflow.loop("up", until=rule).step(name="same")(silent)
    workflow.step(name="again")(lambda data: [data, COLOUR.get()])
    report = await crash_everywhere(workflow, None)
    assert report.uninterrupted.result == ["none", "none"]


async def test_a_rule_is_outside_of_any_step() -> None:
    workflow: Flow = Workflow("flow")
    workflow.branch("kind", on=lambda: context().path).case("never").step(name="never")(silent)
    failure = (await run(workflow, None)).failure
    assert failure is not None
    assert failure.type == "durable.errors.UsageError"


async def test_a_rule_cannot_change_the_data() -> None:
    def spoil(data: Any) -> Any:
        data["n"] = 99
        return None

    def spoil_all(data: Any, results: ItemResults) -> None:
        data["n"] = results.ok[0]["n"] = 99

    workflow: Flow = Workflow("flow")
    workflow.branch("kind", on=spoil).case(None).step(name="step")(silent)
    workflow.foreach("each", items=lambda data: [spoil(data)], into=spoil_all).step(name="step")(puts(m=1))
    workflow.loop("up", until=lambda data: not spoil(data)).step(name="step")(silent)
    assert (await crash_everywhere(workflow, {"n": 1})).uninterrupted.result == {"n": 1}


async def test_a_rule_that_cancels_itself_fails_its_node() -> None:
    async def selfish() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both", on_error="complete_all", into=lambda _, rs: [e.type for e in rs.errors.values()])
    both.arm("a").branch("kind", on=selfish).case(None).step(name="never")(silent)
    both.step(name="b", timeout=seconds(60))(silent)
    ended = await run(workflow, None)
    assert ended.result == ["durable.errors.StepAborted"]


async def test_a_strand_that_hears_of_the_stop_alone_stops_the_execution() -> None:
    # Its parent was cancelled before, and a body has swallowed that: nothing may go on as if the arm had ended.
    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both")
    journal = Guarded()

    @both.step
    async def stopped() -> Any:
        journal.stop()
        raise asyncio.CancelledError

    both.step(name="other")(silent)
    workflow.step(name="after")(fails())
    with pytest.raises(asyncio.CancelledError):
        await go_on(workflow, journal)
    assert "after" not in paths(journal)
