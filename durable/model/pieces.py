"""Refuses a name, an option or a function that cannot be used, whatever stands around it.

This can be said early, when a `Workflow` is made and when a function is decorated; `check` says it again of the whole. Nothing
is called and nothing is changed.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
import unicodedata
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

from durable.errors import DefinitionError
from durable.model.definition import Definition, Function, Node, RunsIn, Signature
from durable.model.retry import DELAY_MAX, Retry
from durable.model.signature import author_of, is_async, is_block, is_module_level, target_of

NAME_CHARACTERS_MAX = 200
INTEGER_MAX = 2**31 - 1  # versions and priorities are kept in PostgreSQL integers

_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line separators


# --- Names ----------------------------------------------------------------------------------------------------------


def check_name(
    name: object, where: str, cure: str = "Pass name=, or write a def: a lambda has no name of its own."
) -> None:
    """Raise `DefinitionError` unless *name* may be a segment of a path; *where* begins the message, *cure* ends it when there
    is no name at all."""
    if not isinstance(name, str):
        raise DefinitionError(f"{where} is of type {type(name).__name__}. Give a string.")
    if not name.strip():
        raise DefinitionError(f"{where} is empty. {cure}")
    if len(name) > NAME_CHARACTERS_MAX:
        raise DefinitionError(f"{where} has {len(name)} characters. Use at most {NAME_CHARACTERS_MAX}.")
    for character in name:
        if character in "/#[]" or unicodedata.category(character) in _UNPRINTABLE:
            raise DefinitionError(
                f"{where} contains {character!r}. Names become parts of paths: leave out / # [ ] and control "
                "characters."
            )


# --- Options --------------------------------------------------------------------------------------------------------


def _is_duration(value: Any) -> bool:
    return value is None or (isinstance(value, timedelta) and timedelta(0) < value <= DELAY_MAX)


def _is_integer(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= INTEGER_MAX


def _is_one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "version": (lambda v: _is_integer(v, 1), f"a whole number from 1 to {INTEGER_MAX}"),
    "priority": (lambda v: _is_integer(v, -INTEGER_MAX), f"a whole number from -{INTEGER_MAX} to {INTEGER_MAX}"),
    "timeout": (_is_duration, "a timedelta greater than zero, at most ten years, e.g. minutes(5), or None"),
    "retry": (lambda v: v is None or isinstance(v, Retry), "Retry(...) or None"),
    "max_visits": (lambda v: _is_integer(v, 1), f"a whole number from 1 to {INTEGER_MAX}"),
    "compensate_on": (_is_one_of("completed", "started"), "'completed' or 'started'"),
    "concurrency": (lambda v: _is_integer(v, 1), f"a whole number from 1 to {INTEGER_MAX}"),
    "max_iterations": (lambda v: v is None or _is_integer(v, 1), f"a whole number from 1 to {INTEGER_MAX}, or None"),
    "merge": (_is_one_of("deep", "last_wins", "collect"), "'deep', 'last_wins' or 'collect'"),
    "collect_as": (lambda v: v is None or (isinstance(v, str) and v != ""), "a key that is not empty, or None"),
    "tolerate": (
        lambda v: v is None or _is_integer(v, 0) or (type(v) is float and 0 <= v < 1),
        "a number of items, or a share of them as a float from 0 to below 1, or None",
    ),
}


def check_node_values(holder: Definition | Node, where: str) -> None:
    """Raise `DefinitionError` for an option that has no meaning."""
    for field in fields(holder):
        if field.name in _VALUES:
            good, wanted = _VALUES[field.name]
            value = getattr(holder, field.name)
            if not good(value):
                raise DefinitionError(f"{where}: {field.name} is {value!r}. Give {wanted}.")


def check_options(definition: Definition) -> None:
    """Raise `DefinitionError` for a name or an option of the workflow itself that cannot be kept."""
    where = f"({definition.source})"
    check_name(definition.name, f"workflow name {definition.name!r} {where}", "Give it a name.")
    check_name(definition.queue, f'workflow "{definition.name}": queue {definition.queue!r} {where}', "Give it a name.")
    check_node_values(definition, f'workflow "{definition.name}" {where}')


# --- Functions ------------------------------------------------------------------------------------------------------

_DECIDABLE: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (is_block, "is a workflow, or a part of one, and no function. Give a def or an async def."),
    (lambda f: not callable(f), "is not callable. Give a def or an async def."),
    (inspect.isclass, "is a class. Wrap its construction in a def."),
    (
        lambda f: inspect.isgeneratorfunction(target_of(f)) or inspect.isasyncgenfunction(target_of(f)),
        "is a generator, but it is to give one result. Return a list instead of yielding.",
    ),
    (
        lambda f: not is_async(f) and is_async(author_of(f)),
        "is a plain function around an async def: its result would be a coroutine. Make the decorator's wrapper an "
        "async def that awaits, or decorate in the other order.",
    ),
)
_RUNNABLE: tuple[tuple[Callable[[Any, RunsIn], bool], str], ...] = (
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


def check_function(function: Any, runs_in: RunsIn, where: str) -> None:
    """Raise `DefinitionError` unless *function* can be run there and gives one result."""
    _check_decidable(function, where)
    for wrong, message in _RUNNABLE:
        if wrong(function, runs_in):
            raise DefinitionError(f"{where} {message}")


def _check_decidable(function: Any, where: str) -> None:
    for wrong, message in _DECIDABLE:
        if wrong(function):
            raise DefinitionError(f"{where} {message}")


def check_call(function: Function, runs_in: RunsIn, signature: Signature, where: str, data_max: int = 1) -> None:
    """Raise `DefinitionError` unless *function* can be called with up to *data_max* data arguments."""
    check_function(function, runs_in, where)
    if signature.positional > data_max:
        takes = "one data parameter" if data_max == 1 else "up to three data parameters (data, item, index)"
        also = " (and, if it likes, one annotated durable.Context)" if data_max == 1 else " and a durable.Context"
        raise DefinitionError(
            f"{where} has {signature.positional} data parameters; a step {'' if data_max == 1 else 'of a foreach '}takes "
            f"{takes}{also}. Put the values into one, or give the others defaults."
        )
    origin = typing.get_origin(signature.output_type) or signature.output_type
    if not is_async(function) and origin in (collections.abc.Coroutine, collections.abc.Awaitable):
        raise DefinitionError(f"{where} is a def that returns a coroutine. Make it an async def that awaits it.")


def check_rule(function: Any, where: str, signature: Signature | None = None, data_max: int = 1) -> None:
    """Raise `DefinitionError` unless *function* can decide about the flow: a plain or async function of up to *data_max*
    arguments, called on the event loop. Without *signature*, what can be said before it is read."""
    _check_decidable(function, where)
    if signature is None:
        return
    if signature.context is not None:
        raise DefinitionError(f"{where} takes a Context, but it only decides, and has none. Leave it out.")
    if signature.positional > data_max:
        raise DefinitionError(
            f"{where} has {signature.positional} parameters without a default; it is given {data_max}. Take fewer."
        )
