"""JSON Schema, as far as forms need it: what msgspec, Pydantic and our own fields write. Finds what is wrong with a value.

Whoever answers has the schema that was stored with the question, but often not the class that it was made of. Keywords that are
not known here are not checked: the body reads the answer as its class all the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, TypeAlias, cast
from uuid import UUID

import msgspec

from durable.errors import UsageError

Schema: TypeAlias = Mapping[str, Any]
Problem: TypeAlias = tuple[str, str]
"""Where, as ``items[2].name`` ("" is the whole), and what is wrong there."""

DEPTH_MAX = 100


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a dataclass, Struct, TypedDict or Pydantic model. Raises `UsageError`."""
    of_model = getattr(kind, "model_json_schema", None)
    try:
        return of_model() if of_model is not None else msgspec.json.schema(kind)
    except Exception as error:
        raise UsageError(
            f"{kind!r} has no JSON schema: {error}. Give a dataclass, a msgspec.Struct or a Pydantic model."
        ) from error


def problems(value: Any, schema: Schema) -> list[Problem]:
    """What is wrong with *value*, JSON data, by *schema*; empty when nothing is."""
    return list(_Check(schema).problems(value, schema, "", 0))


class _Check:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def problems(self, value: Any, schema: Any, place: str, depth: int) -> Iterator[Problem]:
        if schema is True or depth > DEPTH_MAX:
            return
        if schema is False:
            yield place, "is not wanted"
            return
        if (reference := schema.get("$ref")) is not None:
            yield from self.problems(value, self._resolve(reference), place, depth + 1)
        for part in schema.get("allOf", ()):
            yield from self.problems(value, part, place, depth + 1)
        if (choices := schema.get("anyOf") or schema.get("oneOf")) is not None:
            yield from self._any_of(value, choices, place, depth)
        if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
            yield place, f"must be one of {', '.join(map(_shown, schema['enum']))}, not {_shown(value)}"
            return
        if "const" in schema and not _same(value, schema["const"]):
            yield place, f"must be {_shown(schema['const'])}, not {_shown(value)}"
            return
        if (types := schema.get("type")) is not None and not _is_of(value, types):
            yield place, f"must be {_spoken(types)}, not {_shown(value)}"
            return
        match value:
            case str():
                yield from _text(value, schema, place)
            case bool() | None:
                pass
            case int() | float():
                yield from _number(value, schema, place)
            case list():
                yield from self._array(cast("list[Any]", value), schema, place, depth)
            case dict():
                yield from self._object(cast("dict[str, Any]", value), schema, place, depth)
            case _:
                pass

    def _resolve(self, reference: str) -> Any:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key, True) if isinstance(found, Mapping) else True  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return found  # pyright: ignore[reportUnknownVariableType]

    def _any_of(self, value: Any, choices: Sequence[Any], place: str, depth: int) -> Iterator[Problem]:
        found = [list(self.problems(value, choice, place, depth + 1)) for choice in choices]
        if all(found):
            # Of an optional thing, tell what is wrong with the thing.
            rest = [said for said, choice in zip(found, choices, strict=True) if not _is_null(choice)]
            if len(rest) == 1:
                yield from rest[0]
            else:
                yield place, f"fits none of its {len(choices)} forms, it is {_shown(value)}"

    def _array(self, value: list[Any], schema: Schema, place: str, depth: int) -> Iterator[Problem]:
        if len(value) < schema.get("minItems", 0):
            yield place, f"must have {schema['minItems']} items or more, not {len(value)}"
        if (most := schema.get("maxItems")) is not None and len(value) > most:
            yield place, f"must have {most} items or fewer, not {len(value)}"
        if schema.get("uniqueItems") and len({msgspec.json.encode(item, order="sorted") for item in value}) < len(
            value
        ):
            yield place, "must not have the same item twice"
        first = schema.get("prefixItems", ())
        for number, item in enumerate(value):
            of_item = first[number] if number < len(first) else schema.get("items", True)
            yield from self.problems(item, of_item, f"{place}[{number}]", depth + 1)

    def _object(self, value: dict[str, Any], schema: Schema, place: str, depth: int) -> Iterator[Problem]:
        known = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield _at(place, name), "is missing"
        more = schema.get("additionalProperties", True)
        for name, item in value.items():
            of_item = known.get(name, more)
            if of_item is False:
                names = f" It has: {', '.join(known)}." if known else ""
                yield _at(place, name), f"is not known.{names}"
            else:
                yield from self.problems(item, of_item, _at(place, name), depth + 1)


def _text(value: str, schema: Schema, place: str) -> Iterator[Problem]:
    if len(value) < schema.get("minLength", 0):
        yield place, "must not be empty" if not value else f"must have {schema['minLength']} characters or more"
    if (most := schema.get("maxLength")) is not None and len(value) > most:
        yield place, f"must have {most} characters or fewer, not {len(value)}"
    if (pattern := schema.get("pattern")) is not None and _fits(pattern, value) is False:
        yield place, f"must fit the pattern {pattern}, not {_shown(value)}"
    read, spoken = _FORMATS.get(schema.get("format", ""), (None, ""))
    if read is not None:
        try:
            read(value)
        except ValueError:
            yield place, f"must be {spoken}, not {_shown(value)}"


def _number(value: float, schema: Schema, place: str) -> Iterator[Problem]:
    for keyword, holds, spoken in _BOUNDS:
        bound = schema.get(keyword)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and not holds(value, bound):
            yield place, f"must be {spoken} {bound}, not {value}"


def _is_null(choice: Any) -> bool:
    return choice is not True and choice.get("type") == "null"


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return not of or value % of == 0
    return not of or math.isclose(value / of, round(value / of), abs_tol=1e-9)  # 19.99 is a multiple of 0.01


_BOUNDS: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("minimum", lambda value, bound: value >= bound, "at least"),
    ("maximum", lambda value, bound: value <= bound, "at most"),
    ("exclusiveMinimum", lambda value, bound: value > bound, "more than"),
    ("exclusiveMaximum", lambda value, bound: value < bound, "less than"),
    ("multipleOf", _is_multiple, "a multiple of"),
)
_FORMATS: dict[str, tuple[Callable[[str], Any], str]] = {
    "date": (date.fromisoformat, "a date, as 2030-12-31"),
    "date-time": (datetime.fromisoformat, "a date and time, as 2030-12-31T09:00:00+00:00"),
    "time": (time.fromisoformat, "a time, as 09:00:00"),
    "uuid": (UUID, "a UUID"),
}
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list"),
    "object": (dict, "an object"),
    "null": (type(None), "null"),
}


def _is_of(value: Any, types: str | Sequence[str]) -> bool:
    for name in [types] if isinstance(types, str) else types:
        kind, _ = _TYPES.get(name, (object, ""))
        if isinstance(value, kind) and (not isinstance(value, bool) or kind in (bool, object)):
            return True
    return False


def _spoken(types: str | Sequence[str]) -> str:
    return " or ".join(_TYPES.get(name, (object, name))[1] for name in ([types] if isinstance(types, str) else types))


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _fits(pattern: str, value: str) -> bool | None:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # one of another dialect
        return None


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
