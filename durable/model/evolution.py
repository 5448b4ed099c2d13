"""Whether an execution that was begun under one shape can go on under another: the code was changed while it ran.

Executions go on by names. What is recorded must be found again in the place where the walk looks for it, and nothing that was
there to be done may be missing: else the execution would skip it, or do it with data of another place. Bodies, annotations and
options are no part of a shape and may change at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from durable.model.definition import OTHERWISE
from durable.model.fingerprint import Tree
from durable.model.paths import name_in


def resumes(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str | None:
    """None when every execution begun under *stored* may go on under *current*, however far it has come.

    That is so when *current* only adds nodes at the end. Otherwise the reason, which says what was expected, what was
    found, and where.
    """
    present = current["nodes"]
    for place, expected in enumerate(stored["nodes"]):
        found = present[place] if place < len(present) else None
        if found != expected:
            return _difference(expected, found, f"place {place + 1}")
    return None


def resumes_after(stored: Tree, current: Tree, paths: Collection[str]) -> str | None:
    """None when an execution begun under *stored*, with records at *paths*, may go on under *current*; otherwise the reason.
    The paths include the case that a branch has chosen, as ``outcome/approved``.

    In each block that was entered, what was begun must come first and in the same order, all that was still to come must be
    there in any order, and anything may be added behind what was begun. What was not begun at all may have changed inside.
    """
    return _judge_block(stored["nodes"], current["nodes"], [path.split("/") for path in paths if path], "")


def can_be_undone(stored: Tree, current: Tree, paths: Collection[str]) -> str | None:
    """None when the steps at *paths*, recorded under *stored*, are all there in *current*: then each can be undone, in whatever
    order they stand now. Otherwise the reason. A step that is gone may have had a compensation."""
    for path in paths:
        segments = [name_in(segment) for segment in path.split("/")]
        expected, found = _find(stored["nodes"], segments), _find(current["nodes"], segments)
        # None: it is a compensation, or the step of `on_failure`, and no node of the flow.
        if expected is not None and expected["kind"] == "step" and (found is None or found["kind"] != "step"):
            return f'expected step "{path}", which may have to be undone, found {"none" if found is None else _label(found)}'
    return None


def _find(nodes: Sequence[Tree], segments: Sequence[str]) -> Tree | None:
    name, inner = segments[0], segments[1:]
    for node in nodes:
        if node["name"] == name:
            return _find_inside(node, inner) if inner else node
    return None


def _find_inside(node: Tree, segments: Sequence[str]) -> Tree | None:
    match node["kind"]:
        case "branch":
            block = _cases(node).get(segments[0])
            return None if block is None or len(segments) == 1 else _find(block, segments[1:])
        case "parallel":
            for arm in node["arms"]:
                if arm["name"] == segments[0]:
                    inner = segments if arm["single"] else segments[1:]
                    return _find(arm["nodes"], inner) if inner else None
            return None
        case "foreach" | "loop":
            return _find(node["nodes"], segments)
        case _:
            return None


def _judge_block(
    stored: Sequence[Tree], current: Sequence[Tree], paths: Sequence[Sequence[str]], prefix: str
) -> str | None:
    # A step of `on_failure` is recorded beside the nodes, and is none of them.
    begun = {name_in(path[0]) for path in paths} & {node["name"] for node in stored}
    if not begun:
        return None if not prefix else _missing(stored, current, begun, prefix)
    if any("#" in path[0] for path in paths) or not _first(stored, begun):
        # There were jumps: what is visited next is decided by data, so that the block must have all in its order.
        return _same_order(stored, current, prefix)
    for place, expected in enumerate(node for node in stored if node["name"] in begun):
        found = current[place] if place < len(current) else None
        if found is None or _key(found) != _key(expected):
            return _difference(expected, found, f"place {place + 1}{_within(prefix)}")
        inside = [path for path in paths if name_in(path[0]) == expected["name"]]
        if (reason := _judge_node(expected, found, inside, prefix)) is not None:
            return reason
    return _missing(stored, current, begun, prefix)


def _judge_node(stored: Tree, current: Tree, paths: Sequence[Sequence[str]], prefix: str) -> str | None:
    """A node of the same name and kind, of which something is recorded at *paths* (which begin with its own segment)."""
    here = f"{prefix}{stored['name']}"
    deeper = [path[1:] for path in paths if len(path) > 1]
    match stored["kind"]:
        case "branch":
            for label in sorted({path[0] for path in deeper}):
                inside = [path[1:] for path in deeper if path[0] == label and len(path) > 1]
                if label not in _cases(current):
                    return f'expected case "{label}" of branch "{here}", which was chosen, found none'
                before, now = _cases(stored)[label], _cases(current)[label]
                if inside and (reason := _judge_block(before, now, inside, f"{here}/{label}/")) is not None:
                    return reason
        case "parallel":
            return _judge_arms(stored, current, deeper, here)
        case "foreach" | "loop":
            # Items and iterations in progress may each have come to another place of the block.
            for item in {path[0] for path in paths if "[" in path[0]}:
                inside = [path[1:] for path in paths if path[0] == item and len(path) > 1]
                if (reason := _judge_block(stored["nodes"], current["nodes"], inside, f"{here}/")) is not None:
                    return reason
        case _:
            pass
    return None


def _judge_arms(stored: Tree, current: Tree, deeper: Sequence[Sequence[str]], here: str) -> str | None:
    if not deeper:
        return None  # it is over: none of its arms is entered again
    arms = {arm["name"]: arm for arm in current["arms"]}
    for arm in stored["arms"]:
        found = arms.get(arm["name"])
        if found is None or found["single"] != arm["single"]:
            return f'expected arm "{arm["name"]}" of parallel "{here}", found {"none" if found is None else "another"}'
        inside = [path if arm["single"] else path[1:] for path in deeper if name_in(path[0]) == arm["name"]]
        prefix = f"{here}/" if arm["single"] else f"{here}/{arm['name']}/"
        reason = _judge_block(arm["nodes"], found["nodes"], [path for path in inside if path], prefix)
        if reason is not None:
            return reason
    return None


def _cases(branch: Tree) -> dict[str, Sequence[Tree]]:
    cases = {case["label"]: case["nodes"] for case in branch["cases"]}
    return cases if branch["otherwise"] is None else {**cases, OTHERWISE: branch["otherwise"]["nodes"]}


def _first(nodes: Sequence[Tree], begun: Collection[str]) -> bool:
    """Whether what was begun is what comes first."""
    return all(node["name"] in begun for node in nodes[: len(begun)]) and len(begun) <= len(nodes)


def _same_order(stored: Sequence[Tree], current: Sequence[Tree], prefix: str) -> str | None:
    for place, expected in enumerate(stored):
        found = current[place] if place < len(current) else None
        if found != expected:
            return _difference(expected, found, f"place {place + 1}{_within(prefix)}, where a Goto has led about")
    return None


def _missing(stored: Sequence[Tree], current: Sequence[Tree], begun: Collection[str], prefix: str) -> str | None:
    """What was still to come and is not there any more."""
    present = {_key(node) for node in current}
    for expected in stored:
        if expected["name"] not in begun and _key(expected) not in present:
            names = ", ".join(_label(node) for node in current if node["name"] not in begun) or "nothing"
            return f"expected {_label(expected)}{_within(prefix)} still to come, found {names}"
    return None


def _key(node: Tree) -> tuple[str, str]:
    return node["kind"], node["name"]


def _within(prefix: str) -> str:
    return f' of "{prefix[:-1]}"' if prefix else ""


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any] | None, where: str) -> str:
    if found is None:
        return f"expected {_label(expected)} in {where}, found the end"
    if _label(expected) != _label(found):
        return f"expected {_label(expected)} in {where}, found {_label(found)}"
    return f"expected {_label(expected)} in {where} as it was, found it changed inside"


def _label(node: Mapping[str, Any]) -> str:
    return f'{node["kind"]} "{node["name"]}"'
