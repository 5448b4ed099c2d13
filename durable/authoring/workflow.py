"""`Workflow`: a definition in the making, and frozen when it is first asked for, which `Durable(...)` does."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, overload

from typing_extensions import TypeVar, Unpack

from durable.authoring.blocks import NOT_GIVEN, BlockBuilder
from durable.authoring.drafts import (
    Options,
    Root,
    StepDraft,
    calling_frame,
    check_compensations,
    declare_compensation,
    source_of,
    step_draft,
)
from durable.authoring.options import BodyOptions, F
from durable.errors import DefinitionError
from durable.model import signature
from durable.model.check import check
from durable.model.definition import UNANNOTATED, Block, Definition, Function, Source
from durable.model.fingerprint import fingerprint, shape_of
from durable.model.graph import Graph, graph_of
from durable.model.inference import infer
from durable.model.pieces import check_options
from durable.model.retention import Retention, fault_of
from durable.model.retry import Retry
from durable.model.scheduled import ScheduleOption, scheduled

In = TypeVar("In", default=Any)
Out = TypeVar("Out", default=Any)


def check_retention(given: Any, source: Source, name: str) -> Retention | None:
    """What was given, in one form. Raises `DefinitionError`."""
    if (fault := fault_of(given)) is not None:
        raise DefinitionError(f"{source}: workflow {name!r}: {fault}")
    return Retention.of(given)


class Workflow(BlockBuilder, Generic[In, Out]):
    """A named, versioned pipeline of steps. ``Workflow[In, Out](name)`` says what goes in and what comes out.

    *timeout* is a deadline for the whole execution, counted from when it is due to begin. It also strikes while the execution
    waits; one that waits for a free slot ends when it is its turn, without running anything. *retry* is for steps without one
    of their own; the default is a single attempt. Executions of higher *priority* begin first within their *queue*.
    *retention* is how long they are kept after their end: a duration, or a `Retention` by status; without one, as long as the
    engine says. *on_failure* is a function that is run when an execution has failed, after what had to be undone was undone;
    it gets the execution's input, and ``context().failure``. If it fails itself, that is recorded, and the execution ends as
    it would have ended. *schedule* starts it by itself: a rule, `Cron` or `Every`, or `Scheduled`, which also says on what
    data; workers that have this workflow keep to it. Raises `DefinitionError`, with file and line, for a value that cannot be
    kept.
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
        retention: Retention | timedelta | None = None,
        on_failure: Function | None = None,
        schedule: ScheduleOption | None = None,
    ) -> None:
        frame = calling_frame()
        head = Definition(
            name=name,
            version=version,
            body=Block(),
            source=source_of(frame),
            queue=queue,
            priority=priority,
            timeout=timeout,
            retry=Retry() if retry is None else retry,
            schedule=scheduled(schedule, f'workflow "{name}" ({source_of(frame)})'),
            retention=check_retention(retention, source_of(frame), name),
        )
        check_options(head)
        super().__init__(Root(head, frame.f_globals), f"the workflow ({head.source})")
        self._on_failure: StepDraft | None = None
        if on_failure is not None:
            self._on_failure = step_draft(self._root, 1, on_failure, Options(), kind="on_failure")

    @overload
    def compensation(self, function: F, /, **options: Unpack[BodyOptions]) -> F: ...
    @overload
    def compensation(self, /, **options: Unpack[BodyOptions]) -> Callable[[F], F]: ...
    def compensation(
        self,
        function: Any = NOT_GIVEN,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
        transactional: bool = False,
    ) -> Any:
        """Give a function that undoes a step options of its own, before a step names it as its ``compensate=``. Returns the
        function. See `step` for the options. Raises `DefinitionError`."""

        def declare(function: F) -> F:
            declare_compensation(self._root, function, Options(name, retry, timeout, process, transactional))
            return function

        return declare if function is NOT_GIVEN else declare(function)

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
            whole = replace(self._root.head, body=self.finished_block(), input_type=given, output_type=promised)
            if self._on_failure is not None:
                whole = replace(whole, on_failure=self._on_failure.finished())
            check_compensations(self._root)
            check(whole)
            whole = infer(whole)
            shape = fingerprint(shape_of(whole), whole.name, whole.version)
            self._root.definition = replace(whole, shape=shape)
        return self._root.definition

    def graph(self) -> Graph:
        """The nodes of the workflow and the ways between them; ``graph().mermaid()`` is its picture. Closes the workflow,
        like `definition`. Raises `DefinitionError`."""
        return graph_of(self.definition)

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
