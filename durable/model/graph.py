"""The graph of a workflow: its nodes and the ways between them, as plain values, and an execution laid over it.

It is read from the definition alone, so what it shows is what may happen; what has happened is laid over it. It draws nothing
itself (see `mermaid`), and gives no meaning to anything: that is the interpreter's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from durable.errors import UsageError
from durable.model.definition import (
    OTHERWISE,
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
)
from durable.model.mermaid import flowchart
from durable.model.paths import compensation_path, plain
from durable.model.status import Status

NodeKind: TypeAlias = Literal[
    "start",
    "end",
    "step",
    "decision",
    "branch",
    "parallel",
    "arm",
    "join",
    "foreach",
    "loop",
    "compensation",
    "on_failure",
]
EdgeKind: TypeAlias = Literal["flow", "goto", "compensation", "on_failure"]
NodeStatus: TypeAlias = Literal["completed", "running", "retrying", "failed", "stopped"]

# No name contains "#", so these are no path of a node of the author's.
START = "#start"
END = "#end"
JOIN = "#join"  # put behind the path of the parallel whose arms come together there

_UNRECORDED = ("start", "end", "arm", "join")
_ENDS: Mapping[str, NodeStatus] = {
    "completed": "completed",
    "chosen": "completed",
    "failed": "failed",
    "retrying": "retrying",
}
_ORDER: tuple[NodeStatus, ...] = ("completed", "stopped", "running", "retrying", "failed")  # the last one is shown


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node. `path` is unique, and is that of the node in an execution without visits and indices. `parent` is the path of
    the foreach, loop, parallel, arm or branch that it is inside. `detail` is what a picture may say besides the name.

    A composite is the node where something is decided: the case of a branch, whether there are more items, whether to go
    round again, what the arms begin with. An arm of several nodes only groups them, and no edge touches it.
    """

    path: str
    name: str
    kind: NodeKind
    parent: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """A way from the node at the path `source` to that at `target`. `label` is empty when there is nothing to say."""

    source: str
    target: str
    label: str = ""
    kind: EdgeKind = "flow"


@dataclass(frozen=True, slots=True)
class NodeState:
    """How a node stands in one execution. `label` says it in words, with counts when the node was reached more than once:
    ``7 completed, 1 failed``. `status` is then the one that most needs a look."""

    status: NodeStatus
    label: str


class ShownStep(Protocol):
    """A step of an execution, e.g. a `StepView`."""

    @property
    def path(self) -> str: ...
    @property
    def status(self) -> str: ...


