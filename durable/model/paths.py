"""Paths: where a node stands in one execution, e.g. ``fetch/user``, ``send_emails[3]/send``, ``check#2``.

A path is made of the author's names: ``/`` goes inside, ``#n`` is the nth visit after a `Goto`, ``[n]`` an item or an
iteration, counted from 0. Branch cases and arms of several steps are segments of their own; a compensation stands inside
the step that it undoes. Names may not contain any of ``/ # [ ]``, so that a path can be read back.
"""

from __future__ import annotations

from collections.abc import Iterator

from durable.model.definition import Block, Branch, Definition, Foreach, Loop, Node, Parallel, Step, parts_of


def visited(name: str, visit: int) -> str:
    """The segment of a node that is reached for the *visit*-th time (from 1)."""
    return name if visit == 1 else f"{name}#{visit}"


def name_in(segment: str) -> str:
    """The author's name in a segment, without visit and index."""
    return segment.partition("[")[0].partition("#")[0]


def plain(path: str) -> str:
    """*path* without visits and indices: where its node stands in the definition."""
    return "/".join(name_in(segment) for segment in path.split("/"))


def outer_paths(path: str) -> Iterator[str]:
    """The paths of whatever *path* stands inside, items and iterations without their index; the outermost first."""
    for place, character in enumerate(path):
        if character == "[" or (character == "/" and path[place - 1] != "]"):
            yield path[:place]


def compensation_path(path: str, step: Step) -> str:
    """Where the compensation of the step at *path* stands."""
    assert step.compensation is not None
    return f"{path}/{step.compensation.name}"


def node_at(definition: Definition, path: str) -> Node | None:
    """The node that stands at *path*, a compensation or the step of `on_failure` included; None if there is none."""
    segments = [name_in(segment) for segment in path.split("/")]
    last = definition.on_failure
    if last is not None and len(segments) == 1 and segments[0] == last.name:
        return last
    return _in_block(definition.body, segments)


def _in_block(block: Block, segments: list[str]) -> Node | None:
    for node in block:
        if node.name == segments[0]:
            return node if len(segments) == 1 else _inside(node, segments[1:])
    return None


def _inside(node: Node, segments: list[str]) -> Node | None:
    match node:
        case Step(compensation=undo):
            return undo if undo is not None and segments == [undo.name] else None
        case Branch() | Parallel():
            for part, block in parts_of(node):
                if part is None:
                    found = _in_block(block, segments)  # a single arm: its node bears its name
                    if found is not None:
                        return found
                elif part == segments[0] and len(segments) > 1:
                    return _in_block(block, segments[1:])
            return None
        case Foreach() | Loop():
            return _in_block(node.block, segments)
        case _:
            return None
