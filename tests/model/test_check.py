from __future__ import annotations

import functools
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import DefinitionError
from durable.model.check import check
from durable.model.definition import (
    Arm,
    Block,
    Branch,
    Case,
    Decision,
    Foreach,
    Loop,
    Node,
    Parallel,
    Rule,
    Signature,
    Step,
)
from durable.model.pieces import NAME_CHARACTERS_MAX, check_name

from .trees import HERE, block, definition, refusal, rule, step, typed, unchanged


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    total: int


def plain(data: Any) -> Any:
    return data


@functools.wraps(unchanged)
def wrapped(data: Any) -> Any:
    return unchanged(data)


def generator(data: Any) -> Any:
    yield data


async def async_generator(data: Any) -> Any:
    yield data


def branch(*cases: Case, name: str = "choose", otherwise: Block | None = None) -> Branch:
    return Branch(name, rule(), cases, HERE, otherwise)


def parallel(*arms: Arm) -> Parallel:
    return Parallel("fetch", arms, HERE)


# --- names ---------------------------------------------------------------------------------------------------


def test_a_pipeline_of_distinct_steps_is_accepted() -> None:
    check(definition(step("a"), step("b"), step("c")))


def test_a_name_declared_twice_is_refused_with_both_places() -> None:
    message = refusal(step("charge", line=12), step("charge", line=40))
    assert message == (
        'workflow "order": step "charge" is declared twice (a.py:12 and a.py:40). Rename one, or pass name=.'
    )


def test_the_very_same_node_twice_is_a_name_declared_twice() -> None:
    node = step("charge")
    assert "declared twice" in refusal(node, node)


def test_the_same_name_in_two_blocks_is_accepted() -> None:
    cases = (Case("yes", "true", block("a")), Case("no", "false", block("a")))
    check(definition(step("a"), branch(*cases, otherwise=block("a"))))


@pytest.mark.parametrize("bad", ["", "  ", "a/b", "a#1", "a[", "a]", "a\nb", "a\x00", "a\x7f", "a\u2028", "\ud800"])
def test_a_name_that_cannot_be_a_path_segment_is_refused(bad: str) -> None:
    assert "a.py:1" in refusal(step(bad))
    assert "a.py:1" in refusal(step("a"), name=bad)
    assert "a.py:1" in refusal(step("a"), queue=bad)
    assert "a.py:1" in refusal(branch(Case(bad, "1", block("a"))))
    assert "a.py:1" in refusal(parallel(Arm(bad, "key", block("a"))))
    assert "a.py:1" in refusal(step("a", compensation=step(bad)))
    assert "a.py:1" in refusal(step("a"), on_failure=step(bad))


def test_a_name_may_have_200_characters_and_no_more() -> None:
    check(definition(step("é" * NAME_CHARACTERS_MAX)))
    assert "has 201 characters" in refusal(step("é" * (NAME_CHARACTERS_MAX + 1)))


def test_a_name_that_is_no_string_is_refused() -> None:
    assert "is of type int. Give a string" in refusal(step("a"), name=5)


@given(st.text(min_size=1, max_size=NAME_CHARACTERS_MAX))
def test_an_accepted_name_is_one_segment_that_utf8_can_store(name: str) -> None:
    try:
        check_name(name, "it")
    except DefinitionError:
        return
    assert name.encode("utf-8")
    assert not re.search(r"[/#\[\]\x00-\x1f\x7f-\x9f]", name)
    assert len(name.splitlines()) == 1


# --- blocks --------------------------------------------------------------------------------------------------


def test_a_workflow_without_steps_is_refused() -> None:
    assert refusal().startswith('workflow "order" (a.py:1) has no steps.')


@pytest.mark.parametrize(
    ("node", "part"),
    [
        (branch(Case("yes", "true", Block())), 'branch "choose" (a.py:1): case "yes" has no steps'),
        (
            branch(Case("yes", "true", block("a")), otherwise=Block()),
            'branch "choose" (a.py:1): case "otherwise" has no steps',
        ),
        (branch(), 'branch "choose" (a.py:1) has no cases'),
        (parallel(Arm("user", "user", Block())), 'parallel "fetch" (a.py:1): arm "user" has no steps'),
        (parallel(), 'parallel "fetch" (a.py:1) has no arms'),
        (Foreach("send", rule(), Block(), HERE), 'foreach "send" (a.py:1) has no steps'),
        (Loop("poll", rule(), Block(), HERE), 'loop "poll" (a.py:1) has no steps'),
    ],
    ids=["case", "otherwise", "branch", "arm", "parallel", "foreach", "loop"],
)
def test_an_empty_block_is_refused(node: Node, part: str) -> None:
    assert part in refusal(node)


