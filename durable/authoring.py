"""How a workflow is written: `Workflow` and its decorators.

They only collect. A definition is made from what was collected, checked and frozen when it is first asked for, which
`Durable(...)` does; after that nothing can be added. Nothing here runs a step.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import FrameType, ModuleType
from typing import Any, Generic, Protocol, overload

from typing_extensions import TypeVar

from durable.errors import DefinitionError
from durable.model import signature
from durable.model.check import check, check_call, check_function, check_name, check_node_values, check_options
from durable.model.definition import UNANNOTATED, Block, Definition, Function, Node, RunsIn, Signature, Source, Step
from durable.model.fingerprint import fingerprint, shape_of
from durable.model.retry import Retry

In = TypeVar("In", default=Any)
Out = TypeVar("Out", default=Any)
F = TypeVar("F", bound=Callable[..., Any])

_NOT_GIVEN: Any = object()
_OURS = frozenset({"durable", "typing", "typing_extensions"})  # a call of Workflow[In, Out] passes through typing


class _Draft(Protocol):
    """A node in the making."""

    def finished(self) -> Node: ...


@dataclass(slots=True)
class _Root:
    """What all blocks of one workflow share: its options, where it stands, and its definition once it is frozen."""

    head: Definition
    namespace: dict[str, Any]
    definition: Definition | None = None


class BlockBuilder:
    """A block in the making: the decorators that add nodes to it, in the order of their calls."""

    _data_max = 1  # how many data arguments a step in this block is given

    def __init__(self, root: _Root) -> None:
        self._root = root
        self._drafts: list[_Draft] = []

    @overload
    def step(
        self,
        function: F,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
    ) -> F: ...
    @overload
    def step(
        self,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
    ) -> Callable[[F], F]: ...
    def step(
        self,
        function: Any = _NOT_GIVEN,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
    ) -> Any:
        """Add a function as the next step; use it as ``@block.step`` or ``@block.step(...)``. Returns the function.

        An ``async def`` runs on the event loop, a ``def`` in a thread, with *process* in a worker process. It takes
        the data, or nothing, and a `Context` if a parameter is annotated so. A step that returns None leaves the data
        as it was. *name* is the function's name unless given. *retry* is the workflow's unless given. *timeout* bounds
        each active run of the body and cancels it. Raises `DefinitionError`.
        """

        def declare(function: F) -> F:
            self._add(_step_draft(self._root, self._data_max, function, name, retry, timeout, process))
            return function

        return declare if function is _NOT_GIVEN else declare(function)

    def _add(self, draft: _Draft) -> None:
        if self._root.definition is not None:
            head = self._root.head
            raise DefinitionError(
                f'workflow "{head.name}" ({head.source}) is in use: {draft} comes too late. '
                "Declare every step before Durable(...) is given the workflow."
            )
        self._drafts.append(draft)

    def _finished(self) -> Block:
        return Block(tuple(draft.finished() for draft in self._drafts))


class Workflow(BlockBuilder, Generic[In, Out]):
    """A named, versioned pipeline of steps. ``Workflow[In, Out](name)`` says what goes in and what comes out.

    *timeout* is a deadline for the whole execution, counted from when it is due to begin. It also strikes while the
    execution waits; one that waits for a free slot ends when it is its turn, without running anything. *retry* is for
    steps without one of their own; the default is a single attempt. Executions of higher *priority* begin first within
    their *queue*. Raises `DefinitionError`, with file and line, for a value that cannot be kept.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        queue: str = "default",
        timeout: timedelta | None = None,
        retry: Retry | None = None,
        priority: int = 0,
    ) -> None:
        frame = _calling_frame()
        head = Definition(
            name=name,
            version=version,
            body=Block(),
            source=_source_of(frame),
            queue=queue,
            priority=priority,
            timeout=timeout,
            retry=Retry() if retry is None else retry,
        )
        check_options(head)
        super().__init__(_Root(head, frame.f_globals))

    @property
    def name(self) -> str:
        """The name that executions are stored under."""
        return self._root.head.name

    @property
    def version(self) -> int:
        """The version that executions are stored under."""
        return self._root.head.version

    @property
    def definition(self) -> Definition:
        """The frozen definition. The first use checks it and closes the workflow. Raises `DefinitionError`."""
        if self._root.definition is None:
            given, promised = self._types()
            whole = replace(self._root.head, body=self._finished(), input_type=given, output_type=promised)
            check(whole)
            shape = fingerprint(shape_of(whole), whole.name, whole.version)
            self._root.definition = replace(whole, shape=shape)
        return self._root.definition

    def __repr__(self) -> str:
        return f"Workflow({self.name!r}, version={self.version})"

    def _types(self) -> tuple[Any, Any]:
        # typing sets __orig_class__ only after __init__ has returned.
        arguments = typing.get_args(getattr(self, "__orig_class__", None)) or (UNANNOTATED, UNANNOTATED)
        head = self._root.head
        try:
            resolved = signature.resolve(dict(zip(("In", "Out"), arguments, strict=True)), self._root.namespace)
        except Exception as error:  # a forward reference is an expression: it may raise anything
            raise DefinitionError(
                f'workflow "{head.name}" ({head.source}): Workflow[In, Out] cannot be resolved '
                f"({type(error).__name__}: {error}). Import the names at module level, not under `if TYPE_CHECKING:`."
            ) from error
        given, promised = (UNANNOTATED if isinstance(t, typing.TypeVar) else t for t in resolved.values())
        return given, promised


