"""Code-first workflows on a real engine: what is recorded, what a change of the code shows, and lives without end."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

import durable
from durable import DefinitionError, Durable, Status, Workflow, days, seconds
from durable.authoring import FunctionWorkflow
from durable.testing import run
from tests.client.test_waiting import GUARD, checked, until
from tests.engine.flows_functions import Report, research

__all__ = ["checked"]


async def test_a_function_is_a_workflow_and_is_called_like_a_function(checked: str) -> None:
    async with Durable(checked, workflows=[research]) as engine:
        handle = await engine.start(research, "q", id="x")
        await until(engine, "x", Status.WAITING)
        await engine.provide_input("x", "editor", "approved")
        assert await handle.result(GUARD) == Report("all", ["Q 0", "Q 1", "Q 2"])

    @durable.workflow
    async def double(data: int) -> int:
        return data * 2

    assert await double(4) == 8
    assert (double.name, double.version) == ("double", 1)
    assert (await run(double, 4)).result == 8


def test_what_cannot_be_a_function_workflow_is_refused() -> None:
    def plain(data: int) -> int:
        return data

    async def fine(data: int) -> int:
        return data

    with pytest.raises(DefinitionError, match="Make it an `async def`"):
        durable.workflow("plain")(plain)  # type: ignore[arg-type]
    more: FunctionWorkflow[int, int] = durable.workflow("more")(fine)
    more.step(name="other")(fine)
    with pytest.raises(DefinitionError, match="is a function: it has no other nodes"):
        more.definition  # noqa: B018


async def test_code_that_was_changed_while_it_waited_says_what_it_expected_and_found(checked: str) -> None:
    def version(new: bool) -> Workflow[Any, Any]:
        @durable.workflow("flow")
        async def body(data: Any) -> Any:
            if new:
                return await durable.wait_for_event("manager")
            return await durable.wait_for_approval("manager")

        return body

    async with Durable(checked, workflows=[old := version(False)]) as engine:
        await engine.start(old, 1, id="x")
        await until(engine, "x", Status.WAITING)
    async with Durable(checked, workflows=[version(True)]) as engine:
        await engine.provide_input("x", "manager", "approved")
        with pytest.raises(durable.ExecutionFailed, match='expected event:"manager", found input:"manager"'):
            await engine.handle("x").result(GUARD)


@durable.workflow("counting")
async def counting(count: int) -> list[Any]:
    said = await durable.run(str, count)
    event = await durable.wait_for_event("go")
    if count < 3:
        await durable.continue_as(count + 1)
    return [said, event, durable.context().idempotency_key]


async def test_an_execution_that_is_begun_afresh_keeps_its_id_its_events_and_its_past(checked: str) -> None:
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[counting]) as engine:
        handle = await engine.start(counting, 1, id="x")
        for word in ("a", "b", "c"):
            await handle.send_event("go", word)
        assert await handle.result(GUARD) == ["3", "c", "x:counting~2"]
        seen = await engine.get_execution("x", include_steps=True)
        assert seen.steps is not None
        kinds = [effect.kind for effect in seen.steps[0].effects if effect.kind != "waiting"]
        assert kinds == ["ran", "answered"], "those of this life"
    past = await connection.fetch("select kind from durable.past where kind <> 'waiting' order by seq")
    assert [row["kind"] for row in past] == ["ran", "answered", "continued", "ran", "answered"]
    await connection.close()


async def test_what_an_earlier_life_has_asked_and_called_is_taken_back(checked: str) -> None:
    @durable.workflow("child")
    async def child(data: int) -> None:
        await durable.sleep(days(1))

    @durable.workflow("flow")
    async def body(life: int) -> Any:
        if life == 2:
            return await durable.call_workflow(child, 1, timeout=seconds(0.2), timeout_value="another child")
        asking = asyncio.ensure_future(durable.wait_for_text("why", key="k"))
        calling = asyncio.ensure_future(durable.call_workflow(child, 1))
        await durable.wait_for_event("go", key="go")
        asking.cancel()
        calling.cancel()
        return await durable.continue_as(2)

    async with Durable(checked, workflows=[body, child]) as engine:
        handle = await engine.start(body, 1, id="x")
        await until(engine, "x", Status.WAITING)
        await handle.send_event("go")
        assert await handle.result(GUARD) == "another child"
        assert (await engine.list_pending_inputs()).items == []
        children = (await engine.list_children("x")).items
        assert len(children) == 2
        for one in children:
            with pytest.raises(durable.ExecutionCancelled):
                await engine.handle(one.id).result(GUARD)


async def test_calls_with_other_arguments_are_made_and_are_no_mismatch(checked: str) -> None:
    runs: list[int] = []

    @durable.workflow("flow")
    async def body(data: Any) -> int:
        runs.append(1)
        said = await durable.run(abs, -len(runs), name="note")
        await durable.sleep(seconds(0.5))
        return said

    async with Durable(checked, workflows=[body]) as engine:
        assert await (await engine.start(body, 1)).result(GUARD) == len(runs) == 2


async def test_on_failure_gets_the_input_of_the_last_life(checked: str) -> None:
    told: list[int] = []

    async def tell(data: int) -> None:
        told.append(data)

    @durable.workflow("flow", on_failure=tell)
    async def body(life: int) -> None:
        if life == 1:
            await durable.continue_as(2)
        raise ValueError("no")

    async with Durable(checked, workflows=[body]) as engine:
        with pytest.raises(durable.ExecutionFailed):
            await (await engine.start(body, 1)).result(GUARD)
    assert told == [2]
