"""Changed copies of a workflow's data: dict, dataclass, msgspec.Struct or Pydantic model in, the same type out.

Steps are easiest to trust when they never change what they were given, so nothing here does: each function returns
a new (shallow) copy. A field that the type does not have is refused; a dict takes any key.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from durable.errors import UsageError

T = TypeVar("T")

_ABSENT: Any = object()


def assign(data: T, changes: Mapping[str, Any] | None = None, /, **fields: Any) -> T:
    """A copy of *data* with the given fields replaced: ``assign(order, total=5)`` or ``assign(order, {"total": 5})``.

    With both, the keywords win. Values are not validated here; the codec does that at the end of the step.
    Raises `UsageError` for a field that *data*'s type does not have, or for data of another type.
    """
    if changes is not None and not isinstance(changes, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"assign() takes a mapping of changes, not {_name(changes)}. Write assign(data, key=value).")
    return _changed(data, {**changes, **fields} if changes else fields)


def update(data: T, key: str, default: Any, function: Callable[[Any], Any]) -> T:
    """A copy of *data* with *key* replaced by ``function(its value)``, or by *default* where a dict has no such key.

    Raises `UsageError` like `assign`, and whatever *function* raises.
    """
    current = _current(data, key)
    return _changed(data, {key: default if current is _ABSENT else function(current)})


def append(data: T, key: str, value: Any) -> T:
    """A copy of *data* whose list (or tuple) at *key* has *value* as its new last item.

    A missing key or None counts as an empty list. Raises `UsageError` like `assign`, and when *key* holds something
    else.
    """
    current = _current(data, key)
    if current is _ABSENT or current is None:
        return _changed(data, {key: [value]})
    if type(current) is tuple:
        return _changed(data, {key: (*cast("tuple[Any, ...]", current), value)})
    if not isinstance(current, list):
        raise UsageError(f"append() to {key!r}: it holds {_name(current)}, not a list. Use update() for that.")
    return _changed(data, {key: [*cast("list[Any]", current), value]})


def increment(data: T, key: str, by: Any = 1) -> T:
    """A copy of *data* with *by* added to the number at *key* (int, float, Decimal: whatever can be added to *by*).

    A missing key or None counts as zero. Raises `UsageError` like `assign`, and when the two cannot be added.
    """
    current = _current(data, key)
    if current is _ABSENT or current is None:
        return _changed(data, {key: by})
    if isinstance(current, (bool, str, list, tuple)):  # all of these can be "added", and none of them is a count
        raise UsageError(f"increment() of {key!r}: it holds {_name(cast('Any', current))}, not a number.")
    try:
        total = current + by
    except TypeError as error:
        raise UsageError(f"increment() of {key!r}: cannot add {_name(by)} to {_name(current)}.") from error
    return _changed(data, {key: total})


def _changed(data: T, changes: Mapping[str, Any]) -> T:
    subject: Any = data
    if isinstance(subject, dict):
        result: Any = copy.copy(cast("dict[Any, Any]", subject))
        result.update(changes)
        return result
    names, extras_allowed = _fields(subject)
    unknown = [] if extras_allowed else [name for name in changes if name not in names]
    if unknown:
        raise UsageError(
            f"{_name(subject)} has no field {', '.join(map(repr, unknown))}. "
            f"Its fields are: {', '.join(names) or 'none'}."
        )
    if isinstance(subject, msgspec.Struct):
        return cast("T", msgspec.structs.replace(subject, **changes))
    if dataclasses.is_dataclass(subject):
        try:
            return dataclasses.replace(cast("Any", subject), **changes)
        except ValueError as error:  # init=False and InitVar: only the class itself may set them
            raise UsageError(f"{_name(subject)} cannot be copied with {', '.join(changes)} changed: {error}") from error
    return subject.model_copy(update=changes)


def _current(data: Any, key: str) -> Any:
    if isinstance(data, dict):
        return cast("dict[str, Any]", data).get(key, _ABSENT)
    names, extras_allowed = _fields(data)
    if key not in names and not extras_allowed:
        raise UsageError(f"{_name(data)} has no field {key!r}. Its fields are: {', '.join(names) or 'none'}.")
    return getattr(data, key, _ABSENT)


def _fields(data: Any) -> tuple[tuple[str, ...], bool]:
    """The names of the fields of *data*, and whether it takes others besides."""
    kind = cast("type[Any]", type(data))
    if isinstance(data, msgspec.Struct):
        return kind.__struct_fields__, False
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind)), False
    pydantic = sys.modules.get("pydantic.main")  # never imported here: a model's class has already done that
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return tuple(kind.model_fields), kind.model_config.get("extra") == "allow"
    raise UsageError(
        f"{_name(data)} is not data that can be copied with changes. "
        "Use a dict, a dataclass, a msgspec.Struct or a Pydantic model."
    )


def _name(value: Any) -> str:
    return type(value).__qualname__
