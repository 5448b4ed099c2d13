"""Children on a real engine: begun once, told of in the commit that ends them, and cancelled with their parents."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    Child,
    ChildFailed,
    Durable,
    Execution,
    ExecutionCancelled,
    ExecutionFailed,
    Status,
    UnknownWorkflow,
    UsageError,
    WaitTimeout,
    Workflow,
    days,
    hours,
    seconds,
)
from tests.client.test_waiting import GUARD, checked, flow, until

__all__ = ["checked"]

double = Workflow[int, int]("double")


@double.step
async def twice(data: int) -> int:
    return data * 2


asking = Workflow[Any, Any]("asking")


@asking.step
async def ask(data: Any) -> Any:
    said = await durable.wait_for_event("go", timeout=days(1))
    if said == "fail":
        raise ValueError("as I was told")
    return [data, said]


async def call(data: Any) -> Any:
    return await durable.call_workflow(asking, data, ref="it", tags={"of": "the parent"})


async def only_child(engine: Durable, id: str) -> Execution:
    async with asyncio.timeout(GUARD):
        while not (children := (await engine.list_children(id)).items):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    (child,) = children
    return child


async def test_a_parent_gets_the_result_of_its_child_and_holds_no_slot_meanwhile(checked: str) -> None:
    workflow = flow(call)
    async with Durable(checked, workflows=[workflow, asking], queues={"default": 1}) as engine:
        handle = await engine.start(workflow, 5, id="parent")
        child = await only_child(engine, "parent")
        await until(engine, child.id, Status.WAITING)
        await until(engine, "parent", Status.WAITING)
        assert (child.parent, child.workflow, child.tags) == ("parent", "asking", {"of": "the parent"})
        assert (await engine.get_execution("parent")).waits_for == [f"child:{child.id}"]
        await engine.send_event(child.id, "go", "now")
        assert await handle.result(GUARD) == [5, "now"]
        seen = await engine.get_execution("parent", include_steps=True)
        assert seen.steps is not None
        effects = [(effect.kind, effect.result) for effect in seen.steps[0].effects]
        assert effects == [("waiting", child.id), ("answered", {f"child:{child.id}": [5, "now"]})]
        assert (await engine.get_execution(child.id)).parent == "parent"


@pytest.mark.parametrize("how", ["fails", "is cancelled", "is undone", "times out"])
async def test_every_end_of_a_child_reaches_its_parent(checked: str, how: str) -> None:
    child_flow = Workflow[Any, Any]("child", timeout=seconds(0.5) if how == "times out" else None)

    async def undo(data: Any) -> None: ...

    child_flow.step(name="first", compensate=undo)(twice)
    child_flow.step(ask)

    async def called(data: Any) -> Any:
        try:
            await durable.call_workflow(child_flow, data)
        except ChildFailed as error:
            return [error.status, str(error.failure), error.reason]

    workflow = flow(called)
    async with Durable(checked, workflows=[workflow, child_flow]) as engine:
        handle = await engine.start(workflow, 5, id="parent")
        child = await only_child(engine, "parent")
        await until(engine, child.id, Status.WAITING)
        match how:
            case "fails":
                await engine.send_event(child.id, "go", "fail")
            case "is cancelled":
                await engine.cancel(child.id, "enough")
            case "is undone":
                await engine.cancel(child.id, "enough", compensate=True)
            case _:
                pass
        status, failure, reason = await handle.result(GUARD)
    expected = {
        "fails": ("compensated", "ValueError: as I was told", None),
        "is cancelled": ("cancelled", "None", "enough"),
        "is undone": ("compensated", "durable.errors.ExecutionCancelled: enough", None),
        "times out": ("compensated", "durable.errors.DeadlineExceeded", None),
    }[how]
    assert (status, reason) == (expected[0], expected[2])
    assert failure.startswith(expected[1])


async def test_cancelling_a_parent_cancels_its_children_and_theirs(checked: str) -> None:
    middle = Workflow[Any, Any]("middle")
    middle.step(name="call")(call)

    async def both(data: Any) -> Any:
        await durable.start_workflow(asking, data, ref="started")
        return await durable.call_workflow(middle, data)

    workflow = flow(both)
    async with (
        Durable(checked, workflows=[workflow, middle, asking]) as engine,
        Durable(checked, workflows=[workflow, middle, asking], worker=False) as client,
    ):
        await engine.start(workflow, 5, id="parent")
        async with asyncio.timeout(GUARD):
            while len((await engine.list_children("parent")).items) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        children = {child.workflow: child.id for child in (await engine.list_children("parent")).items}
        below = await only_child(engine, children["middle"])
        await until(engine, below.id, Status.WAITING)
        await until(engine, children["asking"], Status.WAITING)
        assert await client.cancel("parent", "enough")
        for id in (*children.values(), below.id):
            with pytest.raises(ExecutionCancelled, match="its parent was cancelled"):
                await client.handle(id).result(GUARD)


async def test_a_parent_that_fails_takes_back_what_it_has_called_and_leaves_what_it_has_started(checked: str) -> None:
    workflow = Workflow[Any, Any]("flow")
    both = workflow.parallel("both")
    both.step(name="call")(call)

    @both.step
    async def fail(data: Any) -> Any:
        await durable.start_workflow(asking, data, ref="started")
        await durable.wait_for_event("fail")
        raise ValueError("no")

    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 5, id="parent")
        await until(engine, "parent", Status.WAITING)
        called, started = sorted((await engine.list_children("parent")).items, key=lambda c: not c.tags)
        await handle.send_event("fail")
        with pytest.raises(ExecutionFailed, match="no"):
            await handle.result(GUARD)
        with pytest.raises(ExecutionCancelled, match="its parent"):
            await engine.handle(called.id).result(GUARD)
        await engine.send_event(started.id, "go", "on")
        assert await engine.handle(started.id).result(GUARD) == [5, "on"]


async def test_what_was_started_is_cancelled_a_moment_after_its_parent_although_nothing_is_to_be_undone(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 600.0)

    async def begins(data: Any) -> None:
        await durable.start_workflow(asking, data)
        await durable.wait_for_event("never")

    workflow = flow(begins)
    async with Durable(checked, workflows=[workflow, asking]) as engine:
        handle = await engine.start(workflow, 1)
        child = await only_child(engine, handle.id)
        await until(engine, child.id, Status.WAITING)
        assert await handle.cancel("no more", compensate=True)
        with pytest.raises(ExecutionCancelled):
            await engine.handle(child.id).result(GUARD)


async def test_a_child_that_does_not_end_in_time_is_cancelled_and_undone(checked: str) -> None:
    undone = asyncio.Event()
    child_flow = Workflow[Any, Any]("child")

    async def undo(data: Any) -> None:
        undone.set()

    child_flow.step(name="first", compensate=undo)(twice)
    child_flow.step(ask)

    async def called(data: Any) -> Any:
        said = [await durable.call_workflow(child_flow, data, timeout=seconds(0.3), timeout_value=None)]
        try:
            await durable.call_workflow(child_flow, data, timeout=seconds(0.3), ref="again")
        except WaitTimeout:
            said.append("too late")
        return said

    workflow = flow(called)
    async with Durable(checked, workflows=[workflow, child_flow]) as engine:
        handle = await engine.start(workflow, 5, id="parent")
        assert await handle.result(GUARD) == [None, "too late"]
        async with asyncio.timeout(GUARD):
            await undone.wait()
        for child in (await engine.list_children("parent")).items:
            with pytest.raises(ExecutionFailed, match="its parent waits for it no more"):
                await engine.handle(child.id).result(GUARD)
            assert await engine.handle(child.id).status() is Status.COMPENSATED


async def test_a_child_that_was_started_is_waited_for_in_a_later_step(checked: str) -> None:
    workflow = Workflow[Any, Any]("flow")
    ids: list[str] = []

    @workflow.step
    async def begin(data: int) -> Any:
        child: Child[int] = await durable.start_workflow(double, data)
        ids.append(child.id)
        return [await child.result(), await child.result(timeout=hours(1))]

    async with Durable(checked, workflows=[workflow, double]) as engine:
        assert await (await engine.start(workflow, 4)).result(GUARD) == [8, 8]
        assert len(set(ids)) == 1


async def test_what_cannot_be_a_child_is_refused(checked: str) -> None:
    unknown = Workflow[Any, Any]("unknown")
    unknown.step(twice)

    async def begins(data: Any) -> Any:
        match data:
            case "unknown":
                return await durable.call_workflow(unknown, 1)
            case "queue":
                return await durable.call_workflow(double, 1, queue="a,b")
            case "ref":
                return await durable.start_workflow(double, 1, ref="x" * 201)
            case _:
                return await durable.call_workflow(double, 1, timeout_value=1)

    workflow = flow(begins)
    async with Durable(checked, workflows=[workflow, double]) as engine:
        for what, error in (("unknown", UnknownWorkflow), ("queue", UsageError), ("ref", UsageError), ("", UsageError)):
            with pytest.raises(ExecutionFailed, match=error.__name__):
                await (await engine.start(workflow, what)).result(GUARD)
        with pytest.raises(UsageError):
            await durable.call_workflow(double, 1)
        assert (await engine.list_children("nobody")).items == []


async def test_many_parents_and_children_end_in_the_same_flushes(checked: str) -> None:
    async def calls(data: int) -> Any:
        return sum(await asyncio.gather(*(durable.call_workflow(double, data + n, ref=f"{n}") for n in range(5))))

    workflow = flow(calls)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow, double]) as engine:
        handles = await engine.start_many(workflow, list(range(100)))
        assert [await handle.result(GUARD) for handle in handles] == [10 * n + 20 for n in range(100)]
        assert await connection.fetchval("select count(*) from durable.execution where parent_id is not null") == 500
        assert await connection.fetchval("select count(*) from durable.message where consumed_by is not null") == 500
    await connection.close()
