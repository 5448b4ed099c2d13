"""What undoes a step, and what is run when an execution has failed."""

from __future__ import annotations

import functools
import re
from datetime import timedelta
from typing import Any

import pytest

from durable.authoring import Workflow
from durable.errors import DefinitionError
from durable.model.definition import Source
from durable.model.retry import Retry

from .contexts import Context
from .declaring import Flow, Helper, Order, frozen, generator, noop, refused, starred

# --- undoing ---------------------------------------------------------------------------------------------------------


def test_a_compensation_has_the_options_that_it_was_declared_with() -> None:
    helper = Helper()

    def declare(orders: Flow) -> None:
        @orders.compensation(name="cancel", retry=Retry(max_attempts=5), timeout=timedelta(seconds=7))
        async def cancel_hotel(data: Any) -> None: ...

        orders.compensation(helper.undo, name="method")
        orders.step(noop, name="hotel", compensate=cancel_hotel, compensate_on="started")
        orders.step(noop, name="again", compensate=cancel_hotel)
        orders.step(noop, name="flight", compensate=helper.undo)
        orders.parallel("p").step(noop, name="car", compensate=noop)

    nodes = frozen(declare)
    undo = nodes["hotel"].compensation
    assert (undo.name, undo.retry, undo.timeout) == ("cancel", Retry(max_attempts=5), timedelta(seconds=7))
    assert nodes["hotel"].compensate_on == "started"
    assert nodes["again"].compensation == undo
    assert nodes["again"].compensate_on == "completed"
    assert nodes["flight"].compensation.name == "method"
    assert nodes["p"].arms[0].block.nodes[0].compensation.name == "noop"


def test_a_compensation_takes_a_context_like_a_step() -> None:
    def declare(orders: Flow) -> None:
        async def undo(data: Any, ctx: Context) -> None: ...

        orders.step(noop, compensate=undo)

    assert frozen(declare)["noop"].compensation.signature.context == "ctx"


def test_a_compensation_that_cannot_be_run_is_refused() -> None:
    def not_callable(orders: Flow) -> None:
        @orders.step(compensate="undo")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore  # here
        async def book(data: Any) -> Any: ...

    def a_class(orders: Flow) -> None:
        orders.step(len, compensate=Order)  # here

    def a_generator(orders: Flow) -> None:
        def undo(data: Any) -> Any:  # here
            yield data

        orders.step(noop, compensate=undo)

    def two_arguments(orders: Flow) -> None:
        async def undo(data: Any, item: Any) -> None: ...  # here

        orders.foreach("x", items=noop).step(noop, compensate=undo)

    def a_lambda(orders: Flow) -> None:
        orders.step(noop, compensate=lambda data: None)  # here

    assert "compensate is 'undo', which is not callable. Give the function that undoes it" in refused(not_callable)
    assert 'compensation "Order"' in refused(a_class)
    assert "is a class" in refused(a_class)
    assert 'compensation "undo"' in refused(a_generator)
    assert "is a generator" in refused(a_generator)
    assert "has 2 data parameters; a step takes one" in refused(two_arguments)
    assert "Or declare it with .compensation(..., name=...)" in refused(a_lambda)


def test_a_declared_compensation_that_undoes_nothing_is_refused() -> None:
    def unused(orders: Flow) -> None:
        @orders.compensation(retry=Retry(max_attempts=5))  # here
        async def undo(data: Any) -> None: ...

        orders.step(noop)

    def wrapped(orders: Flow) -> None:
        @orders.compensation  # here
        async def undo(data: Any) -> None: ...

        orders.step(noop, compensate=functools.partial(undo))

    for declare in (unused, wrapped):
        assert "undoes nothing. Give it as compensate= of the step that it undoes" in refused(declare)


def test_options_that_would_come_too_late_for_a_compensation_are_refused() -> None:
    def late(orders: Flow) -> None:
        async def undo(data: Any) -> None: ...  # here

        orders.step(noop, compensate=undo)
        orders.compensation(undo, retry=Retry(max_attempts=5))

    def twice(orders: Flow) -> None:
        async def undo(data: Any) -> None: ...  # here

        orders.compensation(undo, name="one")
        orders.compensation(undo, name="other")

    assert 'comes too late: step "noop" (' in refused(late)
    assert "is declared twice" in refused(twice)


