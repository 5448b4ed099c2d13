"""Which neighbours can never hand over their data, across nodes with blocks inside, jumps and compensations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any, Literal

import pytest

from durable.model.check import check
from durable.model.definition import Arm, Block, Branch, Case, Foreach, Loop, Node, Parallel, Rule, Step

from .trees import HERE, block, decision, definition, refusal, rule, step, typed, typed_rule


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    total: int


class Verdict(Enum):
    APPROVED = "approved"


Receive = Callable[[Block], Node]


def branch(inner: Block, on: Rule | None = None) -> Branch:
    return Branch("node", on or rule(), (Case("yes", "true", inner),), HERE)


def otherwise(inner: Block) -> Branch:
    return Branch("node", rule(), (Case("yes", "true", block("a")),), HERE, inner)


def parallel(inner: Block, into: Rule | None = None) -> Parallel:
    return Parallel("node", (Arm("yes", "yes", inner),), HERE, into=into)


def foreach(inner: Block, items: Rule | None = None, into: Rule | None = None, **options: Any) -> Foreach:
    return Foreach("node", items or rule(), inner, HERE, into=into, **options)


def loop(inner: Block, until: Rule | None = None, **options: Any) -> Loop:
    return Loop("node", until or rule(), inner, HERE, **options)


EVERY: list[Receive] = [branch, otherwise, parallel, foreach, loop]


# --- into, inside and out of composites ------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", EVERY)
def test_the_first_node_of_a_block_must_take_what_its_node_is_given(composite: Receive) -> None:
    wrong = Block((typed("s", int, Any),))
    message = refusal(typed("a", Any, Order), composite(wrong))
    assert '/s" (a.py:1) cannot take what comes from step "a" (a.py:1): ' in message
    check(definition(typed("a", Any, Order), composite(Block((typed("s", Order, Any),)))))
    check(definition(typed("a", Any, Order), composite(Block((step("s"), typed("t", int, Any))))))


@pytest.mark.parametrize("composite", EVERY)
def test_neighbours_inside_a_block_must_fit(composite: Receive) -> None:
    inner = Block((typed("s", Any, Order), typed("t", int, Any)))
    assert '/t" (a.py:1) cannot take what comes from step "node/' in refusal(composite(inner))


@pytest.mark.parametrize("composite", EVERY)
def test_what_a_node_with_blocks_gives_is_unknown(composite: Receive) -> None:
    inner = Block((typed("s", Any, Order),))
    check(definition(typed("a", Any, str), composite(inner), typed("b", Receipt, Any)))
    check(definition(composite(inner), input_type=Order, output_type=int))


def test_the_first_node_of_a_nested_block_must_take_what_comes_from_outside() -> None:
    inner = loop(Block((parallel(Block((foreach(Block((typed("s", int, Any),))),))),)))
    message = refusal(branch(Block((inner,))), input_type=Order)
    assert 'step "node/yes/node/node/yes/node/s" (a.py:1) cannot take what comes from the input of' in message


# --- functions that decide -------------------------------------------------------------------------------------------


def test_a_rule_must_take_the_data() -> None:
    wrong = typed_rule(int)
    before = typed("a", Any, Order)
    assert 'branch "node" (a.py:1): on cannot take what comes from step "a"' in refusal(
        before, branch(block("s"), on=wrong)
    )
    assert 'foreach "node" (a.py:1): items cannot take what' in refusal(before, foreach(block("s"), items=wrong))
    assert 'foreach "node" (a.py:1): into cannot take what' in refusal(before, foreach(block("s"), into=wrong))
    assert 'parallel "node" (a.py:1): into cannot take what' in refusal(before, parallel(block("s"), into=wrong))
    right = typed_rule(Order)
    check(definition(before, branch(block("s"), on=right)))
    check(definition(before, foreach(block("s"), items=right, into=right)))
    check(definition(before, parallel(block("s"), into=right)))
    check(definition(before, branch(block("s"), on=typed_rule(int, positional=0))))


def test_until_must_take_what_the_block_gives() -> None:
    inner = Block((typed("s", Any, Receipt),))
    assert 'loop "node" (a.py:1): until cannot take what comes from step "node/s"' in refusal(
        loop(inner, until=typed_rule(Order)), input_type=Order
    )
    check(definition(loop(inner, until=typed_rule(Receipt)), input_type=Order))


def test_a_loop_must_take_what_it_gave_the_time_before() -> None:
    inner = Block((typed("s", Order, Receipt),))
    message = refusal(loop(inner))
    assert (
        'step "node/s" (a.py:1) cannot take what comes from the iteration before (step "node/s" (a.py:1)): ' in message
    )
    check(definition(loop(inner, max_iterations=1)))
    check(definition(loop(Block((typed("s", Order, NoneType),))), input_type=Order))
    check(definition(loop(Block((typed("s", Order | Receipt, Receipt),))), input_type=Order))


def test_a_case_that_can_never_be_chosen_is_refused() -> None:
    def cases(result: Any, *values: str) -> Branch:
        given = tuple(Case(f"c{place}", value, block("s")) for place, value in enumerate(values))
        return Branch("node", typed_rule(Any, result), given, HERE)

    right: list[tuple[Any, tuple[str, ...]]] = [
        (Any, ('"a"', "1", "true", "null")),
        (str, ('"a"', "null")),
        (bool, ("true", "false")),
        (int, ("1",)),
        (float, ("1",)),
        (int | str | None, ("1", '"a"', "null")),
        (Literal["a", "b"], ('"a"', '"b"')),
        (Verdict, ('"approved"',)),
    ]
    for result, values in right:
        check(definition(cases(result, *values)))
    wrong: list[tuple[Any, str]] = [
        (str, "1"),
        (str, "true"),
        (bool, '"true"'),
        (bool, "1"),
        (Literal["a", "b"], '"c"'),
    ]
    for result, value in wrong:
        assert f'branch "node" (a.py:1): case {value} can never be chosen' in refusal(cases(result, value))


# --- items -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [str, int, dict[str, Any], Order])
def test_items_must_give_a_list(result: Any) -> None:
    message = refusal(foreach(block("s"), items=typed_rule(Any, result)))
    assert 'foreach "node" (a.py:1): items is annotated to return no list' in message


@pytest.mark.parametrize("result", [list[Order], tuple[Order, ...], Sequence[Order], Iterable[Order]], ids=str)
def test_steps_and_rules_of_a_foreach_must_take_its_items(result: Any) -> None:
    def inside(node: Callable[[Any], Node]) -> Callable[[Any], Foreach]:
        return lambda item: foreach(Block((node(item),)), items=typed_rule(Any, result))

    def taker(item: Any) -> Step:
        return step("s", signature=typed_rule(Any, Any, 2, item).signature)

    def deciding(item: Any) -> Node:
        return branch(block("s"), on=typed_rule(Any, Any, 2, item))

    def deep(item: Any) -> Node:
        return loop(Block((parallel(Block((taker(item),))),)))

    for node in (taker, deciding, deep):
        assert 'cannot take what comes from items of foreach "node" (a.py:1)' in refusal(inside(node)(int))
        check(definition(inside(node)(Order)))
        check(definition(inside(node)(Any)))


@pytest.mark.parametrize("result", [list, Any, tuple[Order, Receipt], list[Order] | None, list[Any]], ids=str)
def test_items_of_unknown_type_fit_every_step(result: Any) -> None:
    taker = step("s", signature=typed_rule(Any, Any, 2, int).signature)
    check(definition(foreach(Block((taker,)), items=typed_rule(Any, result))))


def test_within_a_foreach_in_a_foreach_the_item_is_the_inner_one() -> None:
    taker = step("s", signature=typed_rule(Any, Any, 2, int).signature)
    inner = foreach(Block((taker,)), items=typed_rule(Any, list[int]))
    check(definition(foreach(Block((inner,)), items=typed_rule(Any, list[Order]))))
    check(definition(foreach(block("s"), items=typed_rule(Any, list[Order])), step("t")))


def test_results_are_collected_under_a_key_only_of_an_object() -> None:
    node = foreach(block("s"), collect_as="sent")
    message = refusal(typed("a", Any, list[int]), node)
    assert 'collect_as puts the results under a key of the data, but what comes from step "a"' in message
    check(definition(typed("a", Any, Order), node))
    check(definition(typed("a", Any, dict[str, int]), node))


# --- jumps -----------------------------------------------------------------------------------------------------------


def test_what_a_decision_returns_beside_a_goto_goes_to_the_next_node() -> None:
    message = refusal(decision("check", Any, Order, "last"), typed("next", int, Any), step("last"))
    assert 'step "next" (a.py:1) cannot take what comes from decision "check" (a.py:1)' in message
    check(definition(decision("check", Any, Order, "last"), typed("next", Order, Any), step("last")))
    check(definition(decision("check", Any, Any, "last"), typed("next", Order, Any), step("last")))


def test_a_decision_must_take_what_comes_to_it() -> None:
    assert 'decision "check" (a.py:1) cannot take' in refusal(typed("a", Any, Order), decision("check", int, Any))


def test_a_node_that_a_goto_leads_to_may_get_other_data_than_its_neighbour_gives() -> None:
    nodes: list[Node] = [decision("check", Any, Any, "last"), typed("next", Order, Order), typed("last", Order, Order)]
    check(definition(*nodes, input_type=Receipt))


def test_beside_a_jump_what_a_silent_step_passes_on_is_unknown() -> None:
    # A Goto to it may have brought other data than what the step before it gives.
    silent = step("silent", signature=typed_rule(Any, NoneType).signature)
    jump = decision("check", Any, Any, "silent")
    into = parallel(block("s"), into=Rule(rule().function, rule().signature, HERE, ("silent",)))
    follows = [typed("a", Any, Order), silent, typed("b", Receipt, Any)]
    for node in (jump, into):
        check(definition(*follows, node))
        check(definition(node, typed("a", Any, Order), silent, output_type=Receipt))
    assert 'step "b" (a.py:1) cannot take' in refusal(*follows)
    assert 'promises a result that step "a"' in refusal(typed("a", Any, Order), silent, output_type=Receipt)


def test_a_block_is_left_through_its_last_node_whatever_jumps_there_are() -> None:
    jump = decision("check", Any, Any, "last")
    nodes = [jump, typed("last", Any, Receipt)]
    check(definition(*nodes, output_type=Receipt))
    assert 'promises a result that step "last" (a.py:1) does not give' in refusal(*nodes, output_type=Order)


def test_jumps_inside_a_block_are_none_of_the_block_around_it() -> None:
    jumping = branch(Block((decision("check", Any, Any, "check"),)))
    silent = step("silent", signature=typed_rule(Any, NoneType).signature)
    assert "cannot take" in refusal(jumping, typed("a", Any, Order), silent, typed("b", Receipt, Any))


def test_an_unknown_target_is_refused_and_the_known_ones_are_listed() -> None:
    message = refusal(step("a"), decision("check", Any, Any, "a", "ghost"))
    assert message.startswith(
        'workflow "order": decision "check" (a.py:1) may go to \'ghost\', but its block has no such node. It has: a, check.'
    )


# --- undoing ---------------------------------------------------------------------------------------------------------


def undone(given: Any, result: Any, by: Any, **options: Any) -> Step:
    return typed("s", given, result, compensation=typed("undo", by, Any), **options)


def test_a_compensation_must_take_the_data_after_its_step() -> None:
    message = refusal(undone(Order, Receipt, Order))
    assert 'compensation "undo" (a.py:1) cannot take what comes from step "s" (a.py:1): ' in message
    check(definition(undone(Order, Receipt, Receipt)))
    check(definition(undone(Order, NoneType, Order), input_type=Order))
    assert "cannot take what comes from the input" in refusal(undone(Order, NoneType, Receipt), input_type=Order)


def test_a_compensation_of_what_was_only_started_must_take_the_data_before_it_too() -> None:
    message = refusal(undone(Any, Receipt, Receipt, compensate_on="started"), input_type=Order)
    assert 'cannot take what comes from the input of workflow "order" (a.py:1) when step "s" (a.py:1) fails' in message
    check(definition(undone(Any, Receipt, Receipt), input_type=Order))
    check(definition(undone(Any, Receipt, Order | Receipt, compensate_on="started"), input_type=Order))


def test_a_compensation_without_data_fits_every_step() -> None:
    undo = step("undo", signature=typed_rule(Any, Any, 0).signature)
    check(definition(typed("s", Order, Receipt, compensation=undo)))


@pytest.mark.parametrize("composite", [branch, otherwise, parallel, foreach, functools.partial(loop, max_iterations=2)])
def test_a_compensation_is_checked_at_any_depth(composite: Receive) -> None:
    assert 'compensation "undo" (a.py:1) cannot take' in refusal(composite(Block((undone(Any, Receipt, Order),))))
