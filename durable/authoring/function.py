"""Code-first workflows: one async function, whose body does durably what it awaits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Concatenate, cast, overload

from typing_extensions import Unpack

from durable.authoring.drafts import StepDraft
from durable.authoring.options import WorkflowOptions
from durable.authoring.workflow import In, Out, Workflow
from durable.errors import DefinitionError
from durable.model.definition import Block, Function, Step
from durable.model.retention import Retention
from durable.model.retry import Retry
from durable.model.scheduled import ScheduleOption
from durable.model.signature import is_async, name_of


class FunctionWorkflow(Workflow[In, Out]):
    """A workflow that is one function, made by ``@durable.workflow``. It is called like that function: in a test, say."""

    def __init__(self, function: Callable[..., Awaitable[Out]], name: str, **options: Unpack[WorkflowOptions]) -> None:
        super().__init__(name, **options)
        if not is_async(function):
            raise DefinitionError(
                f'workflow "{name}" ({self._root.head.source}): {function!r} cannot wait. Make it an `async def`.'
            )
        self.step(function)
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Out]:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def finished_block(self) -> Block:
        """The block of its one step, whose result is whatever it returns."""
        (draft, *more) = self._drafts
        if more:
            raise DefinitionError(f"{self._root.label} is a function: it has no other nodes. Use a Workflow.")
        return Block((replace(cast("StepDraft", draft).finished(), whole=True),))

    def _types(self) -> tuple[Any, Any]:
        (node,) = self.finished_block()
        signature = cast("Step", node).signature
        return signature.input_type, signature.output_type


@overload
def workflow(
    name: Callable[Concatenate[In, ...], Awaitable[Out]],
    /,
) -> FunctionWorkflow[In, Out]: ...
@overload
def workflow(
    name: str | None = None, /, **options: Unpack[WorkflowOptions]
) -> Callable[[Callable[Concatenate[In, ...], Awaitable[Out]]], FunctionWorkflow[In, Out]]: ...
def workflow(
    name: Any = None,
    /,
    *,
    version: int = 1,
    queue: str = "default",
    timeout: timedelta | None = None,
    retry: Retry | None = None,
    priority: int = 0,
    retention: Retention | timedelta | None = None,
    on_failure: Function | None = None,
    schedule: ScheduleOption | None = None,
) -> Any:
    """Make a workflow of an ``async def``: ``@durable.workflow`` or ``@durable.workflow("name", ...)``.

    Its parameter is the execution's input, and its result whatever it returns, None included. Its body may do all that the body
    of a step may: it is one. What it awaits by ``durable.run`` and the waits is recorded, and not done again. *name* is the
    function's unless given; the other options are those of `Workflow`. Raises `DefinitionError`.
    """

    def make(function: Any, named: str | None) -> FunctionWorkflow[Any, Any]:
        return FunctionWorkflow(
            function,
            named or name_of(function),
            version=version,
            queue=queue,
            timeout=timeout,
            retry=retry,
            priority=priority,
            retention=retention,
            on_failure=on_failure,
            schedule=schedule,
        )

    def decorate(function: Callable[..., Awaitable[Any]]) -> FunctionWorkflow[Any, Any]:
        return make(function, name)

    return make(name, None) if callable(name) else decorate
