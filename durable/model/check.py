"""Refuses a definition that cannot work, and says where it was written and how to mend it.

`check` is one walk over the tree. `check_options` and `check_function` are what can be said earlier, when a
`Workflow` is made and when a function is decorated. Nothing is called and nothing is changed.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from durable.errors import DefinitionError
from durable.model.definition import (
    UNANNOTATED,
    Block,
    Branch,
    Compensation,
    Decision,
    Definition,
    Foreach,
    Function,
    Loop,
    Node,
    Parallel,
    RunsIn,
    Signature,
    Step,
)
from durable.model.fit import fits
from durable.model.retry import DELAY_MAX, Retry
from durable.model.signature import author_of, is_async, is_importable, is_module_level, target_of

NAME_CHARACTERS_MAX = 200
INTEGER_MAX = 2**31 - 1  # versions and priorities are kept in PostgreSQL integers
FOREACH_DATA_MAX = 3  # data, item, index

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line separators


def check(definition: Definition) -> None:
    """Raise `DefinitionError` unless *definition* can be run as it stands."""
    workflow = f'workflow "{definition.name}"'
    check_options(definition)
    here = _Place(workflow, "", f"{workflow} ({definition.source})")
    start = _Flow(definition.input_type, f"the input of {here.label}")
    end = _check_block(here, definition.body, start)
    if (misfit := fits(end.type, definition.output_type)) is not None:
        raise DefinitionError(
            f"{here.label} promises a result that {end.giver} does not give: {misfit}. "
            "Change Out in Workflow[In, Out], or the annotation of the step."
        )


def check_options(definition: Definition) -> None:
    """Raise `DefinitionError` for a name or an option of the workflow itself that cannot be kept."""
    where = f"({definition.source})"
    check_name(definition.name, f"workflow name {definition.name!r} {where}")
    check_name(definition.queue, f'workflow "{definition.name}": queue {definition.queue!r} {where}')
    check_node_values(definition, f'workflow "{definition.name}" {where}')


def check_name(name: object, where: str) -> None:
    """Raise `DefinitionError` unless *name* may be a segment of a path; *where* begins the message."""
    if not isinstance(name, str):
        raise DefinitionError(f"{where} is of type {type(name).__name__}. Give a string.")
    if not name.strip():
        raise DefinitionError(f"{where} is empty. Pass name= (a lambda has no name of its own).")
    if len(name) > NAME_CHARACTERS_MAX:
        raise DefinitionError(f"{where} has {len(name)} characters. Use at most {NAME_CHARACTERS_MAX}.")
    for character in name:
        if character in "/#[]" or unicodedata.category(character) in _UNPRINTABLE:
            raise DefinitionError(
                f"{where} contains {character!r}. Names become parts of paths: leave out / # [ ] and control "
                "characters."
            )


def check_function(function: Any, runs_in: RunsIn, where: str) -> None:
    """Raise `DefinitionError` unless *function* can be run there and gives one result."""
    for wrong, message in _FUNCTION_FAULTS:
        if wrong(function, runs_in):
            raise DefinitionError(f"{where} {message}")


_FUNCTION_FAULTS: tuple[tuple[Callable[[Any, RunsIn], bool], str], ...] = (
    (lambda f, _: not callable(f), "is not callable. Give a def or an async def."),
    (lambda f, _: inspect.isclass(f), "is a class. Wrap its construction in a def."),
    (
        lambda f, _: inspect.isgeneratorfunction(target_of(f)) or inspect.isasyncgenfunction(target_of(f)),
        "is a generator, but a step has one result. Return a list instead of yielding.",
    ),
    (
        lambda f, _: not is_async(f) and is_async(author_of(f)),
        "is a plain function around an async def: its result would be a coroutine. Make the decorator's wrapper an "
        "async def that awaits, or decorate in the other order.",
    ),
    (
        lambda f, runs_in: runs_in == "process" and is_async(f),
        "is an async def with process=True. A worker process runs plain functions: make it a def, or leave out "
        "process=True.",
    ),
    (
        lambda f, runs_in: runs_in == "process" and not is_module_level(f),
        "cannot be imported by a worker process. With process=True, give a def at the top of a module: no lambda, "
        "nested function, partial or bound method.",
    ),
    (lambda f, runs_in: runs_in == "loop" and not is_async(f), "runs on the event loop, but is no async def."),
    (lambda f, runs_in: runs_in == "thread" and is_async(f), "runs in a thread, but is an async def."),
)


def _is_duration(value: Any) -> bool:
    return value is None or (isinstance(value, timedelta) and timedelta(0) < value <= DELAY_MAX)


def _is_integer(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= INTEGER_MAX


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "version": (lambda v: _is_integer(v, 1), f"a whole number from 1 to {INTEGER_MAX}"),
    "priority": (lambda v: _is_integer(v, -INTEGER_MAX), f"a whole number from -{INTEGER_MAX} to {INTEGER_MAX}"),
    "timeout": (_is_duration, "a timedelta greater than zero, at most ten years, e.g. minutes(5), or None"),
    "retry": (lambda v: v is None or isinstance(v, Retry), "Retry(...) or None"),
}


def check_node_values(holder: Definition | Node | Compensation, where: str) -> None:
    for field in fields(holder):
        if field.name in _VALUES:
            good, wanted = _VALUES[field.name]
            value = getattr(holder, field.name)
            if not good(value):
                raise DefinitionError(f"{where}: {field.name} is {value!r}. Give {wanted}.")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk stands. `label` begins a sentence, `prefix` a path."""

    workflow: str
    prefix: str
    label: str
    data_max: int = 1


@dataclass(frozen=True, slots=True)
class _Flow:
    """The data between two nodes: its type, and who gives it."""

    type: Any
    giver: str


