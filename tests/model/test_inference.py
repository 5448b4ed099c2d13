"""What a lambda is given: the type that the nodes before it say, where that is certain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from durable import Goto, Workflow
from durable.testing import run


@dataclass
class Order:
    kind: str
    lines: list[Line]


@dataclass
class Line:
    amount: int


@dataclass
class Total:
    total: int


ORDER = Order("big", [Line(1), Line(2)])


async def same(order: Order) -> Order:
    return order


async def nothing(order: Order) -> None: ...


async def summed(order: Order) -> Total:
    return Total(sum(line.amount for line in order.lines))


async def test_a_branch_asks_of_the_input_and_of_what_a_step_has_returned() -> None:
    workflow = Workflow[Order, Any]("typed")
    size = workflow.branch("size", on=lambda order: order.kind)
    size.case("big").step(name="sum")(summed)
    size.case("small").step(name="other")(summed)
    high = workflow.branch("high", on=lambda total: total.total > 2)
    high.case(True).step(name="yes")(lambda data: data)
    high.case(False).step(name="no")(lambda data: data)
    assert (await run(workflow, ORDER)).result == {"total": 3}


async def test_what_returns_nothing_hands_the_type_on() -> None:
    workflow = Workflow[Order, Any]("typed")
    workflow.step(name="first")(nothing)
    again = workflow.loop("again", until=lambda order: order.kind == "big", max_iterations=1)
    again.step(name="second")(nothing)
    each = workflow.foreach("each", items=lambda order: [line.amount for line in order.lines])
    each.step(name="look")(lambda data, item: None)
    kind = workflow.branch("kind", on=lambda order: order.kind)
    kind.case("big").step(name="last")(nothing)
    assert (await run(workflow, ORDER)).status.value == "completed"


async def test_an_item_has_the_type_that_items_is_annotated_to_return() -> None:
    def lines(order: Order) -> list[Line]:
        return order.lines

    workflow = Workflow[Order, Any]("typed")
    each = workflow.foreach("each", items=lines, into=lambda order, results: {order.kind: results.ok})
    odd = each.branch("odd", on=lambda order, line: line.amount % 2 == 1)
    odd.case(True).step(name="yes")(lambda data, line: "odd")
    odd.case(False).step(name="no")(lambda data, line: "even")
    assert (await run(workflow, ORDER)).result == {"big": ["odd", "even"]}


def jumping(workflow: Workflow[Order, Any]) -> None:
    @workflow.decision
    async def choose(order: Order) -> Order | Goto:
        return order


def merging(workflow: Workflow[Order, Any]) -> None:
    workflow.parallel("both").step(name="arm")(same)


def ending_differently(workflow: Workflow[Order, Any]) -> None:
    either = workflow.branch("either", on=lambda order: order.kind)
    either.case("big").step(name="same")(same)
    either.case("small").step(name="sum")(summed)


@pytest.mark.parametrize("before", [jumping, merging, ending_differently])
async def test_where_several_types_may_come_a_lambda_is_given_the_json_form(before: Any) -> None:
    workflow = Workflow[Order, Any]("untyped")
    before(workflow)
    kind = workflow.branch("kind", on=lambda order: order["kind"])
    kind.case("big").step(name="last")(lambda data: data["kind"])
    assert (await run(workflow, ORDER)).result == "big"


async def test_a_function_without_annotations_that_is_no_lambda_is_given_the_json_form() -> None:
    def on(order):  # type: ignore[no-untyped-def]
        return order["kind"]

    workflow = Workflow[Order, Any]("untyped")
    kind = workflow.branch("kind", on=on)
    kind.case("big").step(name="last")(nothing)
    assert (await run(workflow, ORDER)).status.value == "completed"


async def test_a_loop_that_changes_the_type_gives_its_lambdas_the_json_form_inside_and_the_new_type_at_its_end() -> (
    None
):
    async def next_total(data: Any) -> Total:
        return Total(data.get("total", 0) + 1)

    workflow = Workflow[Order, Any]("typed")
    rounds = workflow.loop("rounds", until=lambda total: total.total == 2, max_iterations=3)
    first = rounds.branch("first", on=lambda data: "kind" in data)
    first.case(True).step(name="yes")(lambda data: None)
    first.case(False).step(name="no")(lambda data: None)
    rounds.step(name="next")(next_total)
    assert (await run(workflow, replace(ORDER))).result == {"total": 2}