def test_two_arms_or_cases_of_one_name_are_refused() -> None:
    arms = parallel(Arm("x", "x", block("a")), Arm("x", "y", block("a")))
    assert 'parallel "fetch" (a.py:1): arm "x" is declared twice' in refusal(arms)
    cases = branch(Case("x", "1", block("a")), Case("x", "2", block("a")))
    assert 'branch "choose" (a.py:1): case "x" is declared twice' in refusal(cases)


def test_two_arms_whose_results_would_have_one_key_are_refused() -> None:
    arms = parallel(Arm("x", "key", block("a")), Arm("y", "key", block("a")))
    assert 'parallel "fetch" (a.py:1): key "key" is declared twice' in refusal(arms)


def test_a_fault_deep_inside_is_found_and_its_path_given() -> None:
    inner = Loop("poll", rule(), Block((step("s", line=3), step("s", line=4))), HERE)
    outer = Foreach("each", rule(), Block((parallel(Arm("user", "user", Block((inner,)))),)), HERE)
    message = refusal(branch(Case("yes", "true", Block((outer,)))))
    assert 'step "choose/yes/each/fetch/user/poll/s" is declared twice (a.py:3 and a.py:4)' in message


# --- functions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "runs_in", "reason"),
    [
        (None, "thread", "is not callable"),
        (Order, "thread", "is a class"),
        (generator, "thread", "is a generator"),
        (async_generator, "thread", "is a generator"),
        (functools.partial(generator), "thread", "is a generator"),
        (wrapped, "thread", "around an async def"),
        (unchanged, "process", "process=True"),
        (unchanged, "thread", "is an async def"),
        (plain, "loop", "no async def"),
        (lambda data: data, "process", "cannot be imported"),
        (functools.partial(plain), "process", "cannot be imported"),
    ],
)
def test_a_function_that_cannot_run_there_is_refused(function: Any, runs_in: Any, reason: str) -> None:
    node = step("s", function, runs_in=runs_in)
    assert reason in refusal(node)
    decision = Decision("s", function, Signature(1), runs_in, HERE)
    assert reason in refusal(decision)
    undo = Step("undo", function, Signature(1), runs_in, HERE)
    message = refusal(step("s", compensation=undo))
    assert reason in message
    assert 'compensation "undo"' in message
    message = refusal(step("s"), on_failure=undo)
    assert reason in message
    assert 'on_failure "undo" (a.py:1)' in message


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (rule(None), "is not callable"),
        (rule(Order), "is a class"),
        (rule(generator), "is a generator"),
        (rule(wrapped), "around an async def"),
        (rule(unchanged, 3), "has 3 parameters without a default"),
        (Rule(unchanged, Signature(1, context="ctx"), HERE), "takes a Context"),
    ],
)
def test_a_function_that_cannot_decide_is_refused(wrong: Rule, reason: str) -> None:
    nodes = {
        'branch "x" (a.py:1): on ': Branch("x", wrong, (Case("yes", "true", block("a")),), HERE),
        'foreach "x" (a.py:1): items ': Foreach("x", wrong, block("a"), HERE),
        'foreach "x" (a.py:1): into ': Foreach("x", rule(), block("a"), HERE, into=wrong),
        'parallel "x" (a.py:1): into ': Parallel("x", (Arm("a", "a", block("a")),), HERE, into=wrong),
        'loop "x" (a.py:1): until ': Loop("x", wrong, block("a"), HERE),
    }
    for where, node in nodes.items():
        message = refusal(node)
        assert where in message
        assert reason in message


def test_a_def_that_promises_a_coroutine_is_refused() -> None:
    signature = Signature(1, output_type=Awaitable[Order])
    assert "returns a coroutine" in refusal(step("s", plain, runs_in="thread", signature=signature))


