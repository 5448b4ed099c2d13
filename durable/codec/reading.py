"""From JSON text to a value, by annotation: one reader for each, made once, and the words for what does not fit.

Never imports Pydantic for itself: only a program that has models pays for them.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable
from typing import Any, cast

import msgspec

from durable.codec.places import AT, DEPTH_MAX, Link, name_of, render, text_of

PLANS_MAX = 4_096  # annotations; more than that are being made at run time, and would leak


class Plan(msgspec.Struct, frozen=True, eq=False):
    """How to read JSON as one annotation."""

    read: Callable[[bytes | str], Any]
    comparable: bool  # `==` on what is read compares every part of it


class _UnsupportedAnnotation(Exception):
    pass


def plan_for(annotation: Any) -> Plan:
    """The plan for *annotation*. Raises an exception that `explain_misfit` knows, if JSON cannot be read as it."""
    try:
        plan = PLANS.get(annotation)
    except TypeError:  # unhashable, e.g. Annotated[int, []]
        return _make_plan(annotation)
    if plan is None:
        plan = _make_plan(annotation)
        if len(PLANS) >= PLANS_MAX:
            PLANS.clear()
        PLANS[annotation] = plan
    return plan


def _make_plan(annotation: Any) -> Plan:
    if is_model(annotation):
        return Plan(annotation.model_validate_json, _is_comparable(annotation))
    try:
        read = msgspec.json.Decoder(annotation, dec_hook=_build).decode
        return Plan(read, _is_comparable(annotation))
    except Exception as error:
        if _mentions_model(annotation):  # a union of models: more than msgspec can tell apart, but Pydantic can
            from pydantic import TypeAdapter

            return Plan(TypeAdapter[Any](annotation).validate_json, False)
        raise _UnsupportedAnnotation(
            f"$: JSON cannot be read as {name_of(annotation)}: {error}. Annotate with plain types, a dataclass, "
            "a msgspec.Struct, a Pydantic model, or Any; of several classes in a union, make each a msgspec.Struct with "
            "tag=True, or a Pydantic model."
        ) from error


def _is_comparable(annotation: Any) -> bool:
    try:
        return _compares_every_part(msgspec.inspect.type_info(annotation), {})
    except Exception:  # a field of a model may be of a type that only Pydantic understands
        return False


def _compares_every_part(node: Any, seen: dict[int, Any]) -> bool:
    if id(node) in seen:
        return True
    seen[id(node)] = node  # kept, lest another node be given the same id
    match node:
        case msgspec.inspect.StructType(cls=cls) if (
            cls.__eq__ is not msgspec.Struct.__eq__ or not cls.__struct_config__.eq
        ):
            return False
        case msgspec.inspect.DataclassType(cls=cls) if not _has_generated_eq(cls):
            return False
        case msgspec.inspect.CustomType(cls=cls):
            return cls is object or (is_model(cls) and _model_compares_every_part(cls, seen))
        case msgspec.inspect.Type() | msgspec.inspect.Field():
            return all(_compares_every_part(getattr(node, name), seen) for name in node.__struct_fields__)
        case tuple():
            return all(_compares_every_part(part, seen) for part in cast("tuple[Any, ...]", node))
        case _:
            return True


def _model_compares_every_part(kind: Any, seen: dict[int, Any]) -> bool:
    if id(kind) in seen:
        return True
    seen[id(kind)] = kind
    return kind.__eq__ is sys.modules["pydantic.main"].BaseModel.__eq__ and all(
        _compares_every_part(msgspec.inspect.type_info(field.annotation), seen) for field in kind.model_fields.values()
    )


def _has_generated_eq(kind: Any) -> bool:
    # Where Python should name the code of generated methods differently, dataclasses become slower, not wrong.
    generated = getattr(getattr(kind.__eq__, "__code__", None), "co_filename", "") == "<string>"
    return generated and all(field.compare for field in dataclasses.fields(kind))


def _build(kind: Any, plain: Any) -> Any:
    """Called by msgspec for the types that it does not know. A ValueError or TypeError gets the path from it."""
    if is_model(kind):
        try:
            return kind.model_validate_json(msgspec.json.encode(plain))
        except Exception as error:
            raise ValueError(_first_pydantic_error(error)) from error
    if kind is object:
        return plain
    if isinstance(kind, type):
        for base in (str, int, float):
            if issubclass(kind, base) and type(plain) is base:
                return kind(plain)
    raise TypeError(
        f"JSON cannot be read as {name_of(kind)}; use a dataclass, a msgspec.Struct, a Pydantic model or Any"
    )


def is_model(kind: Any) -> bool:
    """Whether *kind* is a class of Pydantic models."""
    # Never imports Pydantic: without pydantic.main there is no class that derives from BaseModel.
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and pydantic.BaseModel in getattr(kind, "__mro__", ())


def _mentions_model(annotation: Any) -> bool:
    return is_model(annotation) or any(_mentions_model(part) for part in typing.get_args(annotation))


def explain_misfit(error: Exception) -> str:
    """What a reader's exception means to the author of the data: the place, what was expected and what was found."""
    match error:
        case _UnsupportedAnnotation():
            return str(error)
        case RecursionError():
            return f"$: the JSON nests too deep. Keep it under {DEPTH_MAX} levels."
        case UnicodeEncodeError():
            return f"$: the text holds a lone surrogate at index {error.start}, so it is not JSON."
        case msgspec.ValidationError():
            message, *paths = str(error).split(AT)
            place = "".join(path.rstrip("`").replace("key` in `", "").removeprefix("$") for path in reversed(paths))
            key = "a key: " if paths and paths[-1].startswith("key") else ""
            return f"${place}: {key}{_lowered(message)}"
        case msgspec.DecodeError():
            return f"$: the text is not JSON: {_lowered(str(error))}"
        case _ if hasattr(error, "errors"):
            message, _, place = _first_pydantic_error(error).partition(AT)
            return f"{place.rstrip('`') or '$'}: {message}"
        case _:
            return f"$: {type(error).__name__} while the value was built: {text_of(error)}"


def _lowered(message: str) -> str:
    message = message.replace("`", "")
    return message if message[1:2].isupper() else message[:1].lower() + message[1:]


def _first_pydantic_error(error: Any) -> str:
    try:
        first = error.errors(include_url=False)[0]
    except Exception:  # not Pydantic's: a validator raised something of its own
        return f"{type(error).__name__}: {text_of(error)}"
    link: Link | None = None
    for segment in first["loc"]:
        link = (link, segment)
    found = "" if first["type"] == "missing" else f", got {type(first.get('input')).__name__}"
    return f"{_lowered(first['msg'])}{found}{AT}{render(link)}`"


read_plain = msgspec.json.Decoder().decode
PLANS: dict[Any, Plan] = {Any: Plan(read_plain, True)}
