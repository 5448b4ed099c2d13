"""Whether an execution can go on when its code was changed while it ran, by what it has recorded."""

from __future__ import annotations

from typing import Any

import pytest

from durable import Workflow
from durable.model.evolution import resumes, resumes_after
from durable.model.fingerprint import Tree, shape_of


async def same(data: Any) -> Any:
    return data


def tree(*names: str | Any) -> Tree:
    """The shape of a workflow: a name is a step, a function adds nodes of its own."""
    workflow: Workflow[Any, Any] = Workflow("changing")
    for name in names:
        if isinstance(name, str):
            workflow.step(name=name)(same)
        else:
            name(workflow)
    return shape_of(workflow.definition)


def choose(*labels: str, inside: tuple[str, ...] = ("x",)) -> Any:
    def add(block: Any) -> None:
        branch = block.branch("choose", on=lambda data: data)
        for label in labels:
            for name in inside:
                branch.case(label).step(name=name)(same)

    return add


def fetch(*arms: str, inside: tuple[str, ...] = ("x",)) -> Any:
    def add(block: Any) -> None:
        parallel = block.parallel("fetch")
        for arm in arms:
            several = parallel.arm(arm)
            for name in inside:
                several.step(name=name)(same)

    return add


def each(*inside: str) -> Any:
    def add(block: Any) -> None:
        foreach = block.foreach("each", items=lambda data: data)
        for name in inside:
            foreach.step(name=name)(same)

    return add


@pytest.mark.parametrize(
    ("stored", "current", "paths"),
    [
        (tree("a", "b"), tree("x", "y"), []),
        (tree("a", "b"), tree("a", "b", "c"), ["a", "b"]),
        (tree("a", "b"), tree("a", "new", "b"), ["a"]),
        (tree("a", "b", "c"), tree("a", "c", "b"), ["a"]),
        (tree("a", choose("yes")), tree("a", choose("yes", "no")), ["a"]),
        (tree(choose("yes", "no")), tree(choose("yes")), ["choose", "choose/yes"]),
        (
            tree(choose("yes"), "z"),
            tree(choose("yes", inside=("x", "y")), "z"),
            ["choose", "choose/yes", "choose/yes/x"],
        ),
        (tree("a", each("x", "y")), tree("a", each("x", "new", "y")), ["a", "each", "each[0]/x", "each[7]/x"]),
        (tree(fetch("one")), tree(fetch("one", "two")), ["fetch/one/x"]),
        (tree("a", "b"), tree("a", "b", "c"), ["a", "a/undo", "told"]),
    ],
    ids=[
        "nothing was begun",
        "added at the end",
        "added before what is to come",
        "reordered what is to come",
        "a case more",
        "a case less that was not chosen",
        "added in the chosen case",
        "added in every item before what is to come",
        "an arm more",
        "it is being ended",
    ],
)
def test_it_goes_on(stored: Tree, current: Tree, paths: list[str]) -> None:
    assert resumes_after(stored, current, paths) is None


@pytest.mark.parametrize(
    ("stored", "current", "paths", "reason"),
    [
        (tree("a", "b"), tree("a"), ["a"], 'expected step "b" still to come, found nothing'),
        (tree("a", "b"), tree("new", "a", "b"), ["a"], 'expected step "a" in place 1, found step "new"'),
        (tree("a", "b"), tree("b", "a"), ["a", "b"], 'expected step "a" in place 1, found step "b"'),
        (tree("a", "b", "c"), tree("a", "new", "b", "c"), ["a", "b"], 'expected step "b" in place 2, found step "new"'),
        (tree("a", "b"), tree("a", each("x")), ["a"], 'expected step "b" still to come, found foreach "each"'),
        (tree(choose("yes")), tree(choose("no")), ["choose", "choose/yes"], 'expected case "yes" of branch "choose"'),
        (tree(fetch("one", "two")), tree(fetch("one")), ["fetch/one/x"], 'expected arm "two" of parallel "fetch"'),
        (
            tree(each("x", "y")),
            tree(each("x", "new", "y")),
            ["each", "each[0]/x", "each[1]/x", "each[1]/y"],
            'expected step "y" in place 2 of "each", found step "new"',
        ),
        (tree("a", "b", "c"), tree("a", "b", "c", "d"), ["a", "c", "a#2"], None),
        (tree("a", "b", "c"), tree("a", "c", "b"), ["a", "c", "a#2"], "where a Goto has led about"),
    ],
    ids=[
        "what comes next is gone",
        "something was put before what is done",
        "what is done was reordered",
        "something was put between what is done",
        "another kind of node",
        "the chosen case is gone",
        "an arm is gone",
        "put where one item has passed and another has not",
        "only added, after jumps",
        "reordered after jumps",
    ],
)
def test_it_is_held_with_what_was_expected_and_what_was_found(
    stored: Tree, current: Tree, paths: list[str], reason: str | None
) -> None:
    found = resumes_after(stored, current, paths)
    assert (found is None) if reason is None else (reason in (found or ""))


def test_what_only_adds_at_the_end_suits_every_execution() -> None:
    assert resumes(tree("a", choose("yes")), tree("a", choose("yes"), "b")) is None
    assert resumes(tree("a", "b"), tree("a", "c")) == 'expected step "b" in place 2, found step "c"'
