"""Definitions at random, of every kind of node, with every name that is allowed: `check` accepts each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from durable.model.definition import (
    OTHERWISE,
    Arm,
    Block,
    Branch,
    Case,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Rule,
    Signature,
    Step,
)

from .trees import HERE, definition, rule, step, unchanged

NASTY = [
    "end",
    "n0",
    "subgraph",
    "flowchart TD",
    "style",
    "classDef x fill:red;",
    "%%{init: {}}%%",
    '"quoted"',
    "a --> b",
    "a|b",
    "{}()<>;",
    "`code`",
    "__init__",
    "**bold**",
    "1. first",
    "- first",
    "+ first",
    "    four spaces",
    " a  b ",
    "https:www.example.com",
    "www.example.com",
    "ada@example.com",
    "<script>alert(1)<",
    "<b>",
    "&amp;",
    "&lt;",
    "ﬂ°°35¶ß",
    "größe_1",
    "送信 確認",
    "مرحبا",
    "🚚 ship",
    "\u202eright",
    "a\u200bb",
    "a\\nb",
    "$$x$$",
    "fa:fa-truck",
    "fab:fa-github fas:fa-x",
    "a<br>b",
    "$$$",
    "ﬂ°°60¶ßimg src=x onerror=alert(1)ﬂ°°62¶ß",
    "<img src=x onerror=alert(1)>",
    "a, b,c ,d",
    "Oe\u0301",
    "a\u3000b",
    "~~gone~~",
    "===",
    "---",
    "a@{shape: rect}",
    "call me",
    "href",
    "9",
]

ALLOWED = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="/#[]"), min_size=1, max_size=8
).filter(lambda name: name.strip() != "")
NAMES = st.one_of(st.sampled_from(["a", "b", "charge_payment", "send"]), st.sampled_from(NASTY), ALLOWED)


def names(least: int, most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(NAMES, min_size=least, max_size=most, unique=True)


@st.composite
def definitions(draw: st.DrawFn, depth: int = 2) -> Definition:
    body = draw(_blocks(depth, undo=True))
    taken = {node.name for node in body}
    last = draw(st.none() | NAMES.filter(lambda name: name not in taken))
    name = draw(NAMES)
    return definition(*body, name=name, on_failure=None if last is None else step(last))


@st.composite
def _blocks(draw: st.DrawFn, depth: int, undo: bool) -> Block:
    inside = draw(names(1, 3))
    return Block(tuple(draw(_nodes(name, inside, depth, undo)) for name in inside))


@st.composite
def _nodes(draw: st.DrawFn, name: str, beside: list[str], depth: int, undo: bool) -> Node:
    targets = st.lists(st.sampled_from(beside), max_size=2).map(tuple)
    kinds = ["step", "decision"] + (["branch", "parallel", "foreach", "loop"] if depth else [])
    match draw(st.sampled_from(kinds)):
        case "decision":
            return Decision(name, unchanged, Signature(1), "loop", HERE, targets=draw(targets))
        case "branch":
            labels = [label for label in draw(names(1, 3)) if label != OTHERWISE]
            cases = tuple(Case(label, f'"{n}"', draw(_blocks(depth - 1, undo))) for n, label in enumerate(labels))
            otherwise = draw(st.booleans()) or not cases
            return Branch(name, rule(), cases, HERE, draw(_blocks(depth - 1, undo)) if otherwise else None)
        case "parallel":
            arms = tuple(draw(_arms(arm, depth - 1, undo)) for arm in draw(names(1, 3)))
            return Parallel(name, arms, HERE, into=draw(st.none() | targets.map(_into)))
        case "foreach":
            block = draw(_blocks(depth - 1, undo))
            into = draw(st.none() | targets.map(_into))
            return Foreach(name, rule(), block, HERE, draw(st.integers(1, 9)), into=into)
        case "loop":
            limit = draw(st.none() | st.integers(1, 99))
            return Loop(name, rule(), draw(_blocks(depth - 1, undo and limit is not None)), HERE, limit)
        case _:
            return draw(_steps(name, undo))


@st.composite
def _arms(draw: st.DrawFn, name: str, depth: int, undo: bool) -> Arm:
    if draw(st.booleans()):
        return Arm(name, name, Block((draw(_steps(name, undo)),)), single=True)
    return Arm(name, name, draw(_blocks(depth, undo)))


@st.composite
def _steps(draw: st.DrawFn, name: str, undo: bool) -> Step:
    compensation: Any = draw(NAMES.map(step)) if undo and draw(st.booleans()) else None
    return step(name, compensation=compensation)


def _into(targets: tuple[str, ...]) -> Rule:
    return replace(rule(positional=2), targets=targets)
