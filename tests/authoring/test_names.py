"""What nodes, arms, keys and cases may be called."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from durable.authoring import Workflow

from .declaring import Flow, marked, noop, refused


@pytest.mark.parametrize("bad", ["a/b", "a#1", "a[0", "a]", "", "  ", "a\n", "x" * 201, 5, None])
def test_every_name_must_be_a_path_segment(bad: Any) -> None:
    def branch(orders: Flow) -> None:
        orders.branch(bad, on=noop)  # here

    def parallel(orders: Flow) -> None:
        orders.parallel(bad)  # here

    def foreach(orders: Flow) -> None:
        orders.foreach(bad, items=noop)  # here

    def loop(orders: Flow) -> None:
        orders.loop(bad, until=noop)  # here

    def arm(orders: Flow) -> None:
        fetch = orders.parallel("fetch")
        fetch.arm(bad)  # here

    for declare in (branch, parallel, foreach, loop, arm):
        message = refused(declare)
        assert f"{declare.__name__} name {bad!r}" in message
        assert "lambda" not in message  # there is none


@pytest.mark.parametrize("bad", ["a/b", "a#1", "a[0", "a]", "", "  ", "x" * 201])
def test_a_case_whose_value_cannot_be_a_path_segment_needs_a_name(bad: str) -> None:
    def by_value(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case(bad)  # here

    def by_name(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case("good", name=bad)  # here

    for declare in (by_value, by_name):
        assert f"is called {bad!r} in paths, and that" in refused(declare)
    Workflow[Any, Any]("order").branch("choose", on=noop).case(bad, name="good")


def test_a_case_must_not_be_called_like_the_last_resort() -> None:
    def by_value(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case("otherwise")  # here

    def by_name(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case(1, name="otherwise")  # here

    for declare in (by_value, by_name):
        assert "would be called 'otherwise' in paths, like the last resort. Pass another name=" in refused(declare)
    Workflow[Any, Any]("order").branch("choose", on=noop).case("otherwise", name="other")


def test_a_case_has_one_name() -> None:
    def declare(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case(1, name="one")
        outcome.case(1, name="eins")  # here

    assert "case 1 (" in refused(declare)
    assert "is called 'one' already" in refused(declare)


@pytest.mark.parametrize(
    "value", [1.5, 1.0, ["a"], ("a",), {"a": 1}, object, b"a", timedelta(1), Enum("E", {"A": 1.5}).A], ids=repr
)
def test_a_case_that_cannot_be_compared_is_refused(value: object) -> None:
    def declare(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case(value, name="x")  # here

    assert "cannot be compared. Give a str, an int, a bool, None, or a member of an Enum" in refused(declare)


def test_a_case_that_json_cannot_hold_is_refused() -> None:
    def declare(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case("\ud800", name="x")  # here

    assert "is no text that JSON can hold" in refused(declare)


def test_two_cases_of_one_name_are_refused_with_both_places() -> None:
    def declare(orders: Flow) -> None:
        outcome = orders.branch("choose", on=noop)
        outcome.case("1").step(noop)
        outcome.case(1).step(noop)  # here

    message = refused(declare)
    assert f'case "1" is declared twice ({__file__}:{marked(declare) - 1} and ' in message
    assert "pass name=" in message


def test_two_arms_of_one_name_are_refused_with_both_places() -> None:
    def declare(orders: Flow) -> None:
        fetch = orders.parallel("fetch")
        fetch.arm("user").step(noop)
        fetch.step(name="user")(lambda data: data)  # here

    message = refused(declare)
    assert f'arm "user" is declared twice ({__file__}:{marked(declare) - 1} and ' in message


def test_two_arms_of_one_key_are_refused_with_both_places() -> None:
    def declare(orders: Flow) -> None:
        fetch = orders.parallel("fetch")
        fetch.arm("user").step(noop)
        fetch.arm("other", key="user").step(noop)  # here

    message = refused(declare)
    assert f'key "user" is declared twice ({__file__}:{marked(declare) - 1} and ' in message
    assert "pass another key=" in message


@pytest.mark.parametrize("key", ["", 5, b"a"])
def test_a_key_must_be_a_string(key: Any) -> None:
    def declare(orders: Flow) -> None:
        fetch = orders.parallel("fetch")  # here
        fetch.arm("user", key=key).step(noop)

    assert f'arm "user": key is {key!r}. Give a string' in refused(declare)


def test_a_name_declared_twice_is_refused_in_any_block() -> None:
    def case(orders: Flow) -> None:
        block = orders.branch("x", on=noop).case("a")
        block.loop("same", until=noop).step(noop)
        block.parallel("same").step(noop)  # here

    def item(orders: Flow) -> None:
        block = orders.foreach("x", items=noop)
        block.foreach("same", items=noop).step(noop)
        block.branch("same", on=noop).case(1).step(noop)  # here

    assert 'parallel "x/a/same" is declared twice' in refused(case)
    assert 'branch "x/same" is declared twice' in refused(item)
