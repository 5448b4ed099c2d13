"""`fork`: a new execution with what another has done before a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

import durable
from durable import Durable, ExecutionFailed, Goto, IdConflict, UnknownExecution, UsageError, Workflow, assign
from tests.support.invariants import assert_invariants

Data = dict[str, Any]
did: list[str] = []

flow = Workflow[Data, Data]("flow")


@flow.step
async def first(data: Data) -> Data:
    did.append("first")
    return assign(data, first=len(did))


both = flow.parallel("both")


@both.step
async def left(data: Data) -> Data:
    did.append("left")
    return assign(data, left=await durable.run(answer))


@both.step
async def right(data: Data) -> Data:
    did.append("right")
    return assign(data, right=True)


async def answer() -> int:
    did.append("answer")
    return 42


@flow.step
async def silent(data: Data) -> None:
    did.append("silent")


@flow.step
async def last(data: Data) -> Data:
    did.append("last")
    if data.get("bad"):
        raise ValueError("bad")
    return assign(data, last=True)


async def notify(data: Any) -> None:
    did.append("notify")


paid = Workflow[Data, Data]("paid", on_failure=notify)


@paid.step
async def take_order(data: Data) -> Data:
    return data


@paid.step
async def fails_to_pay(data: Data) -> Data:
    raise ValueError("no money")


@paid.step
async def ship(data: Data) -> Data:
    return data


begins = Workflow[Data, Any]("begins")
listens = Workflow[Data, Any]("listens")


@listens.step
async def listen(data: Data) -> Any:
    return await durable.wait_for_event("go")


@begins.step
async def begin(data: Data) -> durable.Child[Any]:
    return await durable.start_workflow(listens, data)


@begins.step
async def collect(child: durable.Child[Any]) -> Any:
    return await child.result()


rounds = Workflow[Data, Data]("rounds")


@rounds.step
async def work(data: Data) -> Data:
    did.append("work")
    return assign(data, n=data["n"] + 1)


@rounds.decision
async def check(data: Data) -> Any:
    did.append(f"check {data['n']}")
    return data if data["n"] >= 3 else Goto("work", data)


async def undo(data: Data) -> None:
    did.append(f"undo {data['seat']}")


saga = Workflow[Data, Data]("saga")


@saga.step(compensate=undo)
async def book(data: Data) -> Data:
    return assign(data, seat=7)


@saga.step
async def pay(data: Data) -> Data:
    if not data.get("money"):
        raise ValueError("no money")
    return data


@dataclass
class Order:
    id: int
    total: int


typed = Workflow[Order, Order]("typed")


@typed.step
async def add(order: Order) -> Order:
    return Order(order.id, order.total + 1)


@typed.step
async def twice(order: Order) -> Order:
    return Order(order.id, order.total * 2)


@pytest.fixture(autouse=True)
def fresh() -> None:
    did.clear()


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Durable]:
    async with Durable(database, workflows=[flow, rounds, saga, typed, paid, begins, listens]) as engine:
        yield engine
    await assert_invariants(database)


async def test_a_fork_does_what_comes_from_its_node_on_and_nothing_before(engine: Durable) -> None:
    handle = await engine.start(flow, {"bad": True}, tags={"tenant": "a"})
    with pytest.raises(ExecutionFailed):
        await handle.result(20)
    did.clear()
    fork = await engine.fork(handle.id, from_step="last", data={"mended": True}, reason="the data was bad", by="ann")
    assert await fork.result(20) == {"mended": True, "last": True}
    assert did == ["last"]
    assert await handle.status() == "failed"
    execution = await engine.get_execution(fork.id, include_steps=True)
    assert execution.tags == {"tenant": "a", "durable.forked_from": handle.id}
    assert [step.path for step in execution.steps or ()][-1] == "last"
    (act,) = (await engine.list_acts(handle.id)).items
    assert (act.kind, act.by, act.details) == (
        "fork",
        "ann",
        {"fork": fork.id, "from_step": "last", "edited": True},
    )


async def test_a_fork_without_data_goes_on_with_what_was_there(engine: Durable) -> None:
    handle = await engine.start(flow, {})
    result = await handle.result(20)
    for node, done in (
        ("last", ["last"]),
        ("silent", ["last", "silent"]),
        ("both", ["answer", "last", "left", "right", "silent"]),
        (None, ["answer", "first", "last", "left", "right", "silent"]),
    ):
        did.clear()
        again = await engine.fork(handle.id, from_step=node)
        assert await again.result(20) == result | {"first": 1}
        assert sorted(did) == done
    fork = await engine.fork(handle.id, from_step="both", data={"other": 1})
    await fork.result(20)
    did.clear()
    again = await engine.fork(fork.id, from_step="silent")  # a fork of a fork keeps what that was given
    assert await again.result(20) == {"other": 1, "left": 42, "right": True, "last": True}


async def test_a_fork_can_begin_at_a_later_visit(engine: Durable) -> None:
    handle = await engine.start(rounds, {"n": 0})
    assert await handle.result(20) == {"n": 3}
    did.clear()
    fork = await engine.fork(handle.id, from_step="check#2", data={"n": 1})
    assert await fork.result(20) == {"n": 3}
    assert did == ["check 1", "work", "check 2", "work", "check 3"]


async def test_a_fork_undoes_what_it_has_copied_if_it_fails(engine: Durable) -> None:
    handle = await engine.start(saga, {})
    with pytest.raises(ExecutionFailed):
        await handle.result(20)
    assert await handle.status() == "compensated"
    assert await (await handle.fork(from_step="pay", data={"money": 1})).result(20) == {"money": 1}
    bad = await handle.fork(from_step="pay")
    with pytest.raises(ExecutionFailed):
        await bad.result(20)
    assert did == ["undo 7", "undo 7"]
    assert await bad.status() == "compensated"


async def test_edited_data_may_be_of_the_type_of_its_node(engine: Durable) -> None:
    handle = await engine.start(typed, Order(1, 4))
    assert await handle.result(20) == Order(1, 10)
    fork = await engine.fork(handle.id, from_step="twice", data=Order(2, 50))
    assert await fork.result(20) == Order(2, 100)
    start = await engine.fork(handle.id, data=Order(3, 1), new_id="mine")
    assert (start.id, await start.result(20)) == ("mine", Order(3, 4))


async def test_a_node_behind_one_that_has_failed_is_no_place_to_fork_from_though_on_failure_is_over(
    engine: Durable,
) -> None:
    handle = await engine.start(paid, {"bad": True})
    with pytest.raises(ExecutionFailed):
        await handle.result(20)
    with pytest.raises(UsageError, match=r"was not at 'ship' yet\. It was at: take_order, fails_to_pay"):
        await handle.fork(from_step="ship", data={})


async def test_a_fork_gets_the_result_of_a_child_that_the_other_one_has_started(
    engine: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.engine.waits.LOOK_AGAIN", 0.2)
    handle = await engine.start(begins, {})
    async with asyncio.timeout(20):
        async for event in handle.events():
            if (event.kind, event.path) == ("completed", "begin"):
                break
    fork = await handle.fork(from_step="collect")
    await asyncio.sleep(0.5)
    child = (await engine.list_children(handle.id)).items[0]
    await engine.send_event(child.id, "go", "done")
    assert await asyncio.gather(handle.result(20), fork.result(20)) == ["done", "done"]


async def test_a_fork_that_cannot_be_is_refused_with_what_there_is(engine: Durable) -> None:
    handle = await engine.start(flow, {"bad": True}, id="first")
    with pytest.raises(ExecutionFailed):
        await handle.result(20)
    with pytest.raises(UsageError, match=r"no top-level node 'nowhere'. It has: first, both, silent, last"):
        await engine.fork("first", from_step="nowhere")
    with pytest.raises(UsageError, match="was not at 'last#2' yet"):
        await engine.fork("first", from_step="last#2")
    with pytest.raises(UnknownExecution):
        await engine.fork("nobody")
    with pytest.raises(IdConflict):
        await engine.fork("first", new_id="first")
    held = await engine.start(flow, {}, delay=durable.hours(1))
    with pytest.raises(UsageError, match=r"was not at .silent. yet\. It was at: nothing"):
        await held.fork(from_step="silent")
