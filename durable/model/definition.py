"""The definition of a workflow: a tree of frozen nodes.

Authoring builds it, `check` refuses what cannot work, `fingerprint` names its shape, the interpreter gives it
meaning. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeAlias

from durable.model.retention import Retention
from durable.model.retry import Retry
from durable.model.scheduled import Scheduled

Function: TypeAlias = Callable[..., Any]
ErrorPolicy: TypeAlias = Literal["fail_fast", "complete_all", "continue"]
Merge: TypeAlias = Literal["deep", "last_wins", "collect"]
RunsIn: TypeAlias = Literal["loop", "thread", "process"]
CompensateOn: TypeAlias = Literal["completed", "started"]

VISITS_MAX = 1_000  # of one node in one block: a Goto in a circle must not go on for ever
FOREACH_DATA_MAX = 3  # data, item, index
OTHERWISE = "otherwise"  # the path segment of a branch's last resort

UNANNOTATED: Any = Any  # a parameter or result without annotation takes any JSON value as it is


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was written, for error messages."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Signature:
    """What the engine knows of a function: how to call it and what goes in and out.

    `positional` counts the data parameters (a step: 0 or 1; a foreach step: up to 3). `context` names the parameter
    annotated `Context`, if there is one; `context_index` is where it stands among the positional ones, None when it
    is given by keyword. `input_type` is that of the first data parameter, `item_type` that of the second. A result
    annotated ``None`` has `NoneType`; of a result that may be a `Goto`, `output_type` is the rest.
    """

    positional: int
    input_type: Any = UNANNOTATED
    output_type: Any = UNANNOTATED
    context: str | None = None
    context_index: int | None = None
    item_type: Any = UNANNOTATED

    def arguments(self, values: Sequence[Any], context: object) -> tuple[Sequence[Any], dict[str, Any]]:
        """The call: ``args, kwargs``, of as many of *values* as the function takes and *context* where it wants it."""
        if self.context is None:
            return values[: self.positional], {}
        args = list(values[: self.positional])
        if self.context_index is None:
            return args, {self.context: context}
        args.insert(self.context_index, context)
        return args, {}


@dataclass(frozen=True, slots=True)
class Rule:
    """A function of the author's that decides something about the flow: `on`, `items`, `until`, `into`.

    It is called once and what it says is recorded, but it is no step: it has no attempts and no path of its own. `targets`
    are the names that its source gives to `Goto`, as far as they can be read.
    """

    function: Function
    signature: Signature
    source: Source
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One function: its result is recorded once. `compensation` is the step that undoes it. `whole`: that its result is
    whatever it returns; else None leaves the data as it was. `transactional`: that what its body writes by its context's
    connection commits together with its record."""

    name: str
    function: Function
    signature: Signature
    runs_in: RunsIn
    source: Source
    retry: Retry | None = None
    timeout: timedelta | None = None
    compensation: Step | None = None
    compensate_on: CompensateOn = "completed"
    whole: bool = False
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A step that may also return a `Goto`. `targets` are the names that its source gives to it, as far as they can be read."""

    name: str
    function: Function
    signature: Signature
    runs_in: RunsIn
    source: Source
    retry: Retry | None = None
    timeout: timedelta | None = None
    max_visits: int = VISITS_MAX
    targets: tuple[str, ...] = ()
    transactional: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Block:
    """An ordered list of nodes. `source` is where a case or an arm was asked for."""

    nodes: tuple[Node, ...] = ()
    source: Source | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


@dataclass(frozen=True, slots=True)
class Case:
    """One way through a branch. `label` is its path segment, `value` what `on` must give, as JSON text."""

    label: str
    value: str
    block: Block


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several blocks, chosen once."""

    name: str
    on: Rule
    cases: tuple[Case, ...]
    source: Source
    otherwise: Block | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the blocks of a parallel. `key` is what its result is called. One that is `single` has one node, called like
    the arm, whose path is the arm's."""

    name: str
    key: str
    block: Block
    single: bool = False


@dataclass(frozen=True, slots=True)
class Parallel:
    """Blocks that run at the same time on the same data."""

    name: str
    arms: tuple[Arm, ...]
    source: Source
    on_error: ErrorPolicy = "fail_fast"
    merge: Merge = "deep"
    into: Rule | None = None


@dataclass(frozen=True, slots=True)
class Foreach:
    """A block for each item, a bounded number at a time."""

    name: str
    items: Rule
    block: Block
    source: Source
    concurrency: int = 1
    on_error: ErrorPolicy = "fail_fast"
    tolerate: int | float | None = None
    collect_as: str | None = None
    into: Rule | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """A block that is run, and run again until a condition holds."""

    name: str
    until: Rule
    block: Block
    source: Source
    max_iterations: int | None = None


Node: TypeAlias = Step | Decision | Branch | Parallel | Foreach | Loop
Composite: TypeAlias = Branch | Parallel | Foreach | Loop


def parts_of(node: Composite) -> Iterator[tuple[str | None, Block]]:
    """The blocks inside a node, each with its path segment, if it has one."""
    match node:
        case Branch():
            yield from ((case.label, case.block) for case in node.cases)
            if node.otherwise is not None:
                yield OTHERWISE, node.otherwise
        case Parallel():
            yield from ((None if arm.single else arm.name, arm.block) for arm in node.arms)
        case Foreach() | Loop():
            yield None, node.block


def targets_of(node: Node) -> tuple[str, ...]:
    """The nodes that a `Goto` of *node* may lead to, as far as they can be read."""
    match node:
        case Decision():
            return node.targets
        case Parallel(into=Rule() as into) | Foreach(into=Rule() as into):
            return into.targets
        case _:
            return ()


def may_jump(block: Block) -> bool:
    """Whether a `Goto` may lead about in *block*: then a node need not get what the one before it gives."""
    return any(isinstance(node, Decision) or targets_of(node) for node in block)


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole workflow, frozen. `shape` is the fingerprint of its tree (see `fingerprint`)."""

    name: str
    version: int
    body: Block
    source: Source
    shape: int = 0
    input_type: Any = UNANNOTATED
    output_type: Any = UNANNOTATED
    queue: str = "default"
    priority: int = 0
    timeout: timedelta | None = None
    retry: Retry = field(default_factory=Retry)
    retention: Retention | None = None
    on_failure: Step | None = None
    schedule: Scheduled | None = None
