"""As which types the data of a definition is written and read: what its codec will be asked for, known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Never, NoReturn

from durable.model.definition import (
    Block,
    Branch,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Rule,
    Step,
    parts_of,
)
from durable.model.signature import listed_type


def types_of(definition: Definition) -> Iterator[tuple[str, Any]]:
    """Each of these types, with the words for it that begin a message. Some come several times."""
    return ((what, kind) for what, kind in _of_all(definition) if kind not in (Never, NoReturn))  # such never comes


def _of_all(definition: Definition) -> Iterator[tuple[str, Any]]:
    here = f'workflow "{definition.name}"'
    yield f"{here} ({definition.source}): its input", definition.input_type
    yield f"{here} ({definition.source}): its result", definition.output_type
    yield from _of_block(here, definition.body)
    if definition.on_failure is not None:
        yield from _taken(f'{here}: on_failure "{definition.on_failure.name}"', definition.on_failure)


def _of_block(here: str, block: Block) -> Iterator[tuple[str, Any]]:
    for node in block:
        label = f'{here}: {type(node).__name__.lower()} "{node.name}"'
        yield from _of_node(label, node)
        if not isinstance(node, Step | Decision):
            for _, part in parts_of(node):
                yield from _of_block(here, part)


def _of_node(label: str, node: Node) -> Iterator[tuple[str, Any]]:
    match node:
        case Step() | Decision():
            yield from _taken(label, node)
            yield f"{label} ({node.source}): its result", node.signature.output_type
            if isinstance(node, Step) and node.compensation is not None:
                yield from _taken(f'{label}: compensation "{node.compensation.name}"', node.compensation)
        case Branch():
            yield from _taken(f"{label}: on", node.on)
            yield f"{label}: on ({node.on.source}): what it says", node.on.signature.output_type
        case Loop():
            yield from _taken(f"{label}: until", node.until)
        case Foreach():
            yield from _taken(f"{label}: items", node.items)
            yield f"{label}: items ({node.items.source}): what it says", listed_type(node.items.signature.output_type)
            yield from _of_into(label, node.into)
        case Parallel():
            yield from _of_into(label, node.into)


def _of_into(label: str, into: Rule | None) -> Iterator[tuple[str, Any]]:
    if into is not None:
        if into.signature.positional:  # what it is given besides are results, which the engine makes
            yield f"{label}: into ({into.source}): what it takes", into.signature.input_type
        yield f"{label}: into ({into.source}): its result", into.signature.output_type


def _taken(label: str, asked: Step | Decision | Rule) -> Iterator[tuple[str, Any]]:
    kinds = (asked.signature.input_type, asked.signature.item_type)
    for kind in kinds[: asked.signature.positional]:
        yield f"{label} ({asked.source}): what it takes", kind
