"""What is declared inside what, where it stands, and until when."""

from __future__ import annotations

import functools
from datetime import timedelta
from enum import Enum, IntEnum
from typing import Any

import pytest

from durable.authoring import Workflow
from durable.errors import DefinitionError
from durable.model.definition import Branch, Decision, Foreach, Loop, Parallel, Step
from durable.model.retry import Retry

from .declaring import Flow, Helper, frozen, noop, place, refused


class Verdict(Enum):
    APPROVED = "approved"
    REJECTED = "rejected"


class Size(IntEnum):
    SMALL = 1


# --- what is declared ------------------------------------------------------------------------------------------------


def test_each_method_adds_its_node_with_its_options_in_the_order_of_the_calls() -> None:
    def declare(orders: Flow) -> None:
        orders.decision(noop, name="check", max_visits=7, timeout=timedelta(seconds=3))
        orders.branch("choose", on=lambda data: "a").case("a").step(noop)
        orders.parallel("fetch", merge="collect", on_error="complete_all").step(noop)
        send = orders.foreach(
            "send", items=lambda data: [], concurrency=5, on_error="continue", tolerate=0.1, collect_as="sent"
        )
        send.step(noop)
        orders.loop("poll", until=lambda data: True, max_iterations=9).step(noop)
        orders.step(noop, name="last")

    nodes = frozen(declare)
    assert list(nodes) == ["check", "choose", "fetch", "send", "poll", "last"]
    assert [type(node) for node in nodes.values()] == [Decision, Branch, Parallel, Foreach, Loop, Step]
    assert (nodes["check"].max_visits, nodes["check"].timeout) == (7, timedelta(seconds=3))
    assert (nodes["fetch"].merge, nodes["fetch"].on_error) == ("collect", "complete_all")
    send = nodes["send"]
    assert (send.concurrency, send.on_error, send.tolerate, send.collect_as) == (5, "continue", 0.1, "sent")
    assert nodes["poll"].max_iterations == 9


def test_blocks_stand_inside_blocks() -> None:
    def declare(orders: Flow) -> None:
        case = orders.branch("choose", on=lambda data: 1).case(1)
        arm = case.parallel("fetch").arm("one")
        item = arm.foreach("each", items=lambda data: [])
        turn = item.loop("poll", until=lambda data, item, index: True)
        turn.decision(noop)

    branch = frozen(declare)["choose"]
    decision = branch.cases[0].block.nodes[0].arms[0].block.nodes[0].block.nodes[0].block.nodes[0]
    assert isinstance(decision, Decision)
    assert decision.name == "noop"


def test_a_node_is_placed_where_the_author_called() -> None:
    def branch(orders: Flow) -> None:
        orders.branch(  # here
            "x",
            on=lambda data: 1,
        ).case(1).step(noop)

    def parallel(orders: Flow) -> None:
        orders.parallel("x").step(noop)  # here

    def foreach(orders: Flow) -> None:
        orders.foreach("x", items=lambda data: []).step(noop)  # here

    def loop(orders: Flow) -> None:
        orders.loop("x", until=lambda data: True).step(noop)  # here

    def decision(orders: Flow) -> None:
        @orders.decision(name="x")  # here
        async def check(data: Any) -> Any: ...

    for declare in (branch, parallel, foreach, loop, decision):
        assert frozen(declare)["x"].source == place(declare)


def test_a_case_an_arm_and_a_rule_are_placed_where_the_author_wrote_them() -> None:
    def case(orders: Flow) -> None:
        outcome = orders.branch("x", on=lambda data: 1)
        outcome.case(1).step(noop)  # here
        outcome.case(1).step(noop, name="more")

    def otherwise(orders: Flow) -> None:
        outcome = orders.branch("x", on=lambda data: 1)
        outcome.case(1).step(noop)
        last = outcome.otherwise  # here
        last.step(noop)

    def arm(orders: Flow) -> None:
        fetch = orders.parallel("x")
        one = fetch.arm("one")  # here
        one.step(noop)

    def rule(orders: Flow) -> None:
        orders.loop(
            "x",
            until=lambda data: True,  # here
        ).step(noop)

    assert frozen(case)["x"].cases[0].block.source == place(case)
    assert frozen(otherwise)["x"].otherwise.source == place(otherwise)
    assert frozen(arm)["x"].arms[0].block.source == place(arm)
    assert frozen(rule)["x"].until.source == place(rule)


async def test_every_decorator_returns_the_function_itself() -> None:
    orders = Workflow[Any, Any]("order")
    fetch = orders.parallel("fetch")
    decorators = [
        orders.decision,
        orders.decision(name="d"),
        orders.compensation,
        fetch.step,
        fetch.step(name="s", key="k"),
        fetch.arm("a").step,
        orders.branch("b", on=noop).case(1).step,
        orders.foreach("f", items=noop).decision(),
        orders.loop("l", until=noop).step(retry=Retry()),
    ]
    for decorate in decorators:
        assert decorate(noop) is noop