def collect(items: Sequence[Workflow[Any, Any] | ModuleType]) -> dict[tuple[str, int], Workflow[Any, Any]]:
    """The workflows of *items* by name and version, each frozen. A module stands for every workflow in its globals.

    One that was imported twice from the same place counts once. Raises `DefinitionError` when two places define the
    same name and version, when a definition cannot work, and for a module without workflows.
    """
    found: dict[tuple[str, int], Workflow[Any, Any]] = {}
    for item in items:
        for workflow in _workflows_of(item):
            first = found.setdefault((workflow.name, workflow.version), workflow)
            if first is not workflow:
                _check_same(first.definition, workflow.definition)
            workflow.definition  # noqa: B018 - freezes it
    return found


def _workflows_of(item: Workflow[Any, Any] | ModuleType) -> list[Workflow[Any, Any]]:
    where = f"workflows= ({_source_of(_calling_frame())})"
    if isinstance(item, Workflow):
        return [item]
    if not isinstance(item, ModuleType):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise DefinitionError(f"{where} contains {item!r}. Give Workflow objects, and modules that define them.")
    # By type() because lazy proxies in a module's globals answer isinstance by loading what they stand for.
    workflows = [value for value in vars(item).values() if issubclass(type(value), Workflow)]
    if not workflows:
        raise DefinitionError(
            f"{where}: module {item.__name__} has no Workflow in its globals. Give the module that defines them."
        )
    return workflows


def _check_same(first: Definition, second: Definition) -> None:
    name = f'workflow "{first.name}" version {first.version}'
    if first.source != second.source:
        raise DefinitionError(
            f"{name} is defined in two places ({first.source} and {second.source}). "
            "Rename one, or give it another version=."
        )
    if first.shape != second.shape:
        raise DefinitionError(
            f"{name} is made twice with different steps by the same line ({first.source}). Give each its own name."
        )


@dataclass(slots=True)
class _StepDraft:
    """A step whose annotations may have to wait for names that are defined further down."""

    step: Step
    where: str
    data_max: int
    resolved: bool

    def finished(self) -> Step:
        if not self.resolved:
            read = signature.read(self.step.function, self.where, data_max=self.data_max)
            self.step, self.resolved = replace(self.step, signature=read), True
        return self.step

    def __str__(self) -> str:
        return f'step "{self.step.name}" ({self.step.source})'


def _step_draft(
    root: _Root,
    data_max: int,
    function: Any,
    name: str | None,
    retry: Retry | None,
    timeout: timedelta | None,
    process: bool,
) -> _StepDraft:
    frame = _calling_frame()
    source = signature.source_of(function, _source_of(frame))
    name = signature.name_of(function) if name is None else name
    workflow = f'workflow "{root.head.name}"'
    where = f'{workflow}: step "{name}" ({source})'
    if type(process) is not bool:
        raise DefinitionError(f"{where}: process is {process!r}. Give True or False.")
    runs_in: RunsIn = "process" if process else "loop" if signature.is_async(function) else "thread"
    check_function(function, runs_in, where)
    check_name(name, f"{workflow}: step name {name!r} ({source})")
    step = Step(name, function, Signature(0), runs_in, source, retry=retry, timeout=timeout)
    check_node_values(step, where)
    try:
        read = signature.read(function, where, data_max=data_max, names=_local_names(function, frame))
    except signature.UnresolvedAnnotation:
        return _StepDraft(step, where, data_max, resolved=False)
    check_call(function, runs_in, read, where, data_max)
    return _StepDraft(replace(step, signature=read), where, data_max, resolved=True)


def _local_names(function: Function, frame: FrameType) -> Mapping[str, Any] | None:
    """The local names beside a nested function, which its string annotations may mean."""
    nested = "<locals>" in getattr(signature.author_of(function), "__qualname__", "")
    return frame.f_locals if nested else None


def _calling_frame() -> FrameType:
    """The frame of whoever called this library."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame = frame.f_back
    if frame is None:
        raise DefinitionError("Python gives no call stack here, so the place of a definition cannot be known.")
    return frame


def _source_of(frame: FrameType) -> Source:
    return Source(frame.f_code.co_filename, frame.f_lineno)