def _check_block(here: _Place, block: Block, flow: _Flow) -> _Flow:
    """Check the nodes of *block*, entered with *flow*. Returns what leaves it."""
    if not block.nodes:
        raise DefinitionError(f"{here.label} has no steps. Declare at least one, e.g. with its .step decorator.")
    _check_unique(here, block)
    for node in block:
        flow = _check_node(here, node, flow)
    return flow


def _check_unique(here: _Place, block: Block) -> None:
    first: dict[str, Node] = {}
    for node in block:
        if node.name in first:
            raise DefinitionError(
                f'{here.workflow}: {_kind(node)} "{here.prefix}{node.name}" is declared twice '
                f"({first[node.name].source} and {node.source}). Rename one, or pass name=."
            )
        first[node.name] = node


def _check_node(here: _Place, node: Node, flow: _Flow) -> _Flow:
    kind, path = _kind(node), f"{here.prefix}{node.name}"
    check_name(node.name, f"{here.workflow}: {kind} name {node.name!r} ({node.source})")
    label = f'{kind} "{path}" ({node.source})'
    where = f"{here.workflow}: {label}"
    check_node_values(node, where)
    if isinstance(node, Step | Decision):
        check_call(node.function, node.runs_in, node.signature, where, here.data_max)
        _check_importable(node, where)
        if isinstance(node, Step) and node.compensation is not None:
            _check_compensation(node.compensation, f"{where}: compensation")
        _check_fit(here, node, label, flow)
        return _passed_on(flow, node.signature, label) if isinstance(node, Step) else _Flow(UNANNOTATED, label)
    _check_parts(here, node, where)
    for part, block in _inner(node):
        inside = replace(here, prefix=f"{path}/" if part is None else f"{path}/{part}/", label=where)
        if part is not None:
            inside = replace(inside, label=f'{where}, part "{part}",')
        if isinstance(node, Foreach):
            inside = replace(inside, data_max=FOREACH_DATA_MAX)
        _check_block(inside, block, _Flow(UNANNOTATED, label) if isinstance(node, Foreach) else flow)
    return _Flow(UNANNOTATED, label)  # what a composite gives is decided by its functions, at run time


def _check_parts(here: _Place, node: Branch | Parallel | Foreach | Loop, where: str) -> None:
    parts = list(_inner(node))
    if not parts:
        raise DefinitionError(
            f"{where} has no {'cases' if isinstance(node, Branch) else 'arms'}. Declare at least one."
        )
    named = [part for part, _ in parts if part is not None]
    for part in named:
        check_name(part, f"{where}: name {part!r}")
    for part in named:
        if named.count(part) > 1:
            raise DefinitionError(f'{where} declares "{part}" twice. Rename one.')


def _inner(node: Branch | Parallel | Foreach | Loop) -> Iterator[tuple[str | None, Block]]:
    """The blocks of a composite node, with the path segment of each that has one."""
    match node:
        case Branch():
            yield from ((case.label, case.block) for case in node.cases)
            if node.otherwise is not None:
                yield "otherwise", node.otherwise
        case Parallel():
            yield from ((arm.name, arm.block) for arm in node.arms)
        case Foreach() | Loop():
            yield None, node.block


def check_call(function: Function, runs_in: RunsIn, signature: Signature, where: str, data_max: int = 1) -> None:
    """Raise `DefinitionError` unless *function* can be called with up to *data_max* data arguments."""
    check_function(function, runs_in, where)
    if signature.positional > data_max:
        takes = "one data parameter" if data_max == 1 else f"up to {data_max} data parameters"
        raise DefinitionError(
            f"{where} has {signature.positional} data parameters; a step takes {takes} (and, if it likes, one "
            "annotated durable.Context). Put the values into one, or give the others defaults."
        )
    origin = typing.get_origin(signature.output_type) or signature.output_type
    if not is_async(function) and origin in (collections.abc.Coroutine, collections.abc.Awaitable):
        raise DefinitionError(f"{where} is a def that returns a coroutine. Make it an async def that awaits it.")


def _check_importable(node: Step | Decision | Compensation, where: str) -> None:
    # Not a fault of the function alone: while it is being decorated, its module does not have it yet.
    if node.runs_in == "process" and not is_importable(node.function):
        raise DefinitionError(
            f"{where} runs in a worker process, but its name in its module leads to something else. "
            "Put the step decorator above all others, and do not use the name again."
        )


def _check_compensation(compensation: Compensation, where: str) -> None:
    check_name(compensation.name, f"{where} name {compensation.name!r}")
    where = f'{where} "{compensation.name}" ({compensation.source})'
    check_node_values(compensation, where)
    check_call(compensation.function, compensation.runs_in, compensation.signature, where)
    _check_importable(compensation, where)


def _check_fit(here: _Place, node: Step | Decision, label: str, flow: _Flow) -> None:
    if node.signature.positional == 0:
        return
    if (misfit := fits(flow.type, node.signature.input_type)) is not None:
        raise DefinitionError(
            f"{here.workflow}: {label} cannot take what comes from {flow.giver}: {misfit}. "
            "Change one of the two annotations."
        )


def _passed_on(flow: _Flow, signature: Signature, label: str) -> _Flow:
    """The data after a step: its result, or what it was given where the result is None."""
    result = signature.output_type
    if result is types.NoneType or result is None:
        return flow
    if typing.get_origin(result) in (typing.Union, types.UnionType):
        members = typing.get_args(result)
        if types.NoneType in members:
            others = tuple(member for member in members if member is not types.NoneType)
            return _Flow(typing.Union[(*others, flow.type)], label)
    return _Flow(result, label)


def _kind(node: Node) -> str:
    return type(node).__name__.lower()
