"""The definition of a workflow: a tree of frozen nodes.

Authoring builds it, `check` refuses what cannot work, `fingerprint` names its shape, the interpreter gives it
meaning. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from durable.model.retry import Retry

Function: TypeAlias = Callable[..., Any]
ErrorPolicy: TypeAlias = Literal["fail_fast", "complete_all", "continue"]
Merge: TypeAlias = Literal["deep", "last_wins", "collect"]
RunsIn: TypeAlias = Literal["loop", "thread", "process"]

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
    is given by keyword. `input_type` is that of the first data parameter. A result annotated ``None`` has `NoneType`.
    """

    positional: int
    input_type: Any = UNANNOTATED
    output_type: Any = UNANNOTATED
    context: str | None = None
    context_index: int | None = None

    def arguments(self, values: Sequence[Any], context: object) -> tuple[list[Any], dict[str, Any]]:
        """The call: ``args, kwargs``, of as many of *values* as the function takes and *context* where it wants it."""
        args = list(values[: self.positional])
        if self.context is None:
            return args, {}
        if self.context_index is None:
            return args, {self.context: context}
        args.insert(self.context_index, context)
        return args, {}


@dataclass(frozen=True, slots=True)
class Compensation:
    """What undoes a step."""

    name: str
    function: Function
    signature: Signature
    runs_in: RunsIn
    source: Source
    retry: Retry | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One function: its result is recorded once."""

    name: str
    function: Function
    signature: Signature
    runs_in: RunsIn
    source: Source
    retry: Retry | None = None
    timeout: timedelta | None = None
    compensation: Compensation | None = None
    compensate_on: Literal["completed", "started"] = "completed"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step that may also return a `Goto`."""

    name: str
    function: Function
    signature: Signature
    runs_in: RunsIn
    source: Source
    retry: Retry | None = None
    timeout: timedelta | None = None
    max_visits: int = 1_000


@dataclass(frozen=True, slots=True)
class Block:
    """An ordered list of nodes."""

    nodes: tuple[Node, ...] = ()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


@dataclass(frozen=True, slots=True)
class Case:
    """One way through a branch. `label` is its path segment, `value` what `on` must give."""

    label: str
    value: Any
    block: Block


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several blocks, chosen once."""

    name: str
    on: Function
    cases: tuple[Case, ...]
    source: Source
    otherwise: Block | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the blocks of a parallel. `key` is what its result is called."""

    name: str
    key: str
    block: Block


@dataclass(frozen=True, slots=True)
class Parallel:
    """Blocks that run at the same time on the same data."""

    name: str
    arms: tuple[Arm, ...]
    source: Source
    on_error: ErrorPolicy = "fail_fast"
    merge: Merge = "deep"
    into: Function | None = None


@dataclass(frozen=True, slots=True)
class Foreach:
    """A block for each item, a bounded number at a time."""

    name: str
    items: Function
    block: Block
    source: Source
    concurrency: int = 1
    on_error: ErrorPolicy = "fail_fast"
    tolerate: int | float | None = None
    collect_as: str | None = None
    into: Function | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """A block repeated until a condition holds."""

    name: str
    until: Function
    block: Block
    source: Source
    max_iterations: int | None = None


Node: TypeAlias = Step | Decision | Branch | Parallel | Foreach | Loop


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
