"""What a lambda is given: it has no annotations, so its data has the type that the nodes before it say.

Only where that is certain. After a `Goto`, and where several types come together, a lambda gets the JSON form, as every
function without annotations does.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from durable.model.definition import (
    UNANNOTATED,
    Block,
    Branch,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Rule,
    Signature,
    Step,
    may_jump,
)
from durable.model.signature import item_of


def infer(definition: Definition) -> Definition:
    """*definition* with the types that its lambdas are given."""
    body, _ = _block(definition.body, definition.input_type, UNANNOTATED)
    return replace(definition, body=body)


def _block(block: Block, given: Any, item: Any) -> tuple[Block, Any]:
    """The block, and the type of what leaves it. *item* is what a foreach around it gives besides the data."""
    jumps = may_jump(block)
    nodes: list[Node] = []
    for node in block:
        inferred, given = _node(node, UNANNOTATED if jumps else given, item)
        nodes.append(inferred)
    return replace(block, nodes=tuple(nodes)), UNANNOTATED if jumps else given


def _node(node: Node, given: Any, item: Any) -> tuple[Node, Any]:
    match node:
        case Step():
            return node, _after(node.signature, given)
        case Decision():
            return node, UNANNOTATED
        case Branch():
            cases = [_block(case.block, given, item) for case in node.cases]
            otherwise, last = (None, given) if node.otherwise is None else _block(node.otherwise, given, item)
            ends = [end for _, end in cases] if otherwise is None else [*(end for _, end in cases), last]
            inside = tuple(replace(case, block=block) for case, (block, _) in zip(node.cases, cases, strict=True))
            return replace(node, on=_rule(node.on, given, item), cases=inside, otherwise=otherwise), _same(ends)
        case Parallel():
            arms = tuple(replace(arm, block=_block(arm.block, given, item)[0]) for arm in node.arms)
            into = None if node.into is None else _rule(node.into, given, UNANNOTATED)
            return replace(node, arms=arms, into=into), UNANNOTATED if into is None else _after(into.signature, given)
        case Foreach():
            items = _rule(node.items, given, item)
            block, _ = _block(node.block, given, item_of(items.signature.output_type))
            into = None if node.into is None else _rule(node.into, given, UNANNOTATED)
            end = given if into is None else _after(into.signature, given)
            inferred = replace(node, items=items, block=block, into=into)
            return inferred, end if node.collect_as is None else UNANNOTATED
        case Loop():
            block, end = _block(node.block, given, item)
            if _same([given, end]) is UNANNOTATED:  # the first iteration is given something else than the others
                block, end = _block(node.block, UNANNOTATED, item)
            return replace(node, until=_rule(node.until, end, item), block=block), end


def _rule(rule: Rule, given: Any, item: Any) -> Rule:
    signature = rule.signature
    if getattr(rule.function, "__name__", "") != "<lambda>":
        return rule
    if signature.positional > 0 and signature.input_type is UNANNOTATED:
        signature = replace(signature, input_type=given)
    if signature.positional > 1 and signature.item_type is UNANNOTATED:
        signature = replace(signature, item_type=item)
    return replace(rule, signature=signature)


def _after(signature: Signature, given: Any) -> Any:
    """The type of the data after a function: its result, or what it was given where that is None."""
    result = signature.output_type
    if result is None or result is types.NoneType:
        return given
    if typing.get_origin(result) in (typing.Union, types.UnionType):
        members = typing.get_args(result)
        if types.NoneType in members:
            return _same([given, *(member for member in members if member is not types.NoneType)])
    return result


def _same(found: Iterable[Any]) -> Any:
    """The one type that all of *found* are; unknown if they differ."""
    first, *others = found
    return first if all(other == first for other in others) else UNANNOTATED