@pytest.mark.parametrize("value", ["failed", None, 1, ["started"]])
def test_compensate_on_must_be_known(value: Any) -> None:
    def declare(orders: Flow) -> None:
        @orders.step(compensate=noop, compensate_on=value)  # here
        async def book(data: Any) -> Any: ...

    assert f"compensate_on is {value!r}. Give 'completed' or 'started'" in refused(declare)


def test_an_unbounded_loop_around_what_must_be_undone_is_refused_at_any_depth() -> None:
    def direct(orders: Flow) -> None:
        orders.loop("x", until=noop).step(noop, compensate=noop)  # here

    def deep(orders: Flow) -> None:
        turn = orders.loop("x", until=noop)  # here
        case = turn.branch("b", on=noop).case("a")
        item = case.parallel("p").arm("one").foreach("f", items=noop)
        item.loop("bounded", until=noop, max_iterations=3).step(noop, compensate=noop)

    def inner(orders: Flow) -> None:
        turn = orders.loop("bounded", until=noop, max_iterations=3)
        turn.loop("x", until=noop).step(noop, compensate=noop)  # here

    def otherwise(orders: Flow) -> None:
        outcome = orders.loop("x", until=noop).branch("b", on=noop)  # here
        outcome.case("a").step(noop)
        outcome.otherwise.step(noop, compensate=noop)

    for declare in (direct, deep, inner, otherwise):
        message = refused(declare)
        assert 'x" (' in message
        assert "has a compensation, and all of them would have to be kept. Give max_iterations=" in message


def test_a_bounded_loop_around_what_must_be_undone_is_accepted() -> None:
    def declare(orders: Flow) -> None:
        turn = orders.loop("x", until=noop, max_iterations=3)
        turn.loop("y", until=noop, max_iterations=3).step(noop, compensate=noop)
        orders.loop("z", until=noop).step(noop)

    assert list(frozen(declare)) == ["x", "z"]


# --- on_failure ------------------------------------------------------------------------------------------------------


def test_on_failure_is_a_step_of_the_workflow() -> None:
    async def tell(order: Order, ctx: Context) -> None: ...

    orders = Workflow[Order, Any]("order", on_failure=tell)
    orders.step(noop)
    last = orders.definition.on_failure
    assert last is not None
    assert (last.name, last.runs_in, last.signature.input_type) == ("tell", "loop", Order)


def test_on_failure_must_not_be_called_like_a_node() -> None:
    orders = Workflow[Any, Any]("order", on_failure=noop)
    orders.step(noop)
    with pytest.raises(DefinitionError) as caught:
        orders.definition  # noqa: B018
    assert f'on_failure "noop" ({Source(noop.__code__.co_filename, noop.__code__.co_firstlineno)})' in str(caught.value)
    assert "is called like step (" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("tell", "is not callable"),
        (Order, "is a class"),
        (generator, "is a generator"),
        (lambda data, more: None, "Write a def: a lambda has no name of its own."),
        (lambda data: None, "Write a def: a lambda has no name of its own."),
        (starred, "takes *args"),
        (Helper.undo, "has 2 data parameters"),
    ],
)
def test_an_on_failure_that_cannot_be_run_is_refused_when_the_workflow_is_made(function: Any, reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Workflow("order", on_failure=function)
    assert 'workflow "order": on_failure ' in str(caught.value)
    assert re.search(r"tests/authoring/\w+\.py:\d+\)", str(caught.value))
    assert reason in str(caught.value)


def test_on_failure_must_take_the_input() -> None:
    async def tell(data: int) -> None: ...

    orders = Workflow[Order, Any]("order", on_failure=tell)
    orders.step(noop)
    with pytest.raises(DefinitionError, match=r'on_failure "tell" .* cannot take what comes from the input of'):
        orders.definition  # noqa: B018
