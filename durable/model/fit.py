"""Whether what one step produces can be what the next one accepts, judged from their annotations alone.

Refuses only certain misfits: pairs of which no value at all could be read. Whatever is unknown or merely doubtful
(a class of another library, an empty list, a subclass with more fields) fits, and the codec decides at run time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, TypeAlias, cast

from msgspec import NODEFAULT, UNSET
from msgspec import inspect as mi

_Kind: TypeAlias = Literal["null", "bool", "int", "float", "str", "array", "object"]
_Pairs: TypeAlias = "set[tuple[int, int]]"  # being compared further up: types may contain themselves

_KINDS: dict[type[mi.Type], _Kind] = {
    mi.NoneType: "null",
    mi.BoolType: "bool",
    mi.IntType: "int",
    mi.FloatType: "float",
    mi.StrType: "str",
    mi.BytesType: "str",
    mi.ByteArrayType: "str",
    mi.MemoryViewType: "str",
    mi.DateTimeType: "str",
    mi.DateType: "str",
    mi.TimeType: "str",
    mi.TimeDeltaType: "str",
    mi.UUIDType: "str",
    mi.DecimalType: "str",
    mi.ListType: "array",
    mi.SetType: "array",
    mi.FrozenSetType: "array",
    mi.TupleType: "array",
    mi.VarTupleType: "array",
    mi.NamedTupleType: "array",
    mi.DictType: "object",
    mi.TypedDictType: "object",
    mi.DataclassType: "object",
    mi.StructType: "object",
}
_DISTINCT_TEXT = (mi.DateTimeType, mi.DateType, mi.TimeType, mi.TimeDeltaType, mi.UUIDType)  # no text is two of these


def fits(produced: Any, accepted: Any) -> str | None:
    """None when JSON of *produced* may be read as *accepted*; otherwise the reason why none ever can.

    A step that returns None leaves the data unchanged, so ``T | None`` counts as ``T``, and ``None`` says nothing.
    Never raises: an annotation that cannot be understood fits.
    """
    try:
        source, target = mi.type_info(produced), mi.type_info(accepted)
        members = [member for member in _members(source) if not isinstance(member, mi.NoneType)]
        return _judge_members(members, target, set()) if members else None
    except Exception:
        return None


def _judge(source: mi.Type, target: mi.Type, seen: _Pairs) -> str | None:
    return _judge_members(list(_members(source)), target, seen)


def _judge_members(sources: list[mi.Type], target: mi.Type, seen: _Pairs) -> str | None:
    reason: str | None = None
    for source in sources:
        for wanted in _members(target):
            misfit = _judge_pair(source, wanted, seen)
            if misfit is None:
                return None
            reason = reason or misfit
    if len(sources) == 1 and not isinstance(target, mi.UnionType):
        return reason
    return f"{' | '.join(map(_name, sources))} can never be read as {_name(target)}"


def _judge_pair(source: mi.Type, target: mi.Type, seen: _Pairs) -> str | None:
    if (id(source), id(target)) in seen:
        return None
    seen = seen | {(id(source), id(target))}
    have, want = _kind(source), _kind(target)
    if have is None or want is None:
        return None
    misfit = f"{_name(source)} can never be read as {_name(target)}"
    if not _kind_may_be(have, want, target):
        return misfit
    values, wanted = _values(source), _values(target)
    if values is not None and wanted is not None:
        return None if values & wanted else misfit
    if isinstance(source, _DISTINCT_TEXT) and isinstance(target, _DISTINCT_TEXT):
        return None if type(source) is type(target) else misfit
    if have == "array":
        return _judge_arrays(source, target, seen)
    if have == "object":
        return _judge_objects(source, target, seen)
    return None


def _members(node: mi.Type) -> Iterator[mi.Type]:
    """The alternatives that *node* stands for, each with one kind of JSON."""
    match node:
        case mi.UnionType(types=types):
            for member in types:
                yield from _members(member)
        case mi.Metadata(type=inner):
            yield from _members(inner)
        case mi.LiteralType(values=values):
            yield from (
                mi.LiteralType(tuple(v for v in values if type(v) is kind)) for kind in {type(v) for v in values}
            )
        case mi.EnumType(cls=cls):
            kinds: set[Any] = {type(member.value) for member in cls}
            yield from [node] if len(kinds) == 1 else [mi.AnyType()]
        case _:
            yield node


def _kind(node: mi.Type) -> _Kind | None:
    if isinstance(node, mi.StructType) and node.array_like:
        return "array"
    match node:
        case mi.LiteralType(values=values):
            sample = values[0]
        case mi.EnumType(cls=cls):
            sample = next(iter(cls)).value
        case _:
            return _KINDS.get(type(node))
    return "int" if type(sample) is int else "str" if type(sample) is str else "null" if sample is None else None


def _kind_may_be(have: _Kind, want: _Kind, target: mi.Type) -> bool:
    if have in ("int", "float"):  # an int is a fine float to a type checker; msgspec reads a Decimal from any number
        return want in ("int", "float") or isinstance(target, mi.DecimalType)
    return have == want


def _values(node: mi.Type) -> frozenset[Any] | None:
    """Every value that *node* can be, where that is known."""
    match node:
        case mi.LiteralType(values=values):
            return frozenset(values)
        case mi.EnumType(cls=cls) if getattr(cls._missing_, "__func__", None) is getattr(
            Enum._missing_, "__func__", None
        ):
            return frozenset(member.value for member in cls)
        case _:
            return None


def _judge_arrays(source: mi.Type, target: mi.Type, seen: _Pairs) -> str | None:
    given, wanted = _fixed_items(source), _fixed_items(target)
    if given is not None and wanted is not None and len(given) != len(wanted):
        return f"{_name(source)} has {len(given)} items and {_name(target)} {len(wanted)}"
    if given is None and wanted is None:
        return None  # an empty list is a list of anything
    size = len(given if given is not None else wanted or ())
    for at in range(size):
        one = given[at] if given is not None else getattr(source, "item_type", None)
        other = wanted[at] if wanted is not None else getattr(target, "item_type", None)
        reason = _judge(one, other, seen) if one is not None and other is not None else None
        if reason:
            return f"[{at}]: {reason}"
    return None


def _fixed_items(node: mi.Type) -> tuple[mi.Type, ...] | None:
    return node.item_types if isinstance(node, mi.TupleType) else None


@dataclasses.dataclass(frozen=True)
class _Shape:
    fields: dict[str, mi.Field]
    closed: bool  # a value has no other keys than these (a TypedDict or dict may have)
    omits: bool  # fields that hold their default may be left out of the JSON
    forbids: bool  # other keys are an error when it is read


def _shape(node: mi.Type) -> _Shape | None:
    """The keys of an object of this type, or None where they are not known for certain."""
    match node:
        case mi.StructType(tag=None):
            omits = node.cls.__struct_config__.omit_defaults
            return _Shape(_by_key(node.fields), True, omits, node.forbid_unknown_fields)
        case mi.DataclassType():
            return _Shape(_by_key(node.fields), True, False, False)
        case mi.TypedDictType():
            return _Shape(_by_key(node.fields), False, True, False)
        case _:
            return None


def _by_key(fields: tuple[mi.Field, ...]) -> dict[str, mi.Field]:
    return {field.encode_name: field for field in fields}


def _judge_objects(source: mi.Type, target: mi.Type, seen: _Pairs) -> str | None:
    given, wanted = _shape(source), _shape(target)
    if given is None and wanted is None:
        return None
    for key in {**(given.fields if given else {}), **(wanted.fields if wanted else {})}:
        reason = _judge_key(key, source, target, (given, wanted), seen)
        if reason:
            return reason
    return None


def _judge_key(
    key: str, source: mi.Type, target: mi.Type, shapes: tuple[_Shape | None, _Shape | None], seen: _Pairs
) -> str | None:
    given, wanted = shapes
    has = given.fields.get(key) if given else None
    needs = wanted.fields.get(key) if wanted else None
    required = needs is not None and needs.required
    if given and has is None and required and given.closed:
        return f"{_name(target)} requires the field {key!r}, which {_name(source)} does not have"
    written = given is not None and has is not None and _always_written(has, given)
    if written and wanted and needs is None and wanted.forbids:
        return f"{_name(target)} forbids the field {key!r}, which {_name(source)} has"
    if not written and not required:
        return None  # it may be left out
    one, other = _value_type(source, has), _value_type(target, needs)
    reason = _judge(one, other, seen) if one is not None and other is not None else None
    return f"field {key!r}: {reason}" if reason else None


def _value_type(node: mi.Type, field: mi.Field | None) -> mi.Type | None:
    if field is not None:
        return field.type
    return node.value_type if isinstance(node, mi.DictType) else None


def _always_written(field: mi.Field, shape: _Shape) -> bool:
    if field.default is UNSET:  # UNSET is left out of the JSON
        return False
    has_default = field.default is not NODEFAULT or field.default_factory is not NODEFAULT
    return field.required or (has_default and not shape.omits)


def _name(node: mi.Type) -> str:
    match node:
        case mi.UnionType(types=types):
            return " | ".join(map(_name, types))
        case mi.Metadata(type=inner):
            return _name(inner)
        case mi.LiteralType(values=values):
            return f"Literal[{', '.join(map(repr, values))}]"
        case mi.DictType():
            return "dict"
        case mi.VarTupleType():
            return "tuple"
        case mi.NoneType():
            return "None"
        case _ if hasattr(node, "cls"):
            return cast("type[Any]", node.cls).__qualname__  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        case _:
            return type(node).__name__.removesuffix("Type").lower()
