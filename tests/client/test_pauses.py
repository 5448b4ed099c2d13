"""Pausing and resuming, acts by filter, and the account of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import durable
from durable import Durable, Retry, UnknownExecution, UsageError, Workflow, seconds
from durable.ids import execution_uuid
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

began: list[str] = []
gate = asyncio.Event()

pair = Workflow[Data, Data]("pair")


@pair.step
async def first(data: Data) -> None:
    began.append("first")
    await gate.wait()


@pair.step
async def second(data: Data) -> None:
    began.append("second")


arms = Workflow[Data, Data]("arms")
both = arms.parallel("both")
left = both.arm("left")


@left.step
async def one(data: Data) -> None:
    began.append("one")
    await gate.wait()


@left.step
async def two(data: Data) -> None:
    began.append("two")


@both.step
async def right(data: Data) -> None:
    began.append("right")
    await durable.wait_for_event("go")
    began.append("gone")


waiting = Workflow[Data, Any]("waiting")


@waiting.step
async def waits(data: Data) -> Any:
    began.append("waits")
    return await durable.wait_for_event("go")


retried = Workflow[Data, Data]("retried", retry=Retry(max_attempts=3, delay=seconds(0.3), jitter=0))


@retried.step
async def fails_once(data: Data) -> None:
    began.append("try")
    if began.count("try") == 1:
        raise ValueError("no")


hasty = Workflow[Data, Data]("hasty", timeout=seconds(0.5))


@hasty.step
async def waits_for_ever(data: Data) -> None:
    began.append("hasty")
    await durable.wait_for_event("never")


async def undo(data: Data) -> None:
    began.append("undo")


rounds = Workflow[Data, Data]("rounds")
again = rounds.loop("again", until=lambda data: data["n"] == 2, max_iterations=5)


@again.step
async def turn(data: Data) -> Data:
    began.append("turn")
    await gate.wait()
    return {"n": data["n"] + 1}


undone = Workflow[Data, Data]("undone")


@undone.step(compensate=undo)
async def do(data: Data) -> None:
    began.append("do")


@undone.step
async def then_wait(data: Data) -> None:
    await durable.wait_for_event("never")


@pytest.fixture(autouse=True)
def fresh() -> None:
    global gate
    began.clear()
    gate = asyncio.Event()


@pytest.fixture
async def engine(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Durable]:
    for module in ("durable.runtime.supervisor", "durable.app"):
        monkeypatch.setattr(f"{module}.POLL_HEALTHY", 3600.0)  # what happens was told, not found
    flows = [pair, arms, waiting, retried, rounds, undone]
    async with Durable(database, workflows=flows, queues={"default": 10}) as engine:
        yield engine
    await assert_invariants(database)


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition*, or what it is awaited for, is true."""
    async with asyncio.timeout(20):
        while True:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.005)


async def pause_and_hear(engine: Durable, id: str, reason: str | None = None, by: str | None = None) -> None:
    """Pause what runs here, and wait until its worker knows of it."""
    supervisor = engine.parts().supervisor
    assert supervisor is not None
    owned = supervisor._owned[execution_uuid(id)]
    assert await engine.pause(id, reason, by=by)
    await until(lambda: owned.paused)


async def test_what_runs_comes_to_its_end_and_nothing_new_begins(engine: Durable) -> None:
    handle = await engine.start(pair, {})
    await until(lambda: began)
    await pause_and_hear(engine, handle.id, "look at it", by="ann")
    assert not await handle.pause()
    gate.set()

    async def let_go() -> bool:
        execution = await engine.get_execution(handle.id, include_steps=True)
        return execution.status == "pending" and len(execution.steps or ()) == 1

    await until(let_go)
    execution = await engine.get_execution(handle.id, include_steps=True)
    assert (execution.hold, execution.hold_reason) == ("paused", "look at it")
    assert [(step.path, step.status) for step in execution.steps or ()] == [("first", "completed")]
    assert began == ["first"]
    assert await handle.resume()
    assert not await handle.resume()
    await handle.result(20)
    assert began == ["first", "second"]


async def test_the_last_step_of_an_iteration_that_came_to_its_end_is_not_run_again(engine: Durable) -> None:
    handle = await engine.start(rounds, {"n": 0})
    await until(lambda: began)
    await pause_and_hear(engine, handle.id)
    gate.set()

    async def let_go() -> bool:
        return await handle.status() == "pending"

    await until(let_go)
    await handle.resume()
    assert await handle.result(20) == {"n": 2}
    assert began == ["turn", "turn"]


async def test_arms_that_run_come_to_their_end_and_those_that_wait_keep_their_events(engine: Durable) -> None:
    handle = await engine.start(arms, {})
    await until(lambda: {"one", "right"} <= set(began))
    await pause_and_hear(engine, handle.id)
    await handle.send_event("go")
    gate.set()

    async def let_go() -> bool:
        return await handle.status() == "pending"

    await until(let_go)
    assert "two" not in began
    await handle.resume()
    await handle.result(20)
    assert began.count("one") == 1
    assert {"two", "gone"} <= set(began)