def test_a_case_asked_for_twice_is_the_same_block() -> None:
    outcome = Workflow[Any, Any]("order").branch("choose", on=noop)
    assert outcome.case("a") is outcome.case("a")
    assert outcome.case("approved") is outcome.case(Verdict.APPROVED)
    assert outcome.case(1) is outcome.case(Size.SMALL)
    assert outcome.case("b", name="bee") is outcome.case("b")
    assert outcome.case("b", name="bee") is outcome.case("b")
    assert outcome.otherwise is outcome.otherwise


def test_cases_of_different_types_are_different_cases() -> None:
    outcome = Workflow[Any, Any]("order").branch("choose", on=noop)
    blocks = [
        outcome.case(value, name=str(place))
        for place, value in enumerate([1, True, "1", "true", None, "null", 0, False])
    ]
    assert len(set(map(id, blocks))) == len(blocks)


def test_a_case_is_called_like_its_value_or_its_name() -> None:
    def declare(orders: Flow) -> None:
        outcome = orders.branch("x", on=lambda data: 1)
        for value in ("approved", 7, True, None, Verdict.REJECTED):
            outcome.case(value).step(noop)
        outcome.case("a/b", name="a or b").step(noop)

    cases = [(case.label, case.value) for case in frozen(declare)["x"].cases]
    assert cases == [
        ("approved", '"approved"'),
        ("7", "7"),
        ("true", "true"),
        ("null", "null"),
        ("rejected", '"rejected"'),
        ("a or b", '"a/b"'),
    ]


def test_an_arm_of_one_step_is_called_like_it_and_its_result_like_its_key() -> None:
    def declare(orders: Flow) -> None:
        fetch = orders.parallel("x")
        fetch.step(noop)
        fetch.step(noop, name="user", key="u")
        fetch.arm("cart", key="c").step(noop)
        fetch.arm("stock").step(noop)

    arms = [(arm.name, arm.key, arm.single, arm.block.nodes[0].name) for arm in frozen(declare)["x"].arms]
    assert arms == [
        ("noop", "noop", True, "noop"),
        ("user", "u", True, "user"),
        ("cart", "c", False, "noop"),
        ("stock", "stock", False, "noop"),
    ]


def test_a_rule_takes_what_there_is_or_less() -> None:
    def declare(orders: Flow) -> None:
        orders.branch("none", on=lambda: 1).case(1).step(noop)
        each = orders.foreach("each", items=lambda data: [], into=lambda data, results: data)
        each.branch("inside", on=lambda data, item, index: index).case(1).step(lambda data, item: data, name="s")
        orders.parallel("fetch", into=lambda data: data).step(noop)
        orders.loop("method", until=Helper().pick).step(noop)
        orders.loop("partial", until=functools.partial(Helper.pick, Helper())).step(noop)
        orders.loop("default", until=lambda data, times=3, *, strict=True: True).step(noop)

    nodes = frozen(declare)
    assert nodes["none"].on.signature.positional == 0
    assert nodes["each"].into.signature.positional == 2
    assert nodes["each"].block.nodes[0].on.signature.positional == 3
    assert nodes["fetch"].into.signature.positional == 1
    assert nodes["default"].until.signature.positional == 1


def test_a_rule_may_be_annotated_with_names_beside_it() -> None:
    class Local: ...

    def pick(data: Local) -> str: ...

    def declare(orders: Flow) -> None:
        orders.branch("x", on=pick).case("a").step(noop)

    orders = Workflow[Any, Any]("order")
    orders.branch("x", on=pick).case("a").step(noop)
    (branch,) = orders.definition.body
    assert isinstance(branch, Branch)
    assert branch.on.signature.input_type is Local


def test_a_rule_may_be_annotated_with_names_further_down() -> None:
    orders = Workflow[Any, Any]("order")
    orders.loop("x", until=until_later).step(noop)
    (loop,) = orders.definition.body
    assert isinstance(loop, Loop)
    assert loop.until.signature.input_type is Later


def until_later(data: Later) -> bool: ...


class Later: ...


# --- blocks without steps --------------------------------------------------------------------------------------------


def test_every_block_needs_a_step() -> None:
    def case(orders: Flow) -> None:
        outcome = orders.branch("x", on=noop)
        outcome.case("a")  # here

    def otherwise(orders: Flow) -> None:
        outcome = orders.branch("x", on=noop)
        outcome.case("a").step(noop)
        outcome.otherwise  # noqa: B018 # here

    def arm(orders: Flow) -> None:
        fetch = orders.parallel("x")
        fetch.arm("a")  # here

    def foreach(orders: Flow) -> None:
        orders.foreach("x", items=noop)  # here

    def loop(orders: Flow) -> None:
        orders.loop("x", until=noop)  # here

    for declare in (case, otherwise, arm, foreach, loop):
        assert "has no steps. Declare at least one" in refused(declare)
    assert f'case "a" ({place(case)}) has no steps' in refused(case)
    assert f'arm "a" ({place(arm)}) has no steps' in refused(arm)


