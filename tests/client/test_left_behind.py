"""What is asked and begun by what is over, undone, cancelled or given up: it is taken back, once, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

import durable
import durable.testing
from durable import (
    Child,
    Durable,
    ExecutionCancelled,
    ExecutionFailed,
    Retry,
    Status,
    Workflow,
    days,
    seconds,
)
from durable.runtime import canceller
from durable.runtime.canceller import Canceller
from durable.store.queries import load
from tests.client.test_children import asking, double, only_child, twice
from tests.client.test_waiting import GUARD, checked, flow, until
from tests.support.proxy import Proxy

__all__ = ["checked"]

Flow = Workflow[Any, Any]


async def leaves(data: Any) -> None:
    """Ask, call, and go on without the answers."""
    left = [
        asyncio.ensure_future(durable.wait_for_text("left")),
        asyncio.ensure_future(durable.call_workflow(asking, 1)),
        asyncio.ensure_future(durable.wait_for_event("left", match={"a": 1})),
    ]
    await durable.wait_for_event("go")
    for task in left:
        task.cancel()


async def assert_nothing_is_left(engine: Durable, dsn: str, parent: str) -> None:
    assert (await engine.list_pending_inputs(name="left")).items == []
    child = await only_child(engine, parent)
    with pytest.raises(ExecutionCancelled, match="its parent"):
        await engine.handle(child.id).result(GUARD)
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select count(*) from durable.subscription") == 0
    await connection.close()


async def test_a_step_that_is_over_leaves_nothing_while_the_next_one_is_busy(checked: str) -> None:
    workflow, busy, done = Flow("flow"), asyncio.Event(), asyncio.Event()
    workflow.step(leaves)

    @workflow.step
    async def work(data: Any) -> Any:
        busy.set()
        await done.wait()

    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 1)
        await until(engine, handle.id, Status.WAITING)
        await handle.send_event("go")
        await busy.wait()
        await assert_nothing_is_left(engine, checked, handle.id)
        done.set()
        await handle.result(GUARD)


async def test_an_iteration_that_is_over_leaves_nothing_whatever_comes_next(checked: str) -> None:
    workflow, busy, block = Flow("flow"), asyncio.Event(), True
    again = workflow.loop("again", until=lambda data: data["n"] >= 2, max_iterations=10)

    @again.step
    async def one(data: dict[str, int]) -> dict[str, int]:
        if data["n"] == 0:
            await leaves(data)
        elif block:
            busy.set()
            await asyncio.sleep(60)
        return {"n": data["n"] + 1}

    async with Durable(checked, workflows=[workflow, asking], drain=seconds(0)) as engine:
        handle = await engine.start(workflow, {"n": 0}, id="x")
        await until(engine, "x", Status.WAITING)
        await handle.send_event("go")
        await busy.wait()
    block = False
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        assert await engine.handle("x").result(GUARD) == {"n": 2}
        await assert_nothing_is_left(engine, checked, "x")


async def test_a_loop_that_leaves_waits_behind_keeps_one_record(checked: str) -> None:
    workflow = Flow("flow")
    again = workflow.loop("again", until=lambda data: data >= 5)

    @again.step
    async def one(data: int) -> int:
        asking = asyncio.ensure_future(durable.wait_for_text("left"))
        await durable.sleep(seconds(0.01))
        asking.cancel()
        return data + 1

    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        assert await (await engine.start(workflow, 0, id="x")).result(GUARD) == 5
        kept = "select path from durable.journal where path like 'again[%' and path not like 'again[4]%'"
        assert [row["path"] for row in await connection.fetch(kept)] == []
    await connection.close()
    ended = await durable.testing.run(workflow, 0)
    assert ended.result == 5


async def test_what_a_failed_node_has_asked_is_taken_back_while_its_siblings_wait(checked: str) -> None:
    workflow = Flow("flow")
    each = workflow.foreach(
        "each", items=lambda data: data, concurrency=2, on_error="continue", into=lambda data, results: len(results.ok)
    )
    both = each.parallel("both", on_error="fail_fast")

    @both.step
    async def asks(data: Any, item: int) -> Any:
        return await durable.wait_for_approval(f"item {item}")

    @both.step
    async def other(data: Any, item: int) -> Any:
        await durable.wait_for_event(f"go {item}")
        if item == 0:
            raise ValueError("no")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, [0, 1])
        await until(engine, handle.id, Status.WAITING)
        await handle.send_event("go 0")
        async with asyncio.timeout(GUARD):
            while [i.name for i in (await engine.list_pending_inputs()).items] != ["item 1"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await handle.send_event("go 1")
        await handle.provide_input("item 1", "approved")
        assert await handle.result(GUARD) == 1


async def test_what_is_taken_back_is_taken_back_once(checked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow, cancels, cancel = Flow("flow"), list[Any](), Canceller.cancel
    each = workflow.foreach("each", items=lambda data: [0, 1, 2], into=lambda data, results: len(results.ok))

    @each.step
    async def race(data: Any, item: int) -> Any:
        calling = asyncio.ensure_future(durable.call_workflow(asking, 1))
        await durable.wait_for_event("go")
        calling.cancel()

    async def counted(self: Canceller, id: Any, *args: Any, **more: Any) -> Any:
        cancels.append(id)
        return await cancel(self, id, *args, **more)

    monkeypatch.setattr(Canceller, "cancel", counted)
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 1)
        for _ in range(3):
            await handle.send_event("go")
        assert await handle.result(GUARD) == 3
        for child in (await engine.list_children(handle.id)).items:
            with pytest.raises(ExecutionCancelled):
                await engine.handle(child.id).result(GUARD)
    assert len(set(cancels)) == len(cancels) == 3


async def test_a_compensation_may_ask_and_call_and_gets_its_answers(checked: str) -> None:
    workflow = Flow("flow")

    async def undo(data: Any) -> Any:
        return [await durable.wait_for_approval("undo"), await durable.call_workflow(asking, "refund")]

    workflow.step(name="book", compensate=undo)(twice)

    @workflow.step
    async def fail(data: Any) -> None:
        raise ValueError("no")

    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 1)
        async with asyncio.timeout(GUARD):
            while (await engine.get_execution(handle.id)).waits_for != ["input:undo"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await handle.provide_input("undo", "approved")
        refund = await only_child(engine, handle.id)
        await until(engine, refund.id, Status.WAITING)
        await engine.send_event(refund.id, "go", "on")
        with pytest.raises(ExecutionFailed):
            await handle.result(GUARD)
        (undone,) = (await engine.get_execution(handle.id, include_steps=True)).compensations
        assert (undone.status, undone.result) == ("completed", ["approved", ["refund", "on"]])
        assert await handle.status() is Status.COMPENSATED


async def test_children_that_are_begun_while_their_parent_is_cancelled_are_cancelled_too(checked: str) -> None:
    async def begins(data: Any) -> None:
        for number in range(60):
            await durable.start_workflow(asking, number)

    workflow = flow(begins)
    async with (
        Durable(checked, workflows=[workflow, asking]) as engine,
        Durable(checked, workflows=[workflow, asking], worker=False) as client,
    ):
        for compensate in (True, False, True):
            handle = await engine.start(workflow, 1)
            async with asyncio.timeout(GUARD):
                while not (await client.list_children(handle.id)).items:
                    pass
            await client.cancel(handle.id, compensate=compensate)
            with pytest.raises(ExecutionCancelled):
                await handle.result(GUARD)
            for child in (await engine.list_children(handle.id, limit=100)).items:
                with pytest.raises(ExecutionCancelled):
                    await engine.handle(child.id).result(GUARD)


async def test_a_child_that_was_given_up_does_not_complete(checked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    child_flow, undone, go_on = Flow("child"), asyncio.Event(), asyncio.Event()

    async def undo(data: Any) -> None:
        undone.set()

    @child_flow.step(compensate=undo)
    async def charge(data: Any) -> None:
        await go_on.wait()

    async def calls(data: Any) -> Any:
        return await durable.call_workflow(child_flow, data, timeout=seconds(0.3), timeout_value="too late")

    workflow = flow(calls)
    monkeypatch.setattr(Canceller, "look", lambda self: None)  # nobody comes to cancel it
    async with Durable(checked, workflows=[workflow, child_flow]) as engine:
        handle = await engine.start(workflow, 1)
        assert await handle.result(GUARD) == "too late"
        go_on.set()
        child = await only_child(engine, handle.id)
        with pytest.raises(ExecutionFailed, match="its parent waits for it no more"):
            await engine.handle(child.id).result(GUARD)
        assert undone.is_set()
        assert await engine.handle(child.id).status() is Status.COMPENSATED


async def test_what_somebody_holds_does_not_hold_up_what_else_is_to_be_cancelled(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canceller, "AGAIN_SECONDS", 1.0)

    async def begins(data: Any) -> Any:
        await durable.start_workflow(asking, 1)
        await durable.wait_for_event("never")

    workflow = flow(begins)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        parents = [await engine.start(workflow, number) for number in range(2)]
        children = [await only_child(engine, parent.id) for parent in parents]
        for one in (*parents, *children):
            await until(engine, one.id, Status.WAITING)
        async with connection.transaction():
            query = "select from durable.execution where execution_id = $1 for update"
            await connection.execute(query, children[0].execution_id)
            await parents[0].cancel()
            await asyncio.sleep(0.2)
            await parents[1].cancel()
            with pytest.raises(ExecutionCancelled):
                await engine.handle(children[1].id).result(GUARD)
            assert await engine.handle(children[0].id).status() is Status.WAITING
        with pytest.raises(ExecutionCancelled):
            await engine.handle(children[0].id).result(GUARD)
    await connection.close()


async def test_what_is_to_be_cancelled_stays_listed_until_it_is(checked: str) -> None:
    """A worker that dies in between leaves it to another."""

    async def begins(data: Any) -> Any:
        await durable.start_workflow(asking, 1)
        await durable.wait_for_event("never")

    workflow = flow(begins)
    connection = await asyncpg.connect(checked)
    async with (
        Proxy(checked) as proxy,
        Durable(proxy.dsn, workflows=[workflow, asking]) as engine,
        Durable(checked, workflows=[workflow, asking], worker=False) as client,
    ):
        parent = await engine.start(workflow, 1)
        child = await only_child(engine, parent.id)
        for id in (parent.id, child.id):
            await until(engine, id, Status.WAITING)
        held = proxy.hold(load("execution/cancel").sql)
        await client.cancel(parent.id)
        await held
        listed = await connection.fetch("select execution_id from durable.doomed")
        assert [row["execution_id"] for row in listed] == [child.execution_id]
        held.release()
        with pytest.raises(ExecutionCancelled):
            await engine.handle(child.id).result(GUARD)
    await connection.close()


async def test_the_result_of_a_child_is_there_for_any_body_as_often_as_it_is_asked_for(checked: str) -> None:
    workflow = Flow("flow")

    @workflow.step
    async def begin(data: int) -> Child[int]:
        child = await durable.start_workflow(double, data)
        await child.result()
        return child

    @workflow.step(retry=Retry(2, delay=seconds(0)))
    async def wait(child: Child[int]) -> Any:
        first = await child.result()
        if durable.context().attempt == 1:
            raise ValueError("once")
        return [first, await child.result(timeout=days(1))]

    async with Durable(checked, workflows=[workflow, double]) as engine:
        assert await (await engine.start(workflow, 4)).result(GUARD) == [8, 8]


async def test_a_child_can_be_asked_again_and_again_whether_it_has_ended(checked: str) -> None:
    async def polls(data: Any) -> Any:
        child = await durable.start_workflow(asking, data)
        said = [await child.result(timeout=seconds(0.3), timeout_value="later") for _ in range(3)]
        return [said, await child.result()]

    workflow = flow(polls)
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 1)
        child = await only_child(engine, handle.id)
        async with asyncio.timeout(GUARD):
            while len((await engine.get_execution(handle.id, include_steps=True)).steps[0].effects) < 8:  # type: ignore[index] # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await engine.send_event(child.id, "go", "at last")
        assert await handle.result(GUARD) == [["later"] * 3, [1, "at last"]]


async def test_the_ends_of_children_that_nobody_waits_for_are_not_read_again_and_again(checked: str) -> None:
    big = Flow("big")

    @big.step
    async def make(data: Any) -> str:
        return "x" * 10_000

    async def begins(data: Any) -> None:
        for number in range(5):
            await durable.start_workflow(big, number)
        await durable.sleep(seconds(0.5))

    workflow = flow(begins)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow, big]) as engine:
        await (await engine.start(workflow, 1)).result(GUARD)
    assert await connection.fetchval("select count(*) from durable.message where payload is not null") == 0
    await connection.close()


async def test_a_child_whose_end_is_looked_up_at_that_very_moment_wakes_its_parent(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable.runtime.owned import Owned

    end_of_child, sent = Owned.end_of_child, 0

    async def then_it_ends(self: Owned, id: Any) -> tuple[str | None, bool]:
        nonlocal sent
        found = await end_of_child(self, id)
        if not sent:  # after it was looked up, before the parent sleeps
            sent += 1
            await self.supervisor._canceller.cancel(id, "now", compensate=False)  # pyright: ignore[reportPrivateUsage]
        return found

    async def waits(data: Any) -> Any:
        child = await durable.start_workflow(asking, data)
        try:
            await child.result()
        except durable.ChildFailed as error:
            return error.reason

    workflow = flow(waits)
    monkeypatch.setattr(Owned, "end_of_child", then_it_ends)
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        assert await (await engine.start(workflow, 1)).result(GUARD) == "now"


async def test_many_strands_leave_waits_behind_at_the_same_time(checked: str) -> None:
    workflow = Flow("flow")
    each = workflow.foreach("each", items=lambda data: list(range(6)), concurrency=6, into=lambda data, r: len(r.ok))

    @each.step
    async def race(data: Any, item: int) -> Any:
        left = [asyncio.ensure_future(durable.wait_for_text(f"q{n}", key=f"k{n}")) for n in range(3)]
        await durable.sleep(seconds(0.3))
        for task in left:
            task.cancel()

    async with Durable(checked, workflows=[workflow]) as engine:
        assert await (await engine.start(workflow, 1)).result(GUARD) == 6
        assert (await engine.list_pending_inputs()).items == []


async def test_the_end_of_a_started_child_is_heard_while_something_else_is_busy(checked: str) -> None:
    heard = asyncio.Event()

    async def busy() -> str:
        await heard.wait()
        return "was busy"

    async def waits(child: Child[Any]) -> Any:
        result = await child.result()
        heard.set()
        return result

    async def both(data: Any) -> Any:
        child = await durable.start_workflow(asking, data)
        return list(await asyncio.gather(waits(child), durable.run(busy)))

    workflow = flow(both)
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 1)
        child = await only_child(engine, handle.id)
        await until(engine, child.id, Status.WAITING)
        await engine.send_event(child.id, "go", "on")
        assert await handle.result(GUARD) == [[1, "on"], "was busy"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: durable.wait_for_approval("x", timout=days(1)), "timout"),  # type: ignore[call-arg]
        (lambda: durable.start_workflow(double, 1, delay=days(1)), "delay"),  # type: ignore[call-arg]
        (lambda: durable.start_workflow(double, 1, tags={"a": "\0"}), "NUL"),
        (lambda: durable.call_workflow(asking, "x" * 5_000), "5,002 bytes"),
    ],
)
async def test_what_cannot_be_done_as_it_is_asked_for_is_refused_in_the_body(
    checked: str, call: Any, said: str
) -> None:
    async def body(data: Any) -> str:
        try:
            await call()
        except durable.DurableError as error:
            return str(error)
        return "accepted"

    workflow = flow(body)
    async with Durable(checked, workflows=[workflow, double, asking], max_payload=2_000) as engine:
        assert said in await (await engine.start(workflow, 1)).result(GUARD)