def test_a_process_step_must_be_what_its_name_leads_to() -> None:
    check(definition(step("s", plain, runs_in="process")))

    def hidden(data: Any) -> Any:
        return data

    hidden.__qualname__ = "plain"
    assert "leads to something else" in refusal(step("s", hidden, runs_in="process"))


def test_a_step_takes_at_most_one_data_parameter() -> None:
    check(definition(step("s", signature=Signature(0))))
    assert "has 2 data parameters" in refusal(step("s", signature=Signature(2)))


def test_a_step_of_a_foreach_takes_data_item_and_index() -> None:
    check(definition(Foreach("each", rule(), Block((step("s", signature=Signature(3)),)), HERE)))
    node = Foreach("each", rule(), Block((step("s", signature=Signature(4)),)), HERE)
    assert "has 4 data parameters" in refusal(node)


# --- options -------------------------------------------------------------------------------------------------

DURATIONS = [timedelta(0), timedelta(seconds=-1), timedelta(days=4000), 5, "1s", True]


@pytest.mark.parametrize("timeout", DURATIONS)
def test_a_timeout_must_be_a_positive_timedelta(timeout: Any) -> None:
    assert "timeout is" in refusal(step("a"), timeout=timeout)
    assert "timeout is" in refusal(step("a", timeout=timeout))
    undo = Step("undo", unchanged, Signature(1), "loop", HERE, timeout=timeout)
    assert "timeout is" in refusal(step("a", compensation=undo))


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"version": 2**31},
        {"priority": 1.5},
        {"priority": True},
        {"priority": 2**31},
        {"retry": 3},
        {"queue": None},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_kept_is_refused(fields: dict[str, Any]) -> None:
    message = refusal(step("a"), **fields)
    assert f"{next(iter(fields))} " in message
    assert "(a.py:1)" in message


# --- neighbours ----------------------------------------------------------------------------------------------


def test_neighbours_that_fit_are_accepted() -> None:
    check(definition(typed("a", Order, Receipt), typed("b", Receipt, int), input_type=Order, output_type=int))


def test_neighbours_that_cannot_fit_are_named() -> None:
    message = refusal(typed("a", Order, str), typed("b", Receipt, Receipt))
    assert 'step "b" (a.py:1) cannot take what comes from step "a" (a.py:1): ' in message


def test_the_first_step_must_take_the_input() -> None:
    assert "cannot take what comes from the input" in refusal(typed("a", Receipt, Receipt), input_type=str)


def test_the_last_step_must_give_the_output() -> None:
    message = refusal(typed("a", Order, Receipt), typed("b", Receipt, str), output_type=Receipt)
    assert 'promises a result that step "b" (a.py:1) does not give' in message


def test_a_step_that_returns_none_passes_the_previous_type_on() -> None:
    silent = typed("b", Order, NoneType)
    check(definition(typed("a", Order, Order), silent, typed("c", Order, Order), output_type=Order))
    message = refusal(typed("a", Any, Order), silent, typed("c", int, int))
    assert 'step "c" (a.py:1) cannot take what comes from step "a"' in message
    assert "the input of" in refusal(silent, typed("c", int, int), input_type=Order)


def test_a_step_that_may_return_none_gives_either() -> None:
    check(definition(typed("a", Any, str), typed("b", str, Receipt | None), typed("c", Receipt, Any)))
    check(definition(typed("a", Any, str), typed("b", str, Receipt | None), typed("c", str, Any)))


def test_a_step_that_gives_one_of_several_gives_nothing_else() -> None:
    nodes = [typed("a", Any, str), typed("b", str, Order | int), typed("c", str, Any)]
    assert 'step "c" (a.py:1) cannot take what comes from step "b" (a.py:1)' in refusal(*nodes)
    assert "cannot take" in refusal(typed("a", Any, str), typed("b", str, list[None]), typed("c", str, Any))


def test_an_unannotated_result_fits_everything() -> None:
    check(definition(typed("a", Order, Any), typed("b", Receipt, Receipt), input_type=Order))


def test_a_step_without_data_parameter_follows_anything() -> None:
    check(definition(typed("a", Order, Order), step("b", signature=Signature(0, output_type=int)), output_type=int))