def test_a_branch_needs_a_case_and_a_parallel_an_arm() -> None:
    def branch(orders: Flow) -> None:
        orders.branch("x", on=noop)  # here

    def otherwise(orders: Flow) -> None:
        outcome = orders.branch("x", on=noop)  # here
        outcome.otherwise.step(noop)

    def parallel(orders: Flow) -> None:
        orders.parallel("x")  # here

    assert "has no cases. Declare at least one, with .case(value)" in refused(branch)
    assert "has no cases" in refused(otherwise)
    assert "has no arms. Declare at least one, with .step or .arm(name)" in refused(parallel)


def test_a_block_is_no_decorator() -> None:
    def case(orders: Flow) -> None:
        outcome: Any = orders.branch("x", on=noop)
        outcome.case("a")(noop)  # here

    def branch(orders: Flow) -> None:
        outcome: Any = orders.branch("x", on=noop)  # here
        outcome(noop)

    def parallel(orders: Flow) -> None:
        fetch: Any = orders.parallel("x")  # here
        fetch(noop)

    def foreach(orders: Flow) -> None:
        each: Any = orders.foreach("x", items=noop)  # here
        each(noop)

    assert "is no decorator. Use what it has: .step, .decision, .branch" in refused(case)
    assert "is no decorator. Use what it has: .case, .otherwise." in refused(branch)
    assert "is no decorator. Use what it has: .step, .arm." in refused(parallel)
    assert "is no decorator. Use what it has: .step" in refused(foreach)


def test_a_workflow_or_a_block_is_no_function() -> None:
    def step(orders: Flow) -> None:
        orders.step(Workflow("other"), name="x")  # type: ignore[type-var]  # pyright: ignore  # here

    def undo(orders: Flow) -> None:
        orders.step(noop, compensate=orders.foreach("x", items=noop))  # type: ignore[arg-type] # here

    for declare in (step, undo):
        assert "is a workflow, or a part of one, and no function" in refused(declare)


# --- a workflow in use -----------------------------------------------------------------------------------------------


def test_nothing_can_be_added_to_a_workflow_in_use() -> None:
    orders = Workflow[Any, Any]("order")
    branch = orders.branch("branch", on=noop)
    case = branch.case("a")
    parallel = orders.parallel("parallel")
    arm = parallel.arm("arm")
    foreach = orders.foreach("foreach", items=noop)
    loop = orders.loop("loop", until=noop)
    blocks = (orders, case, arm, foreach, loop)
    for block in blocks:
        block.step(noop)
    before = orders.definition
    late = [
        lambda: branch.case("b"),
        lambda: branch.otherwise,
        lambda: parallel.arm("b"),
        lambda: parallel.step(noop),
        lambda: orders.compensation(noop),
    ]
    for block in blocks:
        late += [
            functools.partial(block.step, noop, name="late"),
            functools.partial(block.decision, noop, name="late"),
            functools.partial(block.branch, "late", on=noop),
            functools.partial(block.parallel, "late"),
            functools.partial(block.foreach, "late", items=noop),
            functools.partial(block.loop, "late", until=noop),
        ]
    for add in late:
        with pytest.raises(DefinitionError, match=r'workflow "order" \(.*\) is in use: .*\.py:\d+\).* comes too late'):
            add()
    assert branch.case("a") is case  # asking is no change
    assert orders.definition is before


# --- steps of a foreach ----------------------------------------------------------------------------------------------


def test_a_step_takes_data_item_and_index_only_within_a_foreach() -> None:
    def declare(orders: Flow) -> None:
        each = orders.foreach("x", items=noop)
        each.step(lambda data, item, index: data, name="three")
        each.loop("l", until=noop).decision(lambda data, item: data, name="two")
        each.parallel("p").step(lambda data, item, index: data, name="arm")
        each.branch("b", on=noop).case(1).step(lambda data, item, index: data, name="case")

    nodes = frozen(declare)["x"].block.nodes
    assert nodes[0].signature.positional == 3
    assert nodes[1].block.nodes[0].signature.positional == 2

    def four(orders: Flow) -> None:
        each = orders.foreach("x", items=noop)
        each.step(lambda data, item, index, more: data, name="s")  # here

    def beside(orders: Flow) -> None:
        orders.foreach("x", items=noop).step(noop)
        orders.step(lambda data, item: data, name="s")  # here

    assert (
        "has 4 data parameters; a step of a foreach takes up to three data parameters (data, item, index)"
        in refused(four)
    )
    assert "has 2 data parameters; a step takes one" in refused(beside)
