"""Definitions made by hand, for tests of the pure functions over them."""

from __future__ import annotations

from typing import Any

from durable.model.definition import Block, Definition, Node, Signature, Source, Step

HERE = Source("a.py", 1)


async def unchanged(data: Any) -> Any:
    return data


def step(name: str = "a", function: Any = unchanged, line: int = 1, **fields: Any) -> Step:
    fields.setdefault("signature", Signature(1))
    fields.setdefault("runs_in", "loop")
    return Step(name, function, source=Source("a.py", line), **fields)


def typed(name: str, given: Any, result: Any) -> Step:
    return step(name, signature=Signature(1, given, result))


def block(*names: str) -> Block:
    return Block(tuple(step(name) for name in names))


def definition(*nodes: Node, **fields: Any) -> Definition:
    options: dict[str, Any] = {"name": "order", "version": 1, "source": HERE, **fields}
    return Definition(body=Block(nodes), **options)
