"""A type that JSON cannot be read as is refused when the program begins, not when the first execution comes to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Never, NoReturn

import msgspec
import pytest

from durable import Durable, Goto, Workflow
from durable.codec import JsonCodec
from durable.errors import DefinitionError
from durable.model.results import ArmResults, ItemResults
from tests.authoring.declaring import Declare, Flow, marked, noop


@dataclass
class Approved:
    by: str


@dataclass
class Rejected:
    why: str


class Yes(msgspec.Struct, tag=True):
    by: str


class No(msgspec.Struct, tag=True):
    why: str


Unclear = Approved | Rejected  # JSON of the one may be JSON of the other
Clear = Yes | No


def of_a_step(orders: Flow) -> None:
    @orders.step  # here
    async def judge(order: Unclear) -> None: ...


def from_a_step(orders: Flow) -> None:
    @orders.step  # here
    async def judge(order: Any) -> Unclear: ...


def from_a_decision(orders: Flow) -> None:
    @orders.decision  # here
    async def judge(order: Any) -> Unclear | Goto: ...

    orders.step(noop, name="last")


def deep_inside(orders: Flow) -> None:
    @orders.step  # here
    async def judge(order: Any) -> dict[str, list[Unclear]]: ...


def of_a_compensation(orders: Flow) -> None:
    async def forget(order: Unclear) -> None: ...  # here

    orders.step(noop, name="judge", compensate=forget)


def of_an_item(orders: Flow) -> None:
    def lines(order: Any) -> list[Any]:
        return []

    each = orders.foreach("each", items=lines)

    @each.step  # here
    async def judge(order: Any, line: Unclear) -> None: ...


def from_items(orders: Flow) -> None:
    def lines(order: Any) -> Iterable[Unclear]:  # here
        return []

    orders.foreach("each", items=lines).step(noop, name="judge")


def of_an_until(orders: Flow) -> None:
    def over(order: Unclear) -> bool:  # here
        return True

    orders.loop("again", until=over).step(noop, name="judge")


def of_on(orders: Flow) -> None:
    def kind(order: Unclear) -> str:  # here
        return "a"

    orders.branch("which", on=kind).case("a").step(noop, name="judge")


def from_an_into(orders: Flow) -> None:
    def joined(order: Any, arms: ArmResults) -> Unclear:  # here
        raise NotImplementedError

    both = orders.parallel("both", into=joined)
    both.step(noop, name="a")
    both.step(noop, name="b")


PLACES = [
    of_a_step,
    from_a_step,
    from_a_decision,
    deep_inside,
    of_a_compensation,
    of_an_item,
    from_items,
    of_an_until,
    of_on,
    from_an_into,
]


@pytest.mark.parametrize("declare", PLACES)
def test_a_type_that_nothing_can_be_read_as_is_refused_wherever_it_stands(declare: Declare) -> None:
    orders = Workflow[Any, Any]("order")
    declare(orders)
    with pytest.raises(DefinitionError) as caught:
        Durable(workflows=[orders])
    message = str(caught.value)
    assert message.startswith('workflow "order"')
    assert f"{__file__}:{marked(declare)}" in message, message
    assert "JSON cannot be read as" in message
    assert "tag=True" in message


@pytest.mark.parametrize("types", [(Unclear, Any), (Any, Unclear)])
def test_so_are_the_input_and_the_result_of_a_workflow(types: Any) -> None:
    orders = Workflow[types]("order")
    orders.step(noop, name="only")
    with pytest.raises(DefinitionError, match=r'workflow "order" \(.*\): its (input|result): JSON cannot be read as'):
        Durable(workflows=[orders])


def test_and_what_is_run_on_failure() -> None:
    async def tell(order: Unclear) -> None: ...

    orders = Workflow[Any, Any]("order", on_failure=tell)
    orders.step(noop, name="only")
    with pytest.raises(DefinitionError, match=r'on_failure "tell" .*: what it takes: JSON cannot be read as'):
        Durable(workflows=[orders])


def test_what_can_be_told_apart_is_taken_and_so_are_results_of_arms_and_items() -> None:
    orders = Workflow[Clear, Clear]("order")

    @orders.step
    async def judge(order: Clear) -> Clear:
        return order

    def joined(order: Clear, arms: ArmResults) -> Clear:
        return order

    def listed(order: Clear, items: ItemResults) -> Clear:
        return order

    def lines(order: Clear) -> Iterable[int]:
        return []

    both = orders.parallel("both", into=joined)
    both.step(noop, name="a")
    both.step(noop, name="b")
    orders.foreach("each", items=lines, into=listed).step(noop, name="judge")
    assert Durable(workflows=[orders]).workflows == [orders]


def test_a_step_that_never_returns_promises_nothing_that_would_have_to_be_read() -> None:
    orders = Workflow[Any, Never]("order")

    @orders.step
    async def fail(order: Any) -> NoReturn:
        raise ValueError

    assert Durable(workflows=[orders]).workflows == [orders]


def test_another_codec_decides_for_itself() -> None:
    class Mine:
        def encode(self, value: Any, annotation: Any = Any) -> str:
            return JsonCodec().encode(value)

        def decode(self, text: str, annotation: Any = Any) -> Any:
            return JsonCodec().decode(text)

    orders = Workflow[Any, Any]("order")
    of_a_step(orders)
    assert Durable(workflows=[orders], codec=Mine()).workflows == [orders]
