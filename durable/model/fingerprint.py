"""Names the shape of a definition: the tree of names that stored records refer to.

The shape holds names, kinds, nesting, arms and cases: what paths are made of. Bodies, annotations, retries and
timeouts are no part of it, so they may change under a running execution. It knows nothing of storage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from durable.model.definition import Block, Branch, Decision, Definition, Foreach, Loop, Node, Parallel, Step

Tree: TypeAlias = dict[str, Any]
"""A shape as JSON: a block is ``{"nodes": [...]}``, a node has ``kind``, ``name`` and its inner blocks."""


def shape_of(definition: Definition) -> Tree:
    """The tree of *definition*'s names. It survives JSON unchanged."""
    return _block(definition.body)


def fingerprint(tree: Mapping[str, Any], workflow: str, version: int) -> int:
    """A signed 64-bit name for *tree* as the shape of *version* of *workflow*, the same in every process."""
    canonical = json.dumps([workflow, version, tree], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(canonical.encode("ascii")).digest()[:8], "big", signed=True)


def resumes(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str | None:
    """None when every execution begun under *stored* may go on under *current*, however far it has come.

    That is so when *current* only adds nodes at the end. Otherwise the reason, which says what was expected, what was
    found, and where.
    """
    present = current["nodes"]
    for place, expected in enumerate(stored["nodes"]):
        found = present[place] if place < len(present) else None
        if found != expected:
            return _difference(expected, found, place)
    return None


def _block(block: Block) -> Tree:
    return {"nodes": [_node(node) for node in block]}


def _node(node: Node) -> Tree:
    match node:
        case Step():
            return {"kind": "step", "name": node.name}
        case Decision():
            return {"kind": "decision", "name": node.name}
        case Branch():
            # The value decides, not the place, so moving a case in the file changes nothing.
            cases = [{"label": case.label, **_block(case.block)} for case in node.cases]
            cases.sort(key=lambda case: case["label"])
            otherwise = None if node.otherwise is None else _block(node.otherwise)
            return {"kind": "branch", "name": node.name, "cases": cases, "otherwise": otherwise}
        case Parallel():
            arms = [{"name": arm.name, **_block(arm.block)} for arm in node.arms]
            return {"kind": "parallel", "name": node.name, "arms": arms}
        case Foreach():
            return {"kind": "foreach", "name": node.name, **_block(node.block)}
        case Loop():
            return {"kind": "loop", "name": node.name, **_block(node.block)}


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any] | None, place: int) -> str:
    where = f"place {place + 1}"
    if found is None:
        return f"expected {_label(expected)} in {where}, found the end of the workflow"
    if _label(expected) != _label(found):
        return f"expected {_label(expected)} in {where}, found {_label(found)}"
    return f"expected {_label(expected)} in {where} with {_inside(expected)}, found it with {_inside(found)}"


def _label(node: Mapping[str, Any]) -> str:
    return f'{node["kind"]} "{node["name"]}"'


def _inside(node: Mapping[str, Any]) -> str:
    content = {key: value for key, value in node.items() if key not in ("kind", "name")}
    return json.dumps(content, sort_keys=True, ensure_ascii=False)
