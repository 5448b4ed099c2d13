"""Where a decision, or an into, may go."""

from __future__ import annotations

from typing import Any

import pytest

import durable
from durable.errors import DefinitionError
from durable.model.results import Goto
from durable.model.results import Goto as G

from .declaring import Flow, Order, frozen, noop, refused


def test_a_decision_may_go_to_any_node_beside_it() -> None:
    def declare(orders: Flow) -> None:
        orders.step(noop, name="first")

        @orders.decision
        async def check(data: Any) -> Any:
            if data["again"]:
                return Goto("check", data)
            return Goto("first", data) if data["back"] else durable.Goto(target="last", data=data)

        orders.loop("last", until=noop).step(noop)

    assert frozen(declare)["check"].targets == ("check", "first", "last")


def test_an_unknown_target_is_refused_however_it_is_written() -> None:
    def plain(orders: Flow) -> None:
        @orders.decision  # here
        async def check(data: Any) -> Any:
            return Goto("ghost", data)

    def dotted(orders: Flow) -> None:
        @orders.decision()  # here
        def check(data: Any) -> Any:
            return durable.Goto(data=data, target="ghost")

    def renamed(orders: Flow) -> None:
        orders.decision(lambda data: G("ghost", data), name="check")  # here

    def inner(orders: Flow) -> None:
        from durable import Goto as Local

        @orders.decision  # here
        async def check(data: Any) -> Any:
            def further() -> Any:
                return Local("ghost")

            return further()

    for declare in (plain, dotted, renamed, inner):
        message = refused(declare)
        assert 'decision "check" (' in message
        assert "may go to 'ghost', but its block has no such node. It has: check." in message


def test_an_unknown_target_of_an_into_is_refused() -> None:
    def parallel(orders: Flow) -> None:
        orders.parallel("x", into=lambda data, results: Goto("ghost", data)).step(noop)  # here

    def foreach(orders: Flow) -> None:
        each = orders.foreach(  # here
            "x",
            items=lambda data: [],
            into=lambda data, results: Goto("ghost", data) if results.errors else data,
        )
        each.step(noop)

    for declare in (parallel, foreach):
        assert "may go to 'ghost', but its block has no such node. It has: x." in refused(declare)


def test_a_decision_cannot_leave_its_block() -> None:
    def declare(orders: Flow) -> None:
        case = orders.branch("x", on=noop).case("a")

        @case.decision  # here
        async def check(data: Any) -> Any:
            return Goto("last")

        orders.step(noop, name="last")

    message = refused(declare)
    assert 'decision "x/a/check"' in message
    assert "A Goto leads to a node beside it, not into another block." in message


def test_a_target_that_cannot_be_read_is_left_to_run_time() -> None:
    def declare(orders: Flow) -> None:
        orders.decision(lambda data: Goto(data["next"], data), name="computed")
        namespace: dict[str, Any] = {"Goto": Goto}
        exec("def unseen(data): return Goto('ghost')", namespace)
        orders.decision(namespace["unseen"])

    assert [node.targets for node in frozen(declare).values()] == [(), ()]


def test_only_a_decision_and_an_into_may_return_a_goto() -> None:
    def step(orders: Flow) -> None:
        @orders.step  # here
        async def last(data: Any) -> Any:
            return Goto("last") if data is None else data

        @orders.step
        async def check(data: Any) -> Any:
            if data:
                return Goto("last")
            return data

    def annotated(orders: Flow) -> None:
        @orders.step  # here
        async def check(data: Any) -> Order | Goto: ...

    def undo(orders: Flow) -> None:
        @orders.compensation  # here
        async def undo(data: Any) -> Goto | None: ...

    def on(orders: Flow) -> None:
        orders.branch("x", on=lambda data: Goto("x")).case(1).step(noop)  # here

    def items(orders: Flow) -> None:
        orders.foreach("x", items=lambda data: Goto("x")).step(noop)  # here

    def until(orders: Flow) -> None:
        orders.loop("x", until=lambda data: Goto("x")).step(noop)  # here

    for declare in (annotated, undo, on, items, until):
        assert "Goto. Only a decision may" in refused(declare)
    with pytest.raises(DefinitionError, match=r'step "check" .* returns a Goto\. Only a decision may'):
        frozen(step)


def test_a_goto_that_a_step_does_not_return_is_none_of_our_business() -> None:
    def declare(orders: Flow) -> None:
        @orders.step
        async def check(data: Any) -> Any:
            def inner() -> Any:
                return Goto("ghost")

            return str(inner())

    assert list(frozen(declare)) == ["check"]
