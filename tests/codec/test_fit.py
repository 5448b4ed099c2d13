"""Only pairs of annotations that can never fit are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.codec import JsonCodec
from durable.errors import DecodeError
from durable.model.fit import fits

T = TypeVar("T")


class OnlyX(msgspec.Struct):
    x: int


class XAndY(msgspec.Struct):
    x: int
    y: str


class YByDefault(msgspec.Struct):
    x: int
    y: str = ""


class XIsText(msgspec.Struct):
    x: str


class XIsTextByDefault(msgspec.Struct):
    x: str = ""


class Sparse(msgspec.Struct, omit_defaults=True):
    x: int = 0


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    x: int


class Camel(msgspec.Struct, rename="camel"):
    order_id: int


class Snake(msgspec.Struct):
    order_id: int


class NamedLikeCamel(msgspec.Struct):
    orderId: int


class TagA(msgspec.Struct, tag=True):
    x: int


class TagB(msgspec.Struct, tag=True):
    y: int


class AsArray(msgspec.Struct, array_like=True):
    x: int


class Node(msgspec.Struct):
    value: int
    next: Node | None = None


class OtherNode(msgspec.Struct):
    value: int
    next: OtherNode | None = None


class Unset(msgspec.Struct):
    x: int | msgspec.UnsetType = msgspec.UNSET


@dataclasses.dataclass
class Plain:
    x: int


class Typed(TypedDict):
    x: int


class Empty(TypedDict):
    pass


class Model(pydantic.BaseModel):
    x: int


class Colour(Enum):
    RED = "red"


class Paint(StrEnum):
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Lenient(StrEnum):
    ANY = "any"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.ANY


class Pair(NamedTuple):
    a: int
    b: str


class Unknown:
    pass


FIT: list[tuple[Any, Any]] = [
    (Any, int),
    (int, Any),
    (int, int),
    (int, float),
    (float, int),  # 3 is a float to a type checker
    (int, Decimal),
    (str, datetime),
    (datetime, str),
    (str, UUID),
    (bytes, str),
    (Decimal, str),
    (Colour, str),
    (str, Colour),
    (Paint, Lenient),
    (Level, int),
    (int, Level),
    (int | None, int),
    (None, int),
    (int | str, str),
    (int, str | int),
    (list[int | None], list[str]),
    (list[int], list[str]),  # both may be empty
    (list[int], set[int]),
    (list[int], tuple[int, ...]),
    (list[int], tuple[int, int]),
    (tuple[int, str], Pair),
    (tuple[int, int], AsArray),
    (dict[str, int], OnlyX),
    (dict, XAndY),
    (OnlyX, dict[str, Any]),
    (OnlyX, YByDefault),
    (XAndY, OnlyX),
    (OnlyX, Plain),
    (Plain, OnlyX),
    (Typed, OnlyX),
    (Empty, OnlyX),  # a TypedDict may have more keys at run time
    (OnlyX, Typed),
    (Sparse, OnlyX),
    (Sparse, XIsTextByDefault),
    (Unset, XIsTextByDefault),
    (Camel, NamedLikeCamel),
    (TagA, TagA),
    (TagA, TagB),  # a subclass may have any tag
    (Node, OtherNode),
    (Node, dict[str, Any]),
    (Model, int),  # a RootModel may be anything
    (int, Model),
    (Unknown, int),
    (int, Unknown),
    (Callable[[], int], int),
    (T, int),
    (int, T),
    ("nonsense", int),
    (int, 3),
    (Literal["a", 1], Literal[1, 2]),
    (Literal["a"], str),
    (Annotated[int, msgspec.Meta(gt=3)], int),
    (Sequence[int], list[int]),
    (Mapping[str, int], OnlyX),
    (object, int),
]


@pytest.mark.parametrize(("produced", "accepted"), FIT, ids=lambda part: getattr(part, "__name__", repr(part))[:30])
def test_what_may_be_read_fits(produced: Any, accepted: Any) -> None:
    assert fits(produced, accepted) is None


MISFIT: list[tuple[Any, Any, str]] = [
    (int, str, "int can never be read as str"),
    (str, int, "str can never be read as int"),
    (bool, int, "bool can never be read as int"),
    (int, bool, "int can never be read as bool"),
    (int, datetime, "int can never be read as datetime"),
    (list[int], dict, "list can never be read as dict"),
    (dict, list, "dict can never be read as list"),
    (int | None, str | None, "int can never be read as str | None"),
    (int | list[int], str, "int | list can never be read as str"),
    (OnlyX, list[int], "OnlyX can never be read as list"),
    (OnlyX, XAndY, "XAndY requires the field 'y', which OnlyX does not have"),
    (Plain, XAndY, "XAndY requires the field 'y', which Plain does not have"),
    (OnlyX, XIsText, "field 'x': int can never be read as str"),
    (OnlyX, XIsTextByDefault, "field 'x': int can never be read as str"),
    (Typed, XIsText, "field 'x': int can never be read as str"),
    (dict[str, int], XIsText, "field 'x': int can never be read as str"),
    (OnlyX, dict[str, str], "field 'x': int can never be read as str"),
    (XAndY, Strict, "Strict forbids the field 'y', which XAndY has"),
    (Camel, Snake, "Snake requires the field 'order_id', which Camel does not have"),
    (AsArray, OnlyX, "AsArray can never be read as OnlyX"),
    (datetime, date, "datetime can never be read as date"),
    (UUID, datetime, "uuid can never be read as datetime"),
    (Colour, Paint, "Colour can never be read as Paint"),
    (Colour, int, "Colour can never be read as int"),
    (Level, str, "Level can never be read as str"),
    (Literal["a"], Literal["b"], "Literal['a'] can never be read as Literal['b']"),
    (tuple[int, str], tuple[int, int], "[1]: str can never be read as int"),
    (tuple[int, str], tuple[int, str, str], "2 items"),
    (tuple[int, str], list[int], "[1]: str can never be read as int"),
    (list[int], tuple[str], "[0]: int can never be read as str"),
]


@pytest.mark.parametrize(("produced", "accepted", "reason"), MISFIT, ids=[case[2][:40] for case in MISFIT])
def test_what_can_never_be_read_is_refused_with_a_reason(produced: Any, accepted: Any, reason: str) -> None:
    said = fits(produced, accepted)
    assert said is not None
    assert reason in said


SAMPLES: list[tuple[Any, Any]] = [
    (int, 3),
    (float, 1.5),
    (float, 3),
    (str, "red"),
    (str, "2026-01-01"),
    (str, str(UUID(int=1))),
    (bool, True),
    (bytes, b"abc"),
    (Decimal, Decimal("1.5")),
    (date, date(2026, 1, 1)),
    (datetime, datetime(2026, 1, 1)),
    (UUID, UUID(int=1)),
    (Colour, Colour.RED),
    (Paint, Paint.BLUE),
    (Level, Level.LOW),
    (list[int], []),
    (list[int], [1, 2]),
    (set[str], {"a"}),
    (tuple[int, str], (1, "a")),
    (Pair, Pair(1, "a")),
    (dict[str, int], {}),
    (dict[str, int], {"x": 1}),
    (OnlyX, OnlyX(1)),
    (XAndY, XAndY(1, "a")),
    (YByDefault, YByDefault(1)),
    (XIsTextByDefault, XIsTextByDefault()),
    (Sparse, Sparse()),
    (Unset, Unset()),
    (Camel, Camel(1)),
    (TagA, TagA(1)),
    (AsArray, AsArray(1)),
    (Node, Node(1, Node(2))),
    (Plain, Plain(1)),
    (Typed, {"x": 1}),
    (Literal["red"], "red"),
]
TARGETS = [annotation for annotation, _ in SAMPLES] + [OtherNode, Snake, NamedLikeCamel, Strict, TagB, TagA | TagB]


@given(st.sampled_from(SAMPLES), st.sampled_from(TARGETS))
def test_a_refused_pair_really_cannot_be_read(sample: tuple[Any, Any], accepted: Any) -> None:
    produced, value = sample
    codec = JsonCodec()
    if fits(produced, accepted) is None:
        return
    text = codec.encode(value, produced)
    with pytest.raises(DecodeError):
        codec.decode(text, accepted)


@given(st.sampled_from(SAMPLES))
def test_every_type_fits_itself(sample: tuple[Any, Any]) -> None:
    assert fits(sample[0], sample[0]) is None
