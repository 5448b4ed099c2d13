"""A probe stops where the interpreter would go on, and calls nothing."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from durable import Workflow, assign
from durable.codec import JsonCodec
from durable.engine.context import Context
from durable.engine.journal import History, Record, Subject
from durable.engine.probe import Look, look_ahead
from durable.engine.step_runner import StepRunner
from durable.testing.memory import MemoryJournal, Worker
from tests.engine.trees import INPUT, tree

CODEC = JsonCodec()


async def looks_of(workflow: Workflow[Any, Any], input: Any, *records: Record) -> list[Look]:
    history = History(copy.deepcopy(records))
    subject = Subject("x", workflow.name, CODEC.encode(input), history)
    return await look_ahead(workflow.definition, subject, CODEC)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, derandomize=True)
def test_every_body_that_the_interpreter_calls_was_looked_at_before_by_the_records_of_that_moment(seed: int) -> None:
    async def check() -> None:
        journal = MemoryJournal()
        missed: list[Any] = []

        async def log(here: Context) -> None:
            looks = await looks_of(workflow, INPUT, *journal.records)
            if here.path not in {look.path for look in looks if not look.later}:
                missed.append((here.path, looks))  # an assertion here would be the body's failure

        workflow = tree(seed, log=log)
        await Worker(workflow.definition, CODEC.encode(INPUT), StepRunner(CODEC)).run(journal)
        assert not missed

    asyncio.run(check())


def never(*_: Any) -> Any:
    raise AssertionError("a probe calls nothing")


async def test_what_a_function_that_decides_would_be_given_is_read_and_not_called() -> None:
    workflow = Workflow[Any, Any]("deciding")

    async def body(data: dict[str, int]) -> dict[str, int]:
        return data

    def on(data: dict[str, int]) -> bool:
        return never()

    workflow.step(name="first")(body)
    way = workflow.branch("way", on=on)
    way.case(True).step(name="yes")(body)
    first = Record(1, "first", "completed", 1, '{"n": "five"}')
    (look,) = await looks_of(workflow, {}, first)
    assert look.path == "way"
    assert "expected int, got str" in (look.problem or "")


async def test_arms_are_looked_at_each_for_itself_and_so_is_what_joins_them() -> None:
    workflow = Workflow[Any, Any]("joining")
    both = workflow.parallel("both", into=lambda data, results: never())

    async def one(data: dict[str, Any]) -> dict[str, int]:
        return never()

    async def other(data: dict[str, str]) -> dict[str, Any]:
        return never()

    both.step(one)
    both.step(other)
    looks = await looks_of(workflow, {"n": 1})
    assert sorted((look.path, look.problem is None) for look in looks) == [("both/one", True), ("both/other", False)]
    done = [Record(n, f"both/{arm}", "completed", 1, '{"n": 1}') for n, arm in ((1, "one"), (2, "other"))]
    assert [look.path for look in await looks_of(workflow, {"n": 1}, *done)] == ["both"]


async def test_what_has_to_be_undone_later_is_looked_at_with_the_data_right_after_its_step() -> None:
    async def undo(data: dict[str, int]) -> None: ...

    async def told(data: dict[str, int]) -> None: ...

    async def book(data: Any) -> Any:
        return assign(data, n="five")

    workflow = Workflow[Any, Any]("undoing", on_failure=told)
    workflow.step(compensate=undo)(book)
    workflow.step(name="second")(book)
    booked = Record(1, "book", "completed", 1, '{"n": "five"}')
    looks = {look.path: look for look in await looks_of(workflow, {"n": 1}, booked)}
    assert not looks["second"].later
    assert looks["book/undo"].later
    assert "expected int, got str" in (looks["book/undo"].problem or "")
    assert looks["told"].problem is None
