"""What stays bounded however long an execution is: its journal, what the interpreter remembers, and its tasks."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import Workflow
from durable.codec import JsonCodec
from durable.engine.interpreter import Interpreter
from durable.engine.journal import Completed, History, Record, Subject
from durable.engine.step_runner import StepRunner
from durable.testing import MemoryJournal, Point, crash_at
from tests.engine.cases import increment, same, silent, undo

Flow = Workflow[Any, Any]
ITERATIONS = 100_000


class Measured(MemoryJournal):
    """A journal that remembers how much was kept at most: records, and what the interpreter holds of them."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.history = history
        self.recorded = self.kept = self.paths = 0

    async def record(self, *records: Record) -> None:
        await super().record(*records)
        self.recorded += len(records)
        self.kept = max(self.kept, len(self._records))
        known = len(self.history.by_path) + len(self.history.pinned)
        inside = self.history._inside  # pyright: ignore[reportPrivateUsage]
        self.paths = max(self.paths, known + len(inside) + sum(map(len, inside.values())))


async def run_to_the_end(workflow: Flow, journal: MemoryJournal, history: History, input: Any = None) -> Any:
    subject = Subject("memory", "flow", JsonCodec().encode(input), history)
    outcome = await Interpreter(workflow.definition, subject, journal, StepRunner(JsonCodec())).run()
    assert isinstance(outcome, Completed)
    return JsonCodec().decode(outcome.value.text)


async def measured(workflow: Flow, input: Any) -> tuple[Measured, Any]:
    history = History()
    journal = Measured(history)
    return journal, await run_to_the_end(workflow, journal, history, input)


async def test_a_loop_of_100_000_iterations_keeps_as_little_as_one_of_ten() -> None:
    workflow: Flow = Workflow("flow")
    workflow.loop("up", until=lambda data: data >= ITERATIONS).step(increment)
    journal, result = await measured(workflow, 0)
    assert result == ITERATIONS
    assert journal.recorded == ITERATIONS  # one for each; that of the loop itself rides with the end
    assert journal.kept == 2
    assert journal.paths <= 4


async def test_loops_of_every_kind_of_node_keep_no_iteration_that_is_over() -> None:
    def declare(block: Any, name: str) -> None:
        outer = block.loop(name, until=lambda data: data[name] >= 1_500)
        inner = outer.loop("inner", until=lambda data: data[name] % 3 == 0)
        inner.step(name="count")(lambda data: {**data, name: data[name] + 1})
        inner.step(name="same")(silent)
        each = outer.foreach("each", items=lambda: [1, 2, 3], concurrency=2)
        each.step(name="look")(silent)
        both = outer.parallel("both")
        both.arm("a").branch("kind", on=lambda: True).case(True).step(name="step")(same)
        both.step(name="b")(silent)

    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both")
    for name in ("left", "right"):  # beside each other
        declare(both.arm(name), name)
    journal, result = await measured(workflow, {"left": 0, "right": 0})
    assert result == {"left": 1_500, "right": 1_500}
    assert journal.recorded > 5_000
    assert journal.kept < 40
    assert journal.paths < 100


async def test_a_loop_keeps_of_its_iterations_only_what_may_have_to_be_undone() -> None:
    workflow: Flow = Workflow("flow")
    up = workflow.loop("up", until=lambda data: data >= 300, max_iterations=300)
    up.step(name="first")(silent)
    up.step(name="book", compensate=undo)(increment)
    up.step(name="last")(same)
    journal, _ = await measured(workflow, 0)
    assert 300 <= journal.kept < 310


async def test_iterations_that_change_nothing_store_no_data_and_return_none() -> None:
    answers = iter([False, False, False, True])
    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both", merge="collect")
    both.arm("waits").loop("poll", until=lambda: next(answers)).step(name="look")(silent)
    journal, result = await measured(workflow, {"big": "data"})
    assert result == {"waits": None}
    assert [record.value for record in journal.records if record.path.startswith("both/waits")] == [None] * 3


async def test_who_resumes_a_loop_that_has_changed_nothing_goes_on_where_it_was() -> None:
    answers = iter([False, False, True])
    workflow: Flow = Workflow("flow")
    workflow.loop("poll", until=lambda: next(answers)).step(name="look")(silent)
    ended = await crash_at(workflow, {"n": 1}, Point(2, "after"))
    assert ended.result == {"n": 1}
    assert ended.calls == {f"poll[{n}]/look": 1 for n in range(3)}


async def test_a_foreach_runs_no_more_tasks_than_its_concurrency() -> None:
    most, running, seen = 0, 0, 0
    before = len(asyncio.all_tasks())
    workflow: Flow = Workflow("flow")
    each = workflow.foreach("each", items=lambda: list(range(10_000)), concurrency=50, into=lambda _, rs: len(rs.ok))

    @each.step
    async def body(data: Any, item: int) -> int:
        nonlocal most, running, seen
        seen += 1
        running += 1
        assert running <= 50
        if item % 100 == 0:
            most = max(most, len(asyncio.all_tasks()) - before)
        await asyncio.sleep(0)
        running -= 1
        return item

    result = await run_to_the_end(workflow, MemoryJournal(), History())
    assert result == seen == 10_000
    assert 40 < most <= 52


async def test_ten_thousand_items_that_are_recorded_are_passed_over_without_running_any() -> None:
    workflow, called = Workflow[Any, Any]("flow"), list[int]()
    each = workflow.foreach("each", items=lambda: list(range(10_000)), concurrency=50, into=lambda _, rs: len(rs))

    @each.step
    async def body(data: Any, item: int) -> None:
        called.append(item)

    records = [Record(1, "each", "items", value=JsonCodec().encode(list(range(10_000))))]
    records += [Record(n + 2, f"each[{n}]/body", "completed", 1) for n in range(10_000)]
    journal = MemoryJournal()
    assert await run_to_the_end(workflow, journal, History(records)) == 10_000
    assert not called
    assert not journal.records  # the only one rides with the end
