"""Inputs on a real engine: what is asked is answered once, by what answers it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

import durable
from durable import (
    Durable,
    ExecutionEnded,
    Input,
    InputRejected,
    NoPendingInput,
    Status,
    UnknownExecution,
    UsageError,
    Workflow,
    days,
    minutes,
    seconds,
)
from durable.runtime.owned import Owned
from tests.client.test_waiting import GUARD, checked, flow, until

__all__ = ["checked"]


async def approve(data: Any) -> Any:
    return await durable.wait_for_approval("manager", prompt="May we?", metadata={"amount": 5}, timeout=days(3))


async def test_an_answer_from_another_process_wakes_the_execution(checked: str) -> None:
    workflow = flow(approve)
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, "x", Status.WAITING)
        (asked,) = (await client.list_pending_inputs()).items
        assert (asked.id, asked.name, asked.type, asked.prompt) == ("x", "manager", "approval", "May we?")
        assert (asked.metadata, asked.path, asked.workflow) == ({"amount": 5}, "body", "flow")
        seen = await client.get_execution("x")
        assert seen.waits_for == ["input:manager"]
        assert seen.wake_at is not None
        assert asked.due_at is not None
        assert abs(seen.wake_at - asked.due_at) < seconds(1)
        await client.provide_input("x", "manager", "approved", by="ada@example.com")
        assert await handle.result(GUARD) == "approved"
        (kept,) = (await client.get_execution("x", include_steps=True)).inputs or ()
        assert (await client.list_pending_inputs()).items == []
    assert (kept.status, kept.answered_by, kept.answer) == ("answered", "ada@example.com", "approved")
    assert kept.closed_at is not None
    assert kept.closed_at >= kept.requested_at


async def test_what_does_not_answer_the_question_is_rejected_and_the_wait_goes_on(checked: str) -> None:
    async def ask(data: Any) -> Any:
        return await durable.wait_for_form(
            "equipment",
            fields=[
                {"name": "serial"},
                {"name": "count", "type": "integer"},
                {"name": "colour", "type": "choice", "options": ["red", "blue"], "required": False},
            ],
        )

    workflow = flow(ask)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, "x", Status.WAITING)
        with pytest.raises(
            InputRejected, match=r"'equipment' of execution 'x', which waits on: .*serial is missing"
        ) as e:
            await handle.provide_input("equipment", {"count": "two", "colour": "green", "more": 1})
        assert e.value.problems == {
            "serial": "is missing",
            "count": 'must be a whole number, not "two"',
            "colour": 'must be one of "red", "blue", not "green"',
            "more": "is not known. It has: serial, count, colour.",
        }
        with pytest.raises(InputRejected, match="the answer must be an object"):
            await handle.provide_input("equipment", "all")
        assert await handle.status() is Status.WAITING
        await handle.provide_input("equipment", {"serial": "a", "count": 2})
        assert await handle.result(GUARD) == {"serial": "a", "count": 2}


@dataclass
class Address:
    city: str
    number: int

    def __post_init__(self) -> None:
        if self.city == "Atlantis":
            raise ValueError("there is no such city")


async def test_a_form_of_a_class_is_checked_by_its_schema_and_by_itself_and_arrives_as_it(checked: str) -> None:
    async def ask(data: Any) -> Any:
        address = await durable.wait_for_form("address", form=Address)
        assert type(address) is Address
        return address.city

    workflow = flow(ask)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, "x", Status.WAITING)
        (asked,) = (await engine.list_pending_inputs()).items
        assert "Address" in str(asked.schema)
        with pytest.raises(InputRejected, match="number must be a whole number"):
            await handle.provide_input("address", {"city": "Paris", "number": None})
        with pytest.raises(InputRejected, match="no such city"):
            await handle.provide_input("address", {"city": "Atlantis", "number": 1})
        await handle.provide_input("address", Address("Paris", 1))
        assert await handle.result(GUARD) == "Paris"


async def test_an_answer_is_for_one_question_alone(checked: str) -> None:
    async def ask(data: Any) -> Any:
        first = await durable.wait_for_text("why")
        return [first, await durable.wait_for_text("why", timeout=seconds(0.3), timeout_value="nobody")]

    workflow = flow(ask)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        with pytest.raises(NoPendingInput, match="asks nothing named 'other'"):
            await handle.provide_input("other", 1)
        await until(engine, "x", Status.WAITING)
        (asked,) = (await engine.list_pending_inputs(name="why")).items
        answers = await asyncio.gather(
            *(handle.provide_input("why", f"{n}", number=asked.number) for n in range(5)), return_exceptions=True
        )
        assert sum(answer is None for answer in answers) == 1, "one of them is the answer"
        assert sum(isinstance(answer, NoPendingInput) for answer in answers) == 4
        first, second = await handle.result(GUARD)
        assert (answers[int(first)], second) == (None, "nobody")
        with pytest.raises(ExecutionEnded):
            await handle.provide_input("why", "too late")
        with pytest.raises(UnknownExecution):
            await engine.provide_input("nobody", "why", "x")
        statuses = [i.status for i in (await engine.get_execution("x", include_steps=True)).inputs or ()]
    assert statuses == ["answered", "expired"]


async def test_each_of_several_questions_of_one_name_can_be_answered(checked: str) -> None:
    workflow = Workflow[Any, Any]("flow")
    each = workflow.foreach("each", items=lambda data: data, concurrency=3, into=lambda data, results: results.ok)

    @each.step
    async def review(data: Any, item: str) -> Any:
        return [item, await durable.wait_for_approval("review", metadata=item)]

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, ["a", "b", "c"], id="x")
        await until(engine, "x", Status.WAITING)
        pending = {i.metadata: i for i in (await engine.list_pending_inputs(workflow=workflow, type="approval")).items}
        for name in ("c", "a", "b"):
            said = "rejected" if name == "c" else "approved"
            await handle.provide_input("review", said, number=pending[name].number)
        assert await handle.result(GUARD) == [["a", "approved"], ["b", "approved"], ["c", "rejected"]]


async def test_an_answer_whose_call_has_returned_beats_the_timeout(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = flow(approve)
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        fetch_mail, answered = Owned.fetch_mail, 0

        async def then_an_answer(self: Owned) -> None:
            nonlocal answered
            await fetch_mail(self)
            if not answered:  # after the last look into the mailbox, before the record that nobody has answered
                answered += 1
                await client.provide_input("x", "manager", "rejected")

        monkeypatch.setattr(Owned, "fetch_mail", then_an_answer)
        monkeypatch.setattr("durable.asking.duration_seconds", lambda duration, what: 0.3)
        assert await (await engine.start(workflow, 1, id="x")).result(GUARD) == "rejected"
        assert answered == 1


async def test_what_is_over_asks_nothing_any_more(checked: str) -> None:
    workflow = Workflow[Any, Any]("flow")
    both = workflow.parallel("both", on_error="fail_fast")

    @both.step
    async def ask(data: Any) -> Any:
        return await durable.wait_for_approval("left")

    @both.step
    async def fail(data: Any) -> Any:
        await durable.wait_for_event("fail")
        raise ValueError("no")

    async with Durable(checked, workflows=[workflow]) as engine:
        failing = await engine.start(workflow, 1)
        await until(engine, failing.id, Status.WAITING)
        await failing.send_event("fail")
        with pytest.raises(durable.ExecutionFailed):
            await failing.result(GUARD)
        cancelled = await engine.start(workflow, 1)
        await until(engine, cancelled.id, Status.WAITING)
        await cancelled.cancel()
        assert (await engine.list_pending_inputs()).items == []
        for handle in (failing, cancelled):
            (asked,) = (await engine.get_execution(handle.id, include_steps=True)).inputs or ()
            assert asked.status in ("withdrawn", "expired")


async def test_a_step_that_is_over_leaves_no_question(checked: str) -> None:
    workflow = Workflow[Any, Any]("flow")

    @workflow.step
    async def ask(data: Any) -> Any:
        asking = asyncio.ensure_future(durable.wait_for_text("first"))
        await durable.wait_for_event("go", key="go")
        asking.cancel()

    @workflow.step
    async def after(data: Any) -> Any:
        return await durable.wait_for_text("second")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, "x", Status.WAITING)
        assert [i.name for i in (await engine.list_pending_inputs()).items] == ["first"]
        await handle.send_event("go")
        async with asyncio.timeout(GUARD):
            while [i.name for i in (await engine.list_pending_inputs()).items] != ["second"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await handle.provide_input("second", "done")
        assert await handle.result(GUARD) == "done"


async def test_the_inbox_is_filtered_and_paged(checked: str) -> None:
    workflow, other = flow(approve), Workflow[Any, Any]("other")

    @other.step
    async def ask(data: Any) -> Any:
        return await durable.wait_for_choice("which", choices=["a", "b"], timeout=minutes(5))

    async with Durable(checked, workflows=[workflow, other]) as engine:
        for number in range(5):
            await engine.start(workflow, number, id=f"flow {number}")
            await engine.start(other, number, id=f"other {number}")
        for number in range(5):
            await until(engine, f"flow {number}", Status.WAITING)
            await until(engine, f"other {number}", Status.WAITING)
        seen: list[Input] = []
        cursor = None
        while True:
            page = await engine.list_pending_inputs(limit=3, cursor=cursor)
            seen += page.items
            cursor = page.cursor
            if cursor is None:
                break
        assert {i.id for i in seen} == {f"{w} {n}" for n in range(5) for w in ("flow", "other")}
        assert len(seen) == 10
        assert [i.requested_at for i in seen] == sorted(i.requested_at for i in seen)
        assert {i.workflow for i in (await engine.list_pending_inputs(workflow="other")).items} == {"other"}
        assert {i.workflow for i in (await engine.list_pending_inputs(name="manager")).items} == {"flow"}
        assert {i.workflow for i in (await engine.list_pending_inputs(type="choice")).items} == {"other"}
        soon = await engine.list_pending_inputs(due_before=datetime.now(UTC) + minutes(30))
        assert {i.workflow for i in soon.items} == {"other"}
        with pytest.raises(UsageError, match="cursor"):
            await engine.list_pending_inputs(cursor="nonsense")
        with pytest.raises(UsageError, match="time zone"):
            await engine.list_pending_inputs(due_before=datetime.now())


async def test_reminders_come_again_and_again_until_somebody_answers(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.asking.duration_seconds", lambda duration, what: 1.0)
    monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 0.2)
    reminded: list[Input] = []
    enough = asyncio.Event()

    async def remind(asked: Input) -> None:
        reminded.append(asked)
        if len(reminded) == 2:
            enough.set()
        raise ValueError("what a hook raises is logged, and the next reminder comes all the same")

    async def ask(data: Any) -> Any:
        return await durable.wait_for_text("why", remind_every=days(1))

    workflow = flow(ask)
    async with Durable(checked, workflows=[workflow], on_reminder=remind) as engine:
        handle = await engine.start(workflow, 1, id="x")
        async with asyncio.timeout(GUARD):
            await enough.wait()
        await handle.provide_input("why", "so")
        assert await handle.result(GUARD) == "so"
    assert [(i.id, i.name, i.reminded) for i in reminded] == [("x", "why", 1), ("x", "why", 2)]
