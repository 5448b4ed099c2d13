"""Workflows whose bodies ask people, and how each must end, with and without crashes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import durable
from durable import Choice, Field, Retry, Workflow, context, days, hours
from tests.engine.cases import case, silent

Flow = Workflow[Any, Any]


@case(1, result="approved", inputs=[("manager", "approved")])
def an_approval(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> Any:
        return await durable.wait_for_approval("manager", prompt="May we?", metadata={"amount": data})


@case([], result=["approved", "rejected"], inputs=[("manager", "approved"), ("manager", "rejected")])
def a_second_question_never_gets_the_first_answer(w: Flow) -> None:
    @w.step
    async def ask(data: list[str]) -> list[str]:
        first = await durable.wait_for_approval("manager")
        return [first, await durable.wait_for_approval("manager")]


@case([], result=["one", "two"], inputs=[("why", "one"), ("why", "two")])
def a_second_step_asks_anew(w: Flow) -> None:
    @w.step
    async def one(data: list[str]) -> list[str]:
        return [await durable.wait_for_text("why")]

    @w.step
    async def two(data: list[str]) -> list[str]:
        return [*data, await durable.wait_for_text("why")]


@case(1, result={"one": "fast", "some": [1, 3]}, inputs=[("shipping", "fast"), ("extras", [1, 3])])
def choices(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> dict[str, Any]:
        one = await durable.wait_for_choice("shipping", choices=["slow", Choice("fast", label="Express")])
        some = await durable.wait_for_choice("extras", choices=[1, {"value": 2, "label": "two"}, 3], multiple=True)
        return {"one": one, "some": some}


@case(1, result={"serial": "a1", "count": 2}, inputs=[("equipment", {"serial": "a1", "count": 2})])
def a_form_of_fields(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> Any:
        return await durable.wait_for_form(
            "equipment",
            fields=[
                {"name": "serial"},
                Field("count", type="integer", required=False),
                {"name": "kind", "type": "choice", "options": ["a", "b"], "required": False},
            ],
        )


@dataclass
class Equipment:
    serial: str
    count: int = 1


@case(1, result=3, inputs=[("equipment", {"serial": "a1", "count": 3})])
def a_form_of_a_class(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> int:
        equipment = await durable.wait_for_form("equipment", form=Equipment)
        assert isinstance(equipment, Equipment)
        return equipment.count


@case(1, result=[None, "auto"])
def a_question_that_nobody_answers_in_time_resumes(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> Any:
        nothing = await durable.wait_for_approval("manager", timeout=days(3), on_timeout="resume")
        return [nothing, await durable.wait_for_approval("manager", timeout=days(3), timeout_value="auto")]


@case(1, error="durable.errors.WaitTimeout", message='input:"manager"')
def a_question_that_nobody_answers_in_time_fails(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> Any:
        return await durable.wait_for_approval("manager", timeout=days(3), on_timeout="fail")


@case(1, result=[2, "approved"], inputs=[("second", "approved")])
def the_next_attempt_asks_anew(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def ask(data: int) -> Any:
        name = "first" if context().attempt == 1 else "second"
        return [context().attempt, await durable.wait_for_approval(name, timeout=days(1))]


@case(1, result=["ok", 2], inputs=[("once", "ok")])
def an_answer_outlives_the_attempt(w: Flow) -> None:
    @w.step(retry=Retry(2, delay=hours(1)))
    async def ask(data: int) -> Any:
        answer = await durable.wait_for_text("once")
        if context().attempt == 1:
            raise ValueError("after the answer")
        return [answer, context().attempt]


@case(1, result={"legal": "approved", "finance": "rejected"}, inputs=[("finance", "rejected"), ("legal", "approved")])
def questions_in_several_arms(w: Flow) -> None:
    both = w.parallel("both", merge="collect")

    @both.step
    async def legal(data: int) -> Any:
        return await durable.wait_for_approval("legal")

    @both.step
    async def finance(data: int) -> Any:
        return await durable.wait_for_approval("finance", timeout=days(2), timeout_value="late")


@case(["a", "b", "c"], result=["approved"] * 3, inputs=[("review", "approved")] * 3)
def a_question_for_each_item(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: data, concurrency=2, into=lambda data, results: results.ok)

    @each.step
    async def review(data: Any, item: str) -> Any:
        return await durable.wait_for_approval("review", metadata=item)


@case(1, result=["yes", "go"], inputs=[("really", "yes")], events=[("go", "go")])
def a_question_beside_an_event(w: Flow) -> None:
    @w.step
    async def ask(data: int) -> Any:
        return list(
            await asyncio.gather(durable.wait_for_text("really"), durable.wait_for_event("go", timeout=days(9)))
        )


@case(1, status="compensated", error="builtins.ValueError", inputs=[("undo", "approved")], undone=["book/cancel"])
def a_compensation_asks(w: Flow) -> None:
    async def cancel(data: Any) -> Any:
        return await durable.wait_for_approval("undo")

    w.step(name="book", compensate=cancel)(silent)

    @w.step
    async def fail(data: int) -> None:
        raise ValueError("no")


@case(1, error="builtins.ValueError")
def a_question_that_is_left_behind(w: Flow) -> None:
    both = w.parallel("both", on_error="fail_fast")

    @both.step
    async def ask(data: int) -> Any:
        return await durable.wait_for_approval("left")

    @both.step
    async def wait(data: int) -> Any:
        await durable.sleep(hours(1))
        raise ValueError("no")
