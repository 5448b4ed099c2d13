"""What stands in for bodies: a copy of a definition, some of whose steps call something else.

Only the function is exchanged: the data is decoded as the step takes it, the result is encoded as the step is annotated, and
names, retries and timeouts are the step's own. So the copy has the same shape, and the same paths.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar
from unittest.mock import NonCallableMock

from durable.errors import DefinitionError, UsageError
from durable.model import signature
from durable.model.definition import (
    FOREACH_DATA_MAX,
    OTHERWISE,
    Block,
    Branch,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Signature,
    Step,
    parts_of,
)

Mocks: TypeAlias = Mapping[str, Any]
"""By the name or path of a step: a function that is called in its place, an exception that is raised, or a value that is
returned."""

S = TypeVar("S", Step, Decision)


def mocked(definition: Definition, mocks: Mocks | None) -> Definition:
    """*definition* with *mocks* in the place of bodies. A key that is a path means the step there, any other one all steps of
    this name. Raises `UsageError` for a key that is neither, and `DefinitionError` for a function that nothing could call."""
    if not mocks:
        return definition
    found = _Mocking(definition.name, mocks, frozenset(_paths(definition)))
    found.refuse_unknown()
    last = definition.on_failure
    return replace(
        definition,
        body=found.block(definition.body, "", 1),
        on_failure=None if last is None else found.step(last, last.name, 1),
    )


class _Mocking:
    def __init__(self, workflow: str, mocks: Mocks, paths: frozenset[str]) -> None:
        self._workflow = workflow
        self._mocks = mocks
        self._paths = paths

    def refuse_unknown(self) -> None:
        names = {path.rpartition("/")[2] for path in self._paths}
        unknown = [key for key in self._mocks if key not in self._paths | names]
        if unknown:
            raise UsageError(
                f'mocks: workflow "{self._workflow}" has no step {", ".join(map(repr, unknown))}. '
                f"Its steps are {', '.join(map(repr, sorted(self._paths)))}; give a path, or its last name."
            )

    def block(self, block: Block, outer: str, data_max: int) -> Block:
        return replace(block, nodes=tuple(self._node(node, f"{outer}{node.name}", data_max) for node in block))

    def _node(self, node: Node, path: str, data_max: int) -> Node:
        match node:
            case Step():
                undo = node.compensation
                if undo is not None:
                    undo = self.step(undo, f"{path}/{undo.name}", 1)
                return replace(self.step(node, path, data_max), compensation=undo)
            case Decision():
                return self.step(node, path, data_max)
            case Branch(otherwise=otherwise):
                cases = tuple(
                    replace(case, block=self.block(case.block, f"{path}/{case.label}/", data_max))
                    for case in node.cases
                )
                if otherwise is not None:
                    otherwise = self.block(otherwise, f"{path}/{OTHERWISE}/", data_max)
                return replace(node, cases=cases, otherwise=otherwise)
            case Parallel():
                arms = tuple(
                    replace(
                        arm, block=self.block(arm.block, f"{path}/" if arm.single else f"{path}/{arm.name}/", data_max)
                    )
                    for arm in node.arms
                )
                return replace(node, arms=arms)
            case Foreach():
                return replace(node, block=self.block(node.block, f"{path}/", FOREACH_DATA_MAX))
            case Loop():
                return replace(node, block=self.block(node.block, f"{path}/", data_max))

    def step(self, step: S, path: str, data_max: int) -> S:
        name = path.rpartition("/")[2]
        if path in self._mocks:
            return _with(step, self._mocks[path], path, data_max)
        if name in self._mocks and name not in self._paths:
            return _with(step, self._mocks[name], path, data_max)
        return step


def _with(step: S, mock: Any, path: str, data_max: int) -> S:
    """*step* with *mock* for a body."""
    own = step.signature
    if not callable(mock) or _is_exception(mock):
        function, wants = _saying(mock), replace(own, positional=0, context=None)
    else:
        function, wants = mock, _signature(mock, own, f"the mock of step {path!r}", data_max)
    is_async = signature.is_async(function)
    taken = Signature(
        positional=max(own.positional, wants.positional),
        input_type=own.input_type if own.positional else wants.input_type,
        output_type=own.output_type,
        context="context",
        context_index=0,
        item_type=own.item_type if own.positional > 1 else wants.item_type,
    )
    body = _calling(function, wants, is_async=is_async)
    return replace(step, function=body, signature=taken, runs_in="loop" if is_async else "thread")


def _calling(function: Callable[..., Any], wants: Signature, *, is_async: bool) -> Callable[..., Any]:
    """A body that calls *function* with as much as it *wants* of the context and the data."""

    def call(context: object, *values: Any) -> Any:
        arguments, keywords = wants.arguments(values, context)
        return function(*arguments, **keywords)

    async def call_async(context: object, *values: Any) -> Any:
        return await call(context, *values)

    return call_async if is_async else call


def _signature(mock: Callable[..., Any], own: Signature, where: str, data_max: int) -> Signature:
    """How to call *mock*. One that takes anything (``*args``, as those of `unittest.mock` do) is called like the body."""
    try:
        parameters = inspect.signature(mock).parameters.values()
    except (TypeError, ValueError) as error:
        if isinstance(mock, NonCallableMock):  # some versions of Python cannot read those of an AsyncMock
            return own
        raise DefinitionError(f"{where}: its parameters cannot be read ({error}). Wrap it in a def.") from error
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return own
    return signature.read(mock, where, data_max=data_max, may_go=True)


def _is_exception(mock: Any) -> bool:
    return isinstance(mock, BaseException) or (isinstance(mock, type) and issubclass(mock, BaseException))


def _saying(mock: Any) -> Callable[..., Any]:
    """A body that raises *mock*, if it is an exception, or returns it."""
    raised: BaseException | None = (mock() if isinstance(mock, type) else mock) if _is_exception(mock) else None

    async def say() -> Any:
        if raised is not None:
            raise raised.with_traceback(None)
        return mock

    return say


def _paths(definition: Definition) -> Iterator[str]:
    """Where the steps of *definition* stand, compensations and the step of `on_failure` included."""
    yield from _paths_in(definition.body, "")
    if definition.on_failure is not None:
        yield definition.on_failure.name


def _paths_in(block: Block, outer: str) -> Iterator[str]:
    for node in block:
        path = f"{outer}{node.name}"
        match node:
            case Step(compensation=undo):
                yield path
                if undo is not None:
                    yield f"{path}/{undo.name}"
            case Decision():
                yield path
            case _:
                for part, inner in parts_of(node):
                    yield from _paths_in(inner, f"{path}/" if part is None else f"{path}/{part}/")
