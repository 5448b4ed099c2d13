"""Executions that are under way when their code changes: they go on where that is safe, and are held where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from durable import Durable, Execution, ExecutionFailed, Goto, Queue, Retry, Status, Workflow, context, seconds
from durable.engine.journal import History, Record
from durable.ids import execution_uuid
from durable.model.fingerprint import shape_of
from durable.runtime.code import judged
from durable.runtime.supervisor import Supervisor
from tests.faults.in_process import GUARD

Names = list[str]


class Code:
    """A version of the code of one workflow: steps by name, each of which adds its name. `hold` stops at a step. `undone` says
    what the compensations did, which are called by `undo` after the name of their step; they stop at `hold`, too."""

    def __init__(
        self, *names: str, hold: str | None = None, undo: str | None = None, timeout: timedelta | None = None
    ) -> None:
        self.reached = asyncio.Event()
        self.undone: Names = []
        self.workflow = Workflow[Names, Names]("evolving", timeout=timeout)
        for name in names:
            back = None if undo is None else self._undo(name, f"{undo}_{name}", hold == f"{undo}_{name}")
            self.workflow.step(name=name, compensate=back)(self._body(name, hold == name))

    def _undo(self, name: str, undo: str, hold: bool) -> Callable[[Names], Any]:
        async def body(data: Names) -> None:
            if hold:
                self.reached.set()
                await asyncio.get_running_loop().create_future()
            self.undone.append(name)

        body.__name__ = undo
        return body

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


async def carried_on(database: str, code: Code) -> None:
    """Go on until the step that holds, and drain."""
    async with Durable(database, workflows=[code.workflow], drain=timedelta(0)):
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


async def test_a_worker_hears_of_code_that_comes_after_it_and_goes_on_with_what_that_has_left(database: str) -> None:
    old, new = Code("a"), Code("a", "b")
    async with Durable(database, workflows=[old.workflow], lease=timedelta(seconds=1)) as engine:
        async with Durable(database, workflows=[new.workflow], worker=False) as other:
            await other.start(new.workflow, [], id="x")
        assert await engine.handle("x").result(GUARD) == ["a"]


async def test_a_command_tells_nobody_of_the_code_that_it_has_at_hand(database: str) -> None:
    count = "select count(*) from durable.shape"
    connection = await asyncpg.connect(database)
    engine = Durable(database, workflows=[Code("a").workflow], queues={"default": Queue(concurrency=5, max_depth=10)})
    async with engine.as_client(database) as client:
        assert (await client.list_executions()).items == []
        assert await connection.fetchval(count) == 0
        assert await connection.fetchval("select count(*) from durable.queue") == 0
    async with engine.as_client(database, starts=True) as client:
        await client.start(engine.workflows[0], [], id="x")
        assert await connection.fetchval(count) == 1
    await connection.close()


async def test_a_limit_of_iterations_that_is_made_smaller_counts_for_what_is_beyond_it(database: str) -> None:
    reached = asyncio.Event()

    def rounds(limit: int, *, hold: bool) -> Workflow[int, int]:
        workflow = Workflow[int, int]("evolving")
        again = workflow.loop("again", until=lambda data: data >= 100, max_iterations=limit)

        @again.step
        async def one(data: int) -> int:
            if hold and data == 3:
                reached.set()
                await asyncio.get_running_loop().create_future()
            return data + 1

        return workflow

    async with Durable(database, workflows=[old := rounds(50, hold=True)], drain=timedelta(0)) as engine:
        await engine.start(old, 0, id="x")
        await asyncio.wait_for(reached.wait(), GUARD)
    async with Durable(database, workflows=[rounds(2, hold=False)]) as engine:
        with pytest.raises(ExecutionFailed, match="did not come to its end within its 4 iterations"):
            await engine.handle("x").result(GUARD)


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
    await carried_on(database, Code("a", "b", "c", hold="c"))
    old = Code("a", "b")
    async with Durable(database, workflows=[old.workflow]) as engine:
        await engine.start(old.workflow, [], id="another")
        assert await engine.handle("another", old.workflow).result(GUARD) == ["a", "b"]
        assert (await engine.get_execution("x")).status is Status.PENDING
    latest = Code("a", "b", "c")
    async with Durable(database, workflows=[latest.workflow]) as engine:
        assert await engine.handle("x", latest.workflow).result(GUARD) == ["a", "b", "c"]


async def test_code_that_is_taken_back_before_it_did_anything_of_its_own_leaves_executions_to_the_old(
    database: str,
) -> None:
    await left_at(database, Code("a", "b", hold="b"))
    await carried_on(database, Code("a", "b", "c", hold="b"))
    old = Code("a", "b")
    async with Durable(database, workflows=[old.workflow]) as engine:
        assert await engine.handle("x", old.workflow).result(GUARD) == ["a", "b"]


async def test_an_old_worker_does_not_take_what_a_goto_has_led_to_new_code(database: str) -> None:
    def code(*more: str, reached: asyncio.Event) -> Workflow[Names, Names]:
        workflow = Workflow[Names, Names]("jumping")

        @workflow.decision
        async def choose(data: Names) -> Names | Goto:
            if not reached.is_set():
                reached.set()
                await asyncio.get_running_loop().create_future()
            return Goto(more[-1], [*data, "jumped"]) if more else data

        for name in ("last", *more):

            async def body(data: Names, name: str = name) -> Names:
                if name == "more":
                    holding.set()
                    await asyncio.get_running_loop().create_future()
                return [*data, name]

            workflow.step(name=name)(body)
        return workflow

    holding, passed = asyncio.Event(), asyncio.Event()
    begun = code(reached=asyncio.Event())
    async with Durable(database, workflows=[begun], drain=timedelta(0)) as engine:
        handle = await engine.start(begun, [], id="x")
        async with asyncio.timeout(GUARD):
            while await handle.status() is not Status.RUNNING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
    passed.set()
    async with Durable(database, workflows=[code("more", reached=passed)], drain=timedelta(0)) as engine:
        await asyncio.wait_for(holding.wait(), GUARD)
    old = code(reached=passed)
    async with Durable(database, workflows=[old]) as engine:
        other = await engine.start(old, [], id="another")
        assert await other.result(GUARD) == ["last"]
        assert (await engine.get_execution("x")).status is Status.PENDING


async def test_a_compensation_that_is_renamed_while_it_is_being_run_is_not_run_again(database: str) -> None:
    old = Code("a", "b", "c", hold="back_a", undo="back")
    old.workflow = fails_at_the_end(old.workflow)
    await left_at(database, old)
    assert old.undone == ["c", "b"]
    new = Code("a", "b", "c", undo="renamed")
    async with Durable(database, workflows=[fails_at_the_end(new.workflow)]) as engine:
        await until(engine, lambda e: e.status.ended)
        assert (await engine.get_execution("x")).status is Status.COMPENSATED
    assert new.undone == ["a"]


async def test_a_step_of_on_failure_that_is_renamed_goes_on_where_it_was(database: str) -> None:
    attempts: list[tuple[str, int]] = []

    def code(name: str) -> Workflow[Names, Names]:
        async def tell(data: Names) -> None:
            attempts.append((name, context().attempt))
            if len(attempts) == 1:
                raise ConnectionError("later")

        tell.__name__ = name
        workflow = Workflow[Names, Names]("told", on_failure=tell, retry=Retry(2, delay=seconds(0.4)))

        @workflow.step(retry=Retry(1))
        async def fail(data: Names) -> None:
            raise ValueError("no")

        return workflow

    old, new = code("tell"), code("renamed")
    async with Durable(database, workflows=[old]) as engine:
        handle = await engine.start(old, [], id="x")
        async with asyncio.timeout(GUARD):
            while not attempts or await handle.status() is not Status.COMPENSATING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        if len(attempts) > 1:
            pytest.skip("this machine was too slow to change the code between two attempts")
    async with Durable(database, workflows=[new]) as engine:
        await until(engine, lambda e: e.status.ended)
    assert attempts == [("tell", 1), ("renamed", 2)]


async def test_what_is_only_to_be_undone_is_not_held_because_of_steps_that_it_will_never_run(database: str) -> None:
    await left_at(database, Code("a", "b", hold="b", undo="back"))
    new = Code("a", "z", undo="back")
    async with Durable(database, workflows=[new.workflow]) as engine:
        await until(engine, lambda e: e.hold is not None)
        assert await engine.cancel("x", "never mind", compensate=True)
        execution = await until(engine, lambda e: e.status.ended)
        assert execution.status is Status.COMPENSATED
    assert new.undone == ["a"]


@pytest.mark.parametrize("undoable", [True, False])
async def test_what_is_asked_to_be_undone_while_it_is_being_held_is_judged_again(
    database: str, monkeypatch: pytest.MonkeyPatch, undoable: bool
) -> None:
    await left_at(database, Code("a", "b", hold="b", undo="back"))
    new = Code("a", "z", undo="back") if undoable else Code("z", "b", undo="back")
    hold, asked = Supervisor._hold, 0
    async with Durable(database, worker=False) as client:

        async def after_the_request(*arguments: Any, **options: Any) -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                assert await client.cancel("x", "never mind", compensate=True)
            await hold(*arguments, **options)

        monkeypatch.setattr(Supervisor, "_hold", after_the_request)
        async with Durable(database, workflows=[new.workflow]):
            if undoable:
                await until(client, lambda e: e.status is Status.COMPENSATED)
                assert new.undone == ["a"]
            else:
                await until(client, lambda e: "may have to be undone" in (e.hold_reason or ""))
                assert asked == 2


async def test_what_is_to_be_undone_is_held_while_a_step_is_gone_that_may_have_a_compensation(database: str) -> None:
    await left_at(database, Code("a", "b", hold="b", undo="back"))
    async with Durable(database, workflows=[Code("b", undo="back").workflow]) as engine:
        await until(engine, lambda e: e.hold is not None)
        assert await engine.cancel("x", "never mind", compensate=True)
        execution = await until(engine, lambda e: e.hold is not None and "undone" in (e.hold_reason or ""))
        assert 'expected step "a", which may have to be undone, found none' in (execution.hold_reason or "")
    back = Code("a", "b", undo="back")
    async with Durable(database, workflows=[back.workflow]) as engine:
        await until(engine, lambda e: e.status is Status.COMPENSATED)
    assert back.undone == ["a"]


async def test_a_held_execution_is_ended_by_its_deadline(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 0.2)
    await left_at(database, Code("a", "b", hold="b", undo="back", timeout=timedelta(seconds=2)))
    new = Code("a", "z", undo="back", timeout=timedelta(seconds=2))
    async with Durable(database, workflows=[new.workflow]) as engine:
        execution = await until(engine, lambda e: e.status.ended)
        assert execution.status is Status.COMPENSATED
        assert execution.error is not None
        assert execution.error.type == "durable.errors.DeadlineExceeded"
    assert new.undone == ["a"]


async def test_a_held_execution_that_cannot_be_ended_by_its_deadline_is_asked_about_once_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 0.1)
    await left_at(database, Code("a", "b", hold="b", timeout=timedelta(seconds=1)))
    held = 0
    new = Code("z", "b", timeout=timedelta(seconds=1))
    async with Durable(database, workflows=[new.workflow]) as engine:
        supervisor = engine.parts().supervisor
        assert supervisor is not None
        hold = supervisor._hold

        async def counted(*arguments: Any, **options: Any) -> None:
            nonlocal held
            held += 1
            await hold(*arguments, **options)

        monkeypatch.setattr(supervisor, "_hold", counted)
        await until(engine, lambda e: "may have to be undone" in (e.hold_reason or ""))
        before = held
        other = await engine.start(new.workflow, [], id="another")
        assert await other.result(GUARD) == ["z", "b"]
        await asyncio.sleep(0.5)  # several polls
        assert held == before


def fails_at_the_end(workflow: Workflow[Names, Names]) -> Workflow[Names, Names]:
    @workflow.step
    async def fail(data: Names) -> Names:
        raise ValueError("no")

    return workflow


# --- Judged without an engine ----------------------------------------------------------------------------------------


def round_trips(*names: str) -> Workflow[Any, Any]:
    """A loop over the steps of these names, then a step."""
    workflow = Workflow[Any, Any]("rounds")
    rounds = workflow.loop("rounds", until=lambda: True)
    for name in names:
        rounds.step(name=name)(same)
    workflow.step(name="last")(same)
    return workflow


def at_once(*names: str) -> Workflow[Any, Any]:
    """A parallel of the steps of these names, then a step."""
    workflow = Workflow[Any, Any]("arms")
    arms = workflow.parallel("arms")
    for name in names:
        arms.step(name=name)(same)
    workflow.step(name="last")(same)
    return workflow


async def same(data: Any) -> Any:
    return data


def refusal(before: Workflow[Any, Any], after: Workflow[Any, Any], *records: Record) -> str | None:
    definition, stored = after.definition, before.definition
    known = {(definition.name, definition.version): definition}
    codes = judged(known, [(stored.shape, stored.name, stored.version, shape_of(stored))])
    return codes[stored.shape].refuses(History(records), ending=False)


def test_iterations_that_are_over_do_not_hold_an_execution_though_a_step_of_theirs_is_kept_alone() -> None:
    # The first round's `pay` is kept, for it may have to be undone; `look` was taken away with the round.
    kept = Record(2, "rounds[0]/pay", "completed", 1)
    over = Record(3, "rounds", "iterated", 1)
    before, after = round_trips("look", "pay"), round_trips("look", "pay", "tell")
    assert refusal(before, after, kept, over) is None
    assert "pay" in (refusal(before, round_trips("look"), kept, over) or "")
    now = Record(4, "rounds[1]/look", "completed", 1)
    assert "still to come" in (refusal(before, round_trips("look", "other"), over, now) or "")


def test_a_node_that_is_over_may_have_changed_inside() -> None:
    user, whole = Record(1, "arms/user", "completed", 1), Record(3, "arms", "completed")
    before, after = at_once("user", "orders"), at_once("user", "invoices")
    assert refusal(before, after, user, whole) is None
    assert 'arm "orders"' in (refusal(before, after, user) or "")
