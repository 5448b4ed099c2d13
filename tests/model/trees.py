"""Definitions made by hand, for tests of the pure functions over them."""

from __future__ import annotations

from typing import Any

import pytest

from durable.errors import DefinitionError
from durable.model.check import check
from durable.model.definition import Block, Decision, Definition, Node, Rule, Signature, Source, Step

HERE = Source("a.py", 1)


async def unchanged(data: Any) -> Any:
    return data


def step(name: str = "a", function: Any = unchanged, line: int = 1, **fields: Any) -> Step:
    fields.setdefault("signature", Signature(1))
    fields.setdefault("runs_in", "loop")
    return Step(name, function, source=Source("a.py", line), **fields)


def rule(function: Any = unchanged, positional: int = 1) -> Rule:
    return Rule(function, Signature(positional), HERE)


def typed(name: str, given: Any, result: Any, **fields: Any) -> Step:
    return step(name, signature=Signature(1, given, result), **fields)


def typed_rule(given: Any = Any, result: Any = Any, positional: int = 1, item: Any = Any) -> Rule:
    return Rule(unchanged, Signature(positional, given, result, item_type=item), HERE)


def decision(name: str, given: Any, result: Any, *targets: str) -> Decision:
    return Decision(name, unchanged, Signature(1, given, result), "loop", HERE, targets=targets)


def refusal(*nodes: Node, **fields: Any) -> str:
    """Why `check` refuses the workflow of these nodes."""
    with pytest.raises(DefinitionError) as caught:
        check(definition(*nodes, **fields))
    return str(caught.value)


def block(*names: str) -> Block:
    return Block(tuple(step(name) for name in names))


def definition(*nodes: Node, **fields: Any) -> Definition:
    options: dict[str, Any] = {"name": "order", "version": 1, "source": HERE, **fields}
    return Definition(body=Block(nodes), **options)
