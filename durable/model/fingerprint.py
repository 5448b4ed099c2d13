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
            cases = [{"label": case.label, "value": case.value, **_block(case.block)} for case in node.cases]
            cases.sort(key=lambda case: case["label"])
            otherwise = None if node.otherwise is None else _block(node.otherwise)
            return {"kind": "branch", "name": node.name, "cases": cases, "otherwise": otherwise}
        case Parallel():
            # A single arm's step stands at another path than the only step of an arm with a name of its own.
            arms = [{"name": arm.name, "single": arm.single, **_block(arm.block)} for arm in node.arms]
            return {"kind": "parallel", "name": node.name, "arms": arms}
        case Foreach():
            return {"kind": "foreach", "name": node.name, **_block(node.block)}
        case Loop():
            return {"kind": "loop", "name": node.name, **_block(node.block)}
