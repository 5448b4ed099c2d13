"""Executions that are under way when their code changes: they go on where that is safe, and are held where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, Execution, Status, Workflow
from durable.ids import execution_uuid
from tests.faults.in_process import GUARD

Names = list[str]


class Code:
    """A version of the code of one workflow: steps by name, each of which adds its name. `hold` stops at a step."""

    def __init__(self, *names: str, hold: str | None = None) -> None:
        self.reached = asyncio.Event()
        self.workflow = Workflow[Names, Names]("evolving")
        for name in names:
            self.workflow.step(name=name)(self._body(name, hold == name))

    def _body(self, name: str, hold: bool) -> Callable[[Names], Any]:
        async def body(data: Names) -> Names:
            if hold:
                self.reached.set()
                await asyncio.get_running_loop().create_future()
            return [*data, name]

        return body


async def left_at(database: str, code: Code) -> None:
    """Start an execution, and drain its worker while it is at the step that holds."""
    async with Durable(database, workflows=[code.workflow], drain=timedelta(0)) as engine:
        await engine.start(code.workflow, [], id="x")
        await asyncio.wait_for(code.reached.wait(), GUARD)


async def until(engine: Durable, condition: Callable[[Execution], bool]) -> Execution:
    async with asyncio.timeout(GUARD):
        while True:
            execution = await engine.get_execution("x")
            if condition(execution):
                return execution
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("before", "after", "result"),
    [
        (["a", "b"], ["a", "b", "c"], ["a", "b", "c"]),
        (["a", "b"], ["a", "b2", "b"], ["a", "b2", "b"]),
        (["a", "b", "c"], ["a", "c", "b"], ["a", "c", "b"]),
    ],
    ids=["added at the end", "added before what is to come", "reordered what is to come"],
)
async def test_an_execution_goes_on_under_code_that_only_adds_or_reorders_what_is_to_come(
    database: str, before: list[str], after: list[str], result: list[str]
) -> None:
    await left_at(database, Code(*before, hold="b"))
    changed = Code(*after)
    async with Durable(database, workflows=[changed.workflow]) as engine:
        assert await engine.handle("x", changed.workflow).result(GUARD) == result
        assert (await engine.get_execution("x")).hold is None


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (["a", "c"], 'expected step "b" still to come'),
        (["new", "a", "b"], 'expected step "a" in place 1, found step "new"'),
        (["b"], 'expected step "a" in place 1, found step "b"'),
    ],
    ids=["the next is gone", "one was added before", "one that is done is gone"],
)
async def test_an_execution_whose_code_was_changed_under_it_is_held_and_goes_on_when_the_code_is_back(
    database: str, after: list[str], expected: str
) -> None:
    await left_at(database, Code("a", "b", hold="b"))
    async with Durable(database, workflows=[Code(*after).workflow]) as engine:
        execution = await until(engine, lambda e: e.hold is not None)
        assert execution.hold == "definition"
        assert execution.status is Status.PENDING
        assert expected in (execution.hold_reason or "")
        back = Code("a", "b")
        async with Durable(database, workflows=[back.workflow]) as right:
            assert await right.handle("x", back.workflow).result(GUARD) == ["a", "b"]


async def test_a_worker_that_knows_the_shape_takes_at_once_what_a_newer_one_has_held(database: str) -> None:
    # A rolling deploy: both are there, and whoever claims first, the old code ends it.
    await left_at(database, Code("a", "b", hold="b"))
    old, new = Code("a", "b"), Code("a", "c")
    async with (
        Durable(database, workflows=[new.workflow]) as newer,
        Durable(database, workflows=[old.workflow]) as older,
    ):
        assert await older.handle("x", old.workflow).result(GUARD) == ["a", "b"]
        assert (await newer.get_execution("x")).status is Status.COMPLETED


async def test_versions_that_cannot_go_on_hold_it_once_each(database: str) -> None:
    await left_at(database, Code("a", "b", hold="b"))
    one, other = Code("a", "c").workflow, Code("z", "b").workflow
    async with Durable(database, workflows=[one]) as first, Durable(database, workflows=[other]):
        async with asyncio.timeout(GUARD):
            while True:
                rows = await first.parts().executions.fetch("execution/get", execution_uuid("x"))
                if rows[0]["held_by"] == sorted([one.definition.shape, other.definition.shape]):
                    break
                await asyncio.sleep(0.02)
        assert (await first.get_execution("x")).hold == "definition"


async def test_an_old_worker_does_not_take_what_new_code_has_gone_on_with(database: str) -> None:
    await left_at(database, Code("a", "b", hold="b"))
    new = Code("a", "b", "c", hold="c")
    async with Durable(database, workflows=[new.workflow], drain=timedelta(0)):
        await asyncio.wait_for(new.reached.wait(), GUARD)
    old = Code("a", "b")
    async with Durable(database, workflows=[old.workflow]) as engine:
        await engine.start(old.workflow, [], id="another")
        assert await engine.handle("another", old.workflow).result(GUARD) == ["a", "b"]
        assert (await engine.get_execution("x")).status is Status.PENDING
    latest = Code("a", "b", "c")
    async with Durable(database, workflows=[latest.workflow]) as engine:
        assert await engine.handle("x", latest.workflow).result(GUARD) == ["a", "b", "c"]
