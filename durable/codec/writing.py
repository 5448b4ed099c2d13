"""From a value to JSON text, and the proof that nothing was lost on the way.

`write` and `depth_within` are the quick half. `encode_slowly` is for the values that do not compare equal with what
they are read back as: it walks both side by side, tells a legal JSON form from a loss, and names the loss's place.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias, cast
from uuid import UUID

import msgspec

from durable.codec.places import DEPTH_MAX, Link, name_of, render, text_of
from durable.codec.reading import explain_misfit, is_model, plan_for, read_plain
from durable.errors import EncodeError

Pending: TypeAlias = "tuple[Any, Any, Link | None]"  # a value, what it was read back as, and where it stands


def _as_json(value: Any) -> Any:
    """Called by msgspec for the types that it does not know."""
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings="none")
    match value:
        case bool():  # only as a key, where it would pass for a number
            pass
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case datetime():  # a subclass, as clock-freezing test libraries and calendar libraries make them
            return datetime.combine(date(value.year, value.month, value.day), value.timetz())
        case date():
            return date(value.year, value.month, value.day)
        case _:
            pass
    raise TypeError(f"{name_of(type(value))} has no JSON form")


write = msgspec.json.Encoder(enc_hook=_as_json).encode
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_ATOMS = frozenset({str, int, bool, float, types.NoneType})
_TEXT_LIKE: tuple[Any, ...] = (datetime, date, time, timedelta, Decimal, UUID, bytes, bytearray, memoryview)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def depth_within(raw: bytes, limit: int) -> bool:
    """Whether the JSON text *raw* nests at most *limit* levels, the outermost object or array being the first."""
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return True
    # Strings are cut out first (they may hold brackets); then each round takes away the innermost level.
    outside = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside.translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(limit):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def encode_slowly(value: Any, annotation: Any) -> str:
    """JSON text for *value*. Raises `EncodeError` with the place and the cause, wherever `write` or a reader failed."""
    try:
        raw = write(value)
    except RecursionError as error:
        raise EncodeError(_explain_depth(value)) from error
    except Exception as error:
        raise EncodeError(_explain_unwritable(value, error)) from error
    if not depth_within(raw, DEPTH_MAX):
        raise EncodeError(_explain_depth(value))
    try:
        arrived = plan_for(annotation).read(raw)
    except Exception as error:
        refuse_losses(value, _plain(value))  # a NaN explains more than "expected float, got null"
        raise EncodeError(
            f"{explain_misfit(error)} (the value does not fit its annotation {name_of(annotation)}: "
            "return what it says, or correct it)"
        ) from error
    refuse_losses(value, arrived)
    return raw.decode()


def refuse_losses(value: Any, arrived: Any) -> None:
    """Raise `EncodeError` if *arrived*, read back from the JSON of *value*, lacks anything that *value* says."""
    pending: list[Pending] = [(value, arrived, None)]
    while pending:
        value, arrived, place = pending.pop()
        kind = cast("Any", type(value))
        compare = _COMPARERS.get(kind)
        if compare is None:
            compare = next((_COMPARERS[base] for base in kind.__mro__ if base in _COMPARERS), _compare_objects)
        compare(value, arrived, place, pending)


def _skip(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    pass


def _compare_enums(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    if value is not arrived:
        pending.append((value.value, _plain(value.value), place))


def _compare_scalars(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        if type(arrived) is float and str(arrived) == str(float(value)):
            return  # a serializer of a Pydantic model wrote it as text
        raise EncodeError(f"{render(place)} is {_spell(value)}, which JSON cannot hold. Round it or use None.")
    if type(arrived) in _ATOMS and arrived != value:
        raise EncodeError(
            f"{render(place)} is {value!r:.80} and would arrive as {arrived!r:.80}. Annotate its place with "
            f"{name_of(type(value))}, or return it as text."
        )


def _compare_text_likes(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    kind = next(kind for kind in _TEXT_LIKE if isinstance(value, kind))
    if not isinstance(arrived, kind):  # an untyped place gets its text, which must then mean the same
        arrived = plan_for(kind).read(write(value))
    if kind in (datetime, time):  # == is False for a moment that a zone's clock change makes ambiguous
        same = value.isoformat() == arrived.isoformat()
    else:
        same = str(value) == str(arrived) if kind is Decimal else value == arrived
    if not same:
        raise EncodeError(f"{render(place)} is {value!r} and would arrive as {arrived!r}. Return it as text.")


def _compare_items(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    others = arrived
    if not isinstance(arrived, (list, tuple)) or len(cast("list[Any]", arrived)) != len(value):
        others = _plain(value)
    for at, (item, other) in enumerate(zip(value, others, strict=True)):
        if type(item) is not type(other) or type(item) not in _ATOMS or item != other:
            pending.append((item, other, (place, at)))


def _compare_dicts(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    found = cast("dict[Any, Any]", arrived if isinstance(arrived, dict) else _plain(value))
    for key, item in value.items():
        if key in found:
            other = found[key]
            if type(item) is not type(other) or type(item) not in _ATOMS or item != other:
                pending.append((item, other, (place, key)))
        elif isinstance(key, str):  # a TypedDict leaves it out, or it has become a key of another type
            pending.append((item, _plain(item), (place, key)))
        else:
            raise EncodeError(
                f"{render(place)} has the key {key!r:.80} ({name_of(type(key))}), which JSON would turn into text. "
                f"Use str keys, or annotate the place, e.g. with dict[{name_of(type(key))}, ...]."
            )
    if len(found) < len(value):
        if len(_plain(value)) < len(value):
            raise EncodeError(f"{render(place)} has two keys that are the same text in JSON. Use keys of one type.")
        lost = [key for key in value if key not in found]
        raise EncodeError(
            f"{render(place)} would arrive without {', '.join(map(repr, lost)):.80}, of which its annotation says nothing. "
            "Annotate the place with a TypedDict that does, or with dict."
        )


def _compare_objects(value: Any, arrived: Any, place: Link | None, pending: list[Pending]) -> None:
    kind = cast("Any", type(value))
    names = field_names(value)
    if names is None:
        if (arrived == value) is not True:
            raise EncodeError(f"{render(place)} is {name_of(kind)}, which does not come back from JSON as its equal.")
        return
    if (held := field_names(arrived)) is not None:
        # A subclass, say, where its base is annotated: whoever reads it would not get what that does not have.
        lost = set(names) - set(held)
        if lost:
            raise EncodeError(
                f"{render(place)} is {name_of(kind)} and would arrive as {name_of(type(arrived))}, without "
                f"{', '.join(sorted(lost))}. Annotate the place with {name_of(kind)}."
            )
    if type(arrived) is not kind:  # an untyped place: it must then be readable as its own class
        try:
            arrived = plan_for(kind).read(write(value))
        except Exception:
            arrived = None
    for name in names:
        part = getattr(value, name, None)
        other = getattr(arrived, name, None) if type(arrived) is kind else _plain(part)
        pending.append((part, other, (place, name)))


_Comparer: TypeAlias = Callable[[Any, Any, "Link | None", "list[Pending]"], None]
_COMPARERS: dict[type[Any], _Comparer] = {
    types.NoneType: _skip,
    msgspec.UnsetType: _skip,
    msgspec.Raw: _skip,  # it is JSON already, and could be read
    Enum: _compare_enums,
    **dict.fromkeys((str, bool, int, float), _compare_scalars),
    dict: _compare_dicts,
    **dict.fromkeys((list, tuple, set, frozenset), _compare_items),
    **dict.fromkeys(_TEXT_LIKE, _compare_text_likes),
}


def field_names(value: Any) -> tuple[str, ...] | None:
    """The names of the parts of an object that msgspec or Pydantic writes, or None for any other value."""
    kind = cast("Any", type(value))
    if isinstance(value, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if is_model(kind):
        return (*(name for name, field in kind.model_fields.items() if not field.exclude), *(value.model_extra or ()))
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else tuple(attribute.name for attribute in attributes)


def _plain(value: Any) -> Any:
    """What *value* arrives as in a place without a type."""
    return None if value is msgspec.UNSET else read_plain(write(value))


def _parts(value: Any) -> Iterator[tuple[object, Any]]:
    match value:
        case dict():
            yield from cast("dict[Any, Any]", value).items()
        case list() | tuple() | set() | frozenset():
            yield from enumerate(cast("list[Any]", value))
        case Enum():
            yield "value", value.value
        case _:
            fields = ((name, getattr(value, name, None)) for name in field_names(value) or ())
            yield from (field for field in fields if field[1] is not msgspec.UNSET)


def _explain_unwritable(value: Any, error: Exception) -> str:
    whole, depth = value, 0
    place: Link | None = None
    descending = True
    while descending:
        descending = False
        for segment, part in _parts(value):
            try:
                write(part)
            except Exception as inner:
                value, error, place, descending = part, inner, (place, segment), True
                depth += 1
                break
        if depth > DEPTH_MAX:  # a model that contains itself is refused by Pydantic, not for its depth
            return _explain_depth(whole)
    where, kind = render(place), name_of(type(value))
    if isinstance(value, str):
        return f"{where} holds a lone surrogate, which UTF-8 cannot: {value!r:.80}. Encode it with errors='replace'."
    if isinstance(value, int):
        return f"{where} is an integer of {value.bit_length()} bits, too long for a JSON number. Return it as text."
    if isinstance(value, dict):
        for key in cast("Any", value):
            try:
                write({key: None})
            except UnicodeEncodeError:
                return f"{where} has the key {key!r:.80}, which holds a lone surrogate that UTF-8 cannot."
            except Exception:
                return f"{where} has the key {key!r:.80} ({name_of(type(key))}), but JSON has str keys only."
    return (
        f"{where} is {kind}, which cannot be written as JSON ({type(error).__name__}: "
        f"{text_of(error)}). Return plain data, a dataclass, a msgspec.Struct or a Pydantic model."
    )


def _explain_depth(value: Any) -> str:
    pending: list[tuple[Any, Link | None, int]] = [(value, None, 1)]
    while pending:
        value, place, depth = pending.pop()
        if depth > DEPTH_MAX and not isinstance(value, (str, int, float, types.NoneType)):
            return f"{render(place)} nests deeper than {DEPTH_MAX} levels, or contains itself. Flatten the data."
        pending += [(part, (place, segment), depth + 1) for segment, part in _parts(value)]
    return f"$ nests deeper than {DEPTH_MAX} levels. Flatten the data."


def _spell(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
