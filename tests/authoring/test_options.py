"""Options of nodes with blocks inside, and the functions that decide."""

from __future__ import annotations

import functools
from typing import Any, cast

import pytest

from durable.authoring import Workflow
from durable.model.results import ArmResults, ItemResults

from .contexts import Context
from .declaring import Flow, Order, frozen, generator, noop, refused, starred

# --- options ---------------------------------------------------------------------------------------------------------

WRONG_WHOLE = [0, -1, 1.0, True, "1", 2**31]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("concurrency", value) for value in (*WRONG_WHOLE, None)],
        *[("tolerate", value) for value in (-1, 1.0, 1.5, -0.1, float("nan"), True, "1", [1])],
        *[("on_error", value) for value in ("complete_all", "stop", None, 1, ["continue"])],
        *[("collect_as", value) for value in ("", 5, ["a"])],
    ],
    ids=str,
)
def test_a_foreach_option_without_meaning_is_refused(option: str, value: Any) -> None:
    def declare(orders: Flow) -> None:
        options: dict[str, Any] = {"on_error": "continue", option: value}
        orders.foreach("x", items=noop, **options).step(noop)  # here

    assert f"{option} is {value!r}. Give " in refused(declare)


@pytest.mark.parametrize("tolerate", [0, 3, 0.0, 0.5, 0.999])
def test_a_number_or_a_share_of_items_may_be_tolerated(tolerate: float) -> None:
    def declare(orders: Flow) -> None:
        orders.foreach("x", items=noop, on_error="continue", tolerate=tolerate).step(noop)

    assert frozen(declare)["x"].tolerate == tolerate


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("merge", value) for value in ("shallow", 1, ["deep"], "")],
        *[("on_error", value) for value in ("continue", "stop", None, 1)],
    ],
    ids=str,
)
def test_a_parallel_option_without_meaning_is_refused(option: str, value: Any) -> None:
    def declare(orders: Flow) -> None:
        options: dict[str, Any] = {option: value}
        orders.parallel("x", **options).step(noop)  # here

    assert f"{option} is {value!r}. Give " in refused(declare)


@pytest.mark.parametrize("value", WRONG_WHOLE)
def test_a_bound_must_be_a_whole_number(value: Any) -> None:
    def loop(orders: Flow) -> None:
        orders.loop("x", until=noop, max_iterations=value).step(noop)  # here

    def decision(orders: Flow) -> None:
        @orders.decision(max_visits=value)  # here
        async def check(data: Any) -> Any: ...

    assert f"max_iterations is {value!r}. Give a whole number from 1 to" in refused(loop)
    assert f"max_visits is {value!r}. Give a whole number from 1 to" in refused(decision)


def test_an_option_that_is_for_another_option_is_refused_without_it() -> None:
    def tolerate(orders: Flow) -> None:
        orders.foreach("x", items=noop, tolerate=3).step(noop)  # here

    def compensate_on(orders: Flow) -> None:
        @orders.step(compensate_on="started")  # here
        async def book(data: Any) -> Any: ...

    assert 'Give on_error="continue" as well' in refused(tolerate)
    assert "nothing undoes it. Give compensate= as well" in refused(compensate_on)


def test_two_ways_to_combine_results_are_refused() -> None:
    def parallel(orders: Flow) -> None:
        orders.parallel("x", merge="deep", into=lambda data, results: data)  # here

    def foreach(orders: Flow) -> None:
        orders.foreach("x", items=noop, collect_as="k", into=lambda data, results: data)  # here

    assert "both merge and into were given. Choose one" in refused(parallel)
    assert "both collect_as and into were given. Choose one" in refused(foreach)


def test_an_unknown_option_is_refused() -> None:
    orders: Any = Workflow("order")
    for add in (orders.step, orders.decision, orders.compensation, orders.parallel("x").step):
        with pytest.raises(TypeError, match="retries"):
            add(retries=3)


# --- functions that decide -------------------------------------------------------------------------------------------


async def async_generator(data: Any) -> Any:
    yield data


def with_context(data: Any, ctx: Context) -> Any: ...


def keyword(data: Any, *, mode: str) -> Any: ...


