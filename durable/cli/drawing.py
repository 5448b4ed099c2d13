"""A definition as a tree for the terminal."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from durable.model.definition import (
    Block,
    Branch,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Step,
    parts_of,
    targets_of,
)

_DIM = "dim"


def tree_of(definition: Definition) -> Tree:
    """The nodes of *definition*, in their order."""
    head = Text.assemble((definition.name, "bold"), f" v{definition.version}", (f"  {definition.source}", _DIM))
    tree = Tree(head, guide_style=_DIM)
    _add_block(tree, definition.body)
    if definition.on_failure is not None:
        tree.add(Text.assemble(("on failure ", "magenta"), definition.on_failure.name))
    return tree


def _add_block(tree: Tree, block: Block) -> None:
    for node in block:
        branch = tree.add(_label(node))
        if not isinstance(node, Step | Decision):
            for part, inner in parts_of(node):
                _add_block(branch if part is None else branch.add(Text(part, style="italic")), inner)


def _label(node: Node) -> Text:
    kind = type(node).__name__.lower()
    text = Text(node.name, style="bold")
    if kind != "step":
        text.append(f"  {kind}", "cyan")
    match node:
        case Step():
            if node.retry is not None and node.retry.max_attempts > 1:
                text.append(f"  up to {node.retry.max_attempts} attempts", _DIM)
            if node.timeout is not None:
                text.append(f"  timeout {node.timeout}", _DIM)
            if node.compensation is not None:
                text.append(f"  undone by {node.compensation.name}", "magenta")
        case Parallel():
            text.append(f"  {node.on_error}", _DIM)
        case Foreach():
            text.append(f"  {node.concurrency} at a time", _DIM)
        case Loop(max_iterations=int(most)):
            text.append(f"  up to {most} times", _DIM)
        case Branch() | Loop() | Decision():
            pass
    if targets := targets_of(node):
        text.append(f"  may go to {', '.join(targets)}", "yellow")
    return text