class ShownExecution(Protocol):
    """An execution with its steps, e.g. the `Execution` of ``get_execution(id, include_steps=True)``."""

    @property
    def status(self) -> Status: ...
    @property
    def steps(self) -> Sequence[ShownStep] | None: ...


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph of a workflow, in the order of the definition; it begins with the start and ends with the end."""

    workflow: str
    version: int
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    def mermaid(self, execution: ShownExecution | None = None) -> str:
        """The graph as the text of a Mermaid flowchart, the same for the same definition; with *execution*, each node says and
        shows how it stands there. Steps of *execution* that are not in the graph are left out. Raises `UsageError` for
        an execution without its steps.
        """
        if execution is None:
            return flowchart(self.nodes, self.edges, {})
        if execution.steps is None:
            raise UsageError(
                f'the graph of workflow "{self.workflow}" was given an execution without its steps. Get it with '
                "get_execution(id, include_steps=True)."
            )
        statuses = {step.path: step.status for step in execution.steps}
        return flowchart(self.nodes, self.edges, laid_over(self, statuses, ended=execution.status.ended))


def graph_of(definition: Definition) -> Graph:
    """The graph of a definition that `check` accepts."""
    drawing = _Drawing()
    drawing.nodes.append(GraphNode(START, definition.name, "start"))
    outs = drawing.block(definition.body, "", None, [_Out(START)])
    last = definition.on_failure
    if last is not None:
        drawing.nodes.append(GraphNode(last.name, last.name, "on_failure"))
        drawing.edges.append(GraphEdge(START, last.name, "on failure", "on_failure"))
    drawing.nodes.append(GraphNode(END, "end", "end"))
    drawing.flow(outs, END)
    return Graph(definition.name, definition.version, tuple(drawing.nodes), tuple(drawing.edges))


# --- Walking the definition -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Out:
    """A way out of what was drawn, whose target comes next."""

    source: str
    label: str = ""


@dataclass(slots=True)
class _Drawing:
    """A graph in the making. Each method is given the ways that lead in, and returns those that lead out."""

    nodes: list[GraphNode] = field(default_factory=list[GraphNode])
    edges: list[GraphEdge] = field(default_factory=list[GraphEdge])

    def flow(self, ins: Sequence[_Out], target: str) -> None:
        self.edges.extend(GraphEdge(way.source, target, way.label) for way in ins)

    def block(self, block: Block, prefix: str, parent: str | None, ins: list[_Out]) -> list[_Out]:
        entries = {node.name: _entry(node, prefix) for node in block}
        for node in block:
            ins = self._node(node, prefix + node.name, parent, ins)
            source, targets = _jumps(node, prefix + node.name)
            jumps = (GraphEdge(source, entries[target], "goto", "goto") for target in targets if target in entries)
            self.edges.extend(jumps)
        return ins

    def _node(self, node: Node, path: str, parent: str | None, ins: list[_Out]) -> list[_Out]:
        match node:
            case Step():
                self._add(GraphNode(path, node.name, "step", parent), ins)
                if node.compensation is not None:
                    undo = compensation_path(path, node)
                    self.nodes.append(GraphNode(undo, node.compensation.name, "compensation", parent))
                    self.edges.append(GraphEdge(path, undo, "undo", "compensation"))
                return [_Out(path)]
            case Decision():
                self._add(GraphNode(path, node.name, "decision", parent), ins)
                return [_Out(path)]
            case Branch():
                return self._branch(node, path, parent, ins)
            case Parallel():
                return self._parallel(node, path, parent, ins)
            case Foreach():
                detail = f"{node.concurrency} at a time" if node.concurrency > 1 else "one after the other"
                self._add(GraphNode(path, node.name, "foreach", parent, detail), ins)
                self.flow(self.block(node.block, f"{path}/", path, [_Out(path, "each item")]), path)
                return [_Out(path, "done")]
            case Loop():
                # Its question comes after the first iteration, so its block is what one comes to first.
                limit = "" if node.max_iterations is None else f"at most {node.max_iterations} times"
                outs = self.block(node.block, f"{path}/", path, ins)
                self._add(GraphNode(path, node.name, "loop", parent, limit), outs)
                self.flow([_Out(path, "again")], _entry(node.block.nodes[0], f"{path}/"))
                return [_Out(path, "done")]

    def _add(self, node: GraphNode, ins: Sequence[_Out]) -> None:
        self.nodes.append(node)
        self.flow(ins, node.path)

    def _branch(self, node: Branch, path: str, parent: str | None, ins: list[_Out]) -> list[_Out]:
        self._add(GraphNode(path, node.name, "branch", parent), ins)
        blocks = [(case.label, case.block) for case in node.cases]
        if node.otherwise is not None:
            blocks.append((OTHERWISE, node.otherwise))
        outs: list[_Out] = []
        for label, block in blocks:
            outs += self.block(block, f"{path}/{label}/", path, [_Out(path, label)])
        return outs

    def _parallel(self, node: Parallel, path: str, parent: str | None, ins: list[_Out]) -> list[_Out]:
        self._add(GraphNode(path, node.name, "parallel", parent), ins)
        outs: list[_Out] = []
        for arm in node.arms:
            if arm.single:
                outs += self.block(arm.block, f"{path}/", path, [_Out(path)])
            else:
                inside = f"{path}/{arm.name}"
                self.nodes.append(GraphNode(inside, arm.name, "arm", path))
                outs += self.block(arm.block, f"{inside}/", inside, [_Out(path)])
        self._add(GraphNode(path + JOIN, "join", "join", path), outs)
        return [_Out(path + JOIN)]


def _entry(node: Node, prefix: str) -> str:
    """The node that one comes to first where *node* begins."""
    path = prefix + node.name
    return _entry(node.block.nodes[0], f"{path}/") if isinstance(node, Loop) else path


def _jumps(node: Node, path: str) -> tuple[str, tuple[str, ...]]:
    """Where the node at *path* may go by `Goto`, and from where."""
    match node:
        case Decision():
            return path, tuple(dict.fromkeys(node.targets))
        case Parallel(into=Rule() as into):
            return path + JOIN, tuple(dict.fromkeys(into.targets))
        case Foreach(into=Rule() as into):
            return path, tuple(dict.fromkeys(into.targets))
        case _:
            return path, ()


# --- An execution laid over it --------------------------------------------------------------------------------------


def laid_over(graph: Graph, statuses: Mapping[str, str], *, ended: bool = False) -> dict[str, NodeState]:
    """How each node of *graph* stands in an execution, by the node's path. *statuses* are those of the steps by their path in
    the execution, as in `StepView`. Nodes of which nothing is recorded are left out, as are paths that are not in *graph*.

    What has begun and not ended is running, or, when the execution has *ended* without it, stopped.
    """
    kinds = {node.path: node.kind for node in graph.nodes if node.kind not in _UNRECORDED}
    all_statuses = dict(statuses)
    for path in statuses:
        for outer in _around(path):
            # A parallel records nothing until it ends, a loop nothing in its first iteration.
            if kinds.get(plain(outer)) in ("branch", "parallel", "foreach", "loop"):
                all_statuses.setdefault(outer, "running")
    counts: dict[str, Counter[NodeStatus]] = {}
    for path, status in all_statuses.items():
        if (place := plain(path)) in kinds:
            counts.setdefault(place, Counter())[_status(status, ended)] += 1
    return {node.path: _state(counts[node.path]) for node in graph.nodes if node.path in counts}


def _around(path: str) -> Iterator[str]:
    """The paths of what the node at *path* is inside: ``a``, ``a[3]/b`` of ``a[3]/b/c``."""
    segments = path.split("/")
    for count in range(1, len(segments)):
        outer = "/".join(segments[:count])
        yield outer[: outer.rindex("[")] if outer.endswith("]") else outer


def _status(status: str, ended: bool) -> NodeStatus:
    known = _ENDS.get(status, "running")
    return "stopped" if ended and known in ("running", "retrying") else known


def _state(counts: Counter[NodeStatus]) -> NodeState:
    found: list[NodeStatus] = [status for status in _ORDER if counts[status]]
    if counts.total() == 1:
        return NodeState(found[-1], found[-1])
    return NodeState(found[-1], ", ".join(f"{counts[status]} {status}" for status in found))