async def test_one_that_waits_stays_paused_when_its_event_comes(engine: Durable) -> None:
    handle = await engine.start(waiting, {})

    async def asleep() -> bool:
        return await handle.status() == "waiting"

    await until(asleep)
    await handle.pause()
    await handle.send_event("go", 5)
    other = await engine.start(waiting, {})
    await other.send_event("go", 6)
    assert await other.result(20) == 6
    assert await handle.status() == "pending"
    await handle.resume()
    assert await handle.result(20) == 5
    assert began.count("waits") <= 4


async def test_one_that_is_to_be_retried_stays_paused_when_its_time_comes(engine: Durable) -> None:
    handle = await engine.start(retried, {})
    await until(lambda: began)
    await handle.pause()
    await asyncio.sleep(0.6)  # its time, and more: that nothing happens has no signal
    assert began == ["try"]
    await handle.resume()
    await handle.result(20)
    assert began == ["try", "try"]


async def test_a_start_that_is_not_due_can_be_paused(engine: Durable) -> None:
    gate.set()
    handle = await engine.start(pair, {}, delay=seconds(0.2))
    assert await handle.pause()
    await asyncio.sleep(0.4)
    assert not began
    await handle.resume()
    await handle.result(20)


async def test_a_cancel_ends_what_is_paused_and_its_compensations_do_not_heed_the_pause(engine: Durable) -> None:
    plain, saga = await engine.start(waiting, {}), await engine.start(undone, {})

    async def asleep() -> bool:
        return {await plain.status(), await saga.status()} == {"waiting"}

    await until(asleep)
    assert (await engine.pause_many(status="waiting")).changed == 2
    assert await plain.cancel("enough", by="bob")
    assert await saga.cancel("enough", compensate=True)
    with pytest.raises(durable.ExecutionFailed):
        await saga.result(20)
    assert await saga.status() == "compensated"
    assert began.count("undo") == 1
    assert not await plain.pause()
    assert not await plain.resume()
    assert (await engine.get_execution(plain.id)).hold is None
    acts = (await engine.list_acts(saga.id)).items
    assert [(act.kind, act.details) for act in acts] == [("cancel", {"compensate": True}), ("pause", None)]


async def test_a_deadline_goes_on_while_it_is_paused(database: str) -> None:
    async with Durable(database, workflows=[hasty]) as engine:
        handle = await engine.start(hasty, {})
        await until(lambda: began)
        assert await handle.pause()
        with pytest.raises(durable.ExecutionFailed, match="DeadlineExceeded"):
            await handle.result(40)


async def test_a_bulk_act_finds_what_fits_and_says_what_it_would_do(engine: Durable) -> None:
    mine = [await engine.start(waiting, {}, tags={"tenant": "a"}, id=f"a{n}") for n in range(3)]
    other = await engine.start(waiting, {}, tags={"tenant": "b"})
    dry = await engine.pause_many(tags={"tenant": "a"}, dry_run=True)
    assert (dry.matched, dry.changed, sorted(dry.ids)) == (3, 0, ["a0", "a1", "a2"])
    assert (await engine.get_execution("a0")).hold is None
    done = await engine.pause_many(tags={"tenant": "a"}, workflow=waiting, limit=2, by="ann", reason="a is late")
    assert (done.matched, done.changed) == (2, 2)
    assert (await engine.pause_many(tags={"tenant": "a"})).changed == 1
    assert (await engine.get_execution(other.id)).hold is None
    past = datetime.now(UTC) - timedelta(hours=1)
    assert (await engine.resume_many(tags={"tenant": "a"}, created_before=past)).matched == 0
    assert (await engine.resume_many(tags={"tenant": "a"}, created_after=past)).changed == 3
    assert (await engine.cancel_many(queue="default", tags={"tenant": "a"})).changed == 3
    assert {await handle.status() for handle in mine} == {"cancelled"}
    with pytest.raises(UsageError, match="say which executions"):
        await engine.cancel_many()
    with pytest.raises(UsageError, match="not for executions that are failed"):
        await engine.cancel_many(status="failed")
    with pytest.raises(UsageError, match="cannot be chosen by colour"):
        await engine.cancel_many(colour="red")  # type: ignore[call-arg]


async def test_acts_are_listed_with_who_when_and_why_by_pages(engine: Durable) -> None:
    handle = await engine.start(waiting, {}, id="mine")
    await handle.pause("first", by="ann")
    await handle.resume("second", by="bob")
    await handle.cancel("third", by="cem")
    page = await engine.list_acts("mine", limit=2)
    rest = await engine.list_acts("mine", limit=2, cursor=page.cursor)
    acts = page.items + rest.items
    assert [(a.kind, a.by, a.reason, a.execution, a.workflow) for a in acts] == [
        ("cancel", "cem", "third", "mine", "waiting"),
        ("resume", "bob", "second", "mine", "waiting"),
        ("pause", "ann", "first", "mine", "waiting"),
    ]
    assert rest.cursor is None
    assert [act.kind for act in (await engine.list_acts()).items] == ["cancel", "resume", "pause"]
    with pytest.raises(UnknownExecution):
        await engine.pause("nobody")
    with pytest.raises(UsageError, match="who acts"):
        await engine.pause("mine", by="")