@functools.lru_cache
async def cached(data: Any) -> Any: ...


RULE_FAULTS = [
    ("data", "is not callable"),
    (Order, "is a class"),
    (list, "is a class"),
    (generator, "is a generator, but it is to give one result. Return a list"),
    (async_generator, "is a generator"),
    (cached, "is a plain function around an async def"),
    (with_context, "takes a Context, but it only decides, and has none"),
    (starred, "takes *args"),
    (keyword, "nothing would fill the keyword-only parameter 'mode'"),
    (Workflow("other"), "is a workflow, or a part of one, and no function"),
]


@pytest.mark.parametrize(("function", "reason"), RULE_FAULTS)
def test_a_function_that_cannot_decide_is_refused(function: Any, reason: str) -> None:
    def on(orders: Flow) -> None:
        orders.branch("x", on=function)  # here

    def items(orders: Flow) -> None:
        orders.foreach("x", items=function)  # here

    def until(orders: Flow) -> None:
        orders.loop("x", until=function)  # here

    def parallel_into(orders: Flow) -> None:
        orders.parallel("x", into=function)  # here

    def foreach_into(orders: Flow) -> None:
        orders.foreach("x", items=noop, into=function)  # here

    for declare in (on, items, until, parallel_into, foreach_into):
        message = refused(declare)
        assert f": {declare.__name__.rpartition('_')[2]}" in message
        assert reason in message


def test_a_rule_with_too_many_parameters_is_refused() -> None:
    def on(orders: Flow) -> None:
        orders.branch("x", on=lambda data, item: 1)  # here

    def items(orders: Flow) -> None:
        orders.foreach("x", items=lambda data, item: [])  # here

    def until(orders: Flow) -> None:
        orders.loop("x", until=lambda data, item: True)  # here

    def inside(orders: Flow) -> None:
        each: Any = orders.foreach("x", items=noop)
        each.loop("x", until=lambda data, item, index, more: True)  # here

    def into(orders: Flow) -> None:
        fetch: Any = orders
        fetch.parallel("x", into=lambda data, results, more: data)  # here

    for declare in (on, items, until):
        assert "has 2 parameters without a default; it is given 1. Take fewer." in refused(declare)
    assert "has 4 parameters without a default; it is given 3" in refused(inside)
    assert "has 3 parameters without a default; it is given 2" in refused(into)


def test_a_rule_read_only_when_the_workflow_is_frozen_is_checked_all_the_same() -> None:
    def declare(orders: Flow) -> None:
        @functools.wraps(until_never)
        def until(data: Any, more: Any) -> Any: ...

        orders.loop("x", until=until_never).step(noop)  # here

    assert "until: its annotations cannot be resolved (NameError" in refused(declare)


def until_never(data: Nowhere) -> bool: ...  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]  # noqa: F821


def test_an_into_annotated_with_the_results_of_another_node_is_refused() -> None:
    def of_items(data: Any, results: ItemResults) -> Any: ...

    def of_arms(data: Any, results: ArmResults) -> Any: ...

    def parallel(orders: Flow) -> None:
        wrong: Any = of_items
        orders.parallel("x", into=wrong).step(noop)  # here

    def foreach(orders: Flow) -> None:
        wrong: Any = of_arms
        orders.foreach("x", items=noop, into=wrong).step(noop)  # here

    assert "is annotated to take ItemResults, but it is given ArmResults" in refused(parallel)
    assert "is annotated to take ArmResults, but it is given ItemResults" in refused(foreach)


# --- transactional ---------------------------------------------------------------------------------------------------


def test_only_an_async_def_can_be_transactional() -> None:
    def declare(orders: Flow) -> None:
        @orders.step(transactional=True)  # here
        def pays(data: Any) -> Any:
            return data

    assert "is transactional, but no async def" in refused(declare)


def test_a_transactional_that_is_no_bool_is_refused() -> None:
    def declare(orders: Flow) -> None:
        @orders.step(transactional=cast("Any", 1))  # here
        async def pays(data: Any) -> Any:
            return data

    assert "transactional is 1. Give True or False." in refused(declare)
