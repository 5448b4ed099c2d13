"""A graph as the text of a Mermaid flowchart, the same for the same graph.

What the author has named appears only inside quotes, with all that could mean something to Mermaid written as numbers, and ids
are counted: no name can break the picture. It decides nothing about what a graph contains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.model.graph import EdgeKind, GraphEdge, GraphNode, NodeKind, NodeState

_SHAPES: dict[NodeKind, tuple[str, str]] = {
    "start": ("([", "])"),
    "end": ("([", "])"),
    "step": ("[", "]"),
    "decision": ("{", "}"),
    "branch": ("{", "}"),
    "parallel": ("[/", "\\]"),
    "join": ("((", "))"),
    "foreach": ("{{", "}}"),
    "loop": ("{", "}"),
    "compensation": ("(", ")"),
    "on_failure": ("(", ")"),
}
_ARROWS: dict[EdgeKind, str] = {"flow": "-->", "goto": "==>", "compensation": "-.->", "on_failure": "-.->"}
_BOXES: dict[NodeKind, str] = {"parallel": "parallel", "foreach": "for each", "loop": "loop"}

# The text has a colour of its own, so that it can be read on a dark page as well.
_COLOURS = {
    "completed": "fill:#d8f3dc,stroke:#2d6a4f,color:#1b1b1b",
    "running": "fill:#dbeafe,stroke:#1d4ed8,color:#1b1b1b",
    "retrying": "fill:#fef3c7,stroke:#b45309,color:#1b1b1b",
    "failed": "fill:#fee2e2,stroke:#b91c1c,color:#1b1b1b",
    "stopped": "fill:#e5e7eb,stroke:#4b5563,color:#1b1b1b",
}


def flowchart(nodes: Sequence[GraphNode], edges: Sequence[GraphEdge], states: Mapping[str, NodeState]) -> str:
    """The text of a ``flowchart TD``; *states* by the path of the node."""
    ids = {node.path: f"n{number}" for number, node in enumerate(nodes)}
    inside: dict[str | None, list[GraphNode]] = {}
    boxes = {node.path for node in nodes if _title(node)}
    parents = {node.path: node.parent for node in nodes}
    for node in nodes:
        box = node.parent
        while box is not None and box not in boxes:
            box = parents[box]
        inside.setdefault(box, []).append(node)
    lines = ["flowchart TD", *_drawn(None, inside, ids, states, "    ")]
    for edge in edges:
        label = f'|"{quoted(edge.label)}"|' if edge.label else ""
        lines.append(f"    {ids[edge.source]} {_ARROWS[edge.kind]}{label} {ids[edge.target]}")
    for status, colours in _COLOURS.items():
        if alike := [ids[path] for path, state in states.items() if state.status == status]:
            lines += [f"    classDef {status} {colours}", f"    class {','.join(alike)} {status}"]
    return "\n".join(lines) + "\n"


def _drawn(
    box: str | None,
    inside: Mapping[str | None, Sequence[GraphNode]],
    ids: Mapping[str, str],
    states: Mapping[str, NodeState],
    indent: str,
) -> Iterator[str]:
    """The nodes of a box, and the boxes in it. A node with a box of its own stands in that box."""
    for node in inside.get(box, ()):
        shown = indent
        if title := _title(node):
            yield f'{indent}subgraph b{ids[node.path][1:]}["{quoted(title)}"]'
            shown = indent + "    "
        if node.kind in _SHAPES:
            opening, closing = _SHAPES[node.kind]
            yield f'{shown}{ids[node.path]}{opening}"{_label(node, states.get(node.path))}"{closing}'
        if title:
            yield from _drawn(node.path, inside, ids, states, shown)
            yield f"{indent}end"


def _title(node: GraphNode) -> str:
    """What is written on the box around a node; empty when it has none."""
    if node.kind == "arm":
        return node.name
    kind = _BOXES.get(node.kind, "")
    return f"{kind}, {node.detail}" if kind and node.detail else kind


def _label(node: GraphNode, state: NodeState | None) -> str:
    if node.kind == "join":
        return " "
    name = quoted(node.name)
    return name if state is None else f"{name}<br/>{quoted(state.label)}"


# Mermaid reads Markdown in labels, and gives up on the parts of it that it does not know: lists, links, code. Letters and
# digits, and what stands between two of them here, mean nothing in it.
_MEANINGLESS = re.compile(r"[^\W_]+(?:(?:,? |[_-])[^\W_]+)*")

# For these it looks after it has read the numbers: its own marks, formulas, icons, line breaks.
_READ_LATE = re.compile(r"ﬂ(?=°)|¶(?=ß)|\$(?=\$)|:(?=fa-)|\\(?=n)")
_NOTHING_SEEN = "\u200b"  # a space without width takes them apart


def quoted(text: str) -> str:
    """*text* to stand between the quotes of a label; Mermaid shows it as it was."""
    text = _READ_LATE.sub(rf"\g<0>{_NOTHING_SEEN}", text)
    written: list[str] = []
    position = 0
    for found in _MEANINGLESS.finditer(text):
        written += [_numbered(text[position : found.start()]), found.group()]
        position = found.end()
    return "".join(written) + _numbered(text[position:])


def _numbered(text: str) -> str:
    return "".join(f"#{ord(character)};" for character in text)
