"""What JSON would change in silence is refused, and the message names the place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from durable.codec import DEPTH_MAX, JsonCodec
from durable.errors import DecodeError, EncodeError

codec = JsonCodec()
NAN, INF = float("nan"), float("inf")


class Line(msgspec.Struct):
    price: float | None = None
    extra: Any = None


class ByIdentity(msgspec.Struct, eq=False):
    price: float | None = None


@dataclasses.dataclass
class Reading:
    value: float | None = None
    hidden: float | None = dataclasses.field(default=None, compare=False)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Loose:
    x: int
    more: Any = None


class Animal(pydantic.BaseModel):
    name: str = "x"


class Cat(Animal):
    lives: int = 9


class Owner(pydantic.BaseModel):
    pet: Animal
    weight: float | None = None
    extra: Any = None


class Longer(Line):
    more: int = 1


class Partial(TypedDict):
    a: int


class Level(IntEnum):
    LOW = 1


class Odd(Enum):
    NAN = NAN


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def endless() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


class AlwaysRaises:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = object.__hash__


REFUSED: list[tuple[Any, Any, str]] = [
    ({"items": [0, 1, 2, {"price": NAN}]}, Any, "$.items[3].price is NaN"),
    (INF, Any, "$ is infinity"),
    ([-INF], list[float], "$[0] is -infinity"),
    (NAN, float, "$ is NaN"),
    ([NAN], list[float | None], "$[0] is NaN"),
    (Line(NAN), Line, "$.price is NaN"),
    (Line(extra={"x": [NAN]}), Line, "$.extra.x[0] is NaN"),
    ({"a": Line(NAN)}, Any, "$.a.price is NaN"),
    (ByIdentity(NAN), ByIdentity, "$.price is NaN"),
    (Reading(NAN), Reading, "$.value is NaN"),
    (Reading(hidden=NAN), Reading, "$.hidden is NaN"),
    ([Reading(hidden=NAN)], list[Reading], "$[0].hidden is NaN"),
    (Owner(pet=Animal(), weight=NAN), Owner, "$.weight is NaN"),
    ({"o": Owner(pet=Animal(), weight=NAN)}, Any, "$.o.weight is NaN"),
    ({"a": {NAN}}, Any, "$.a[0] is NaN"),
    ({NAN}, set[float | None], "$[0] is NaN"),
    ((1, NAN), tuple[int, float], "$[1] is NaN"),
    (Odd.NAN, Any, "$ is NaN"),
    ({"a": 1, "b": NAN}, Partial, "$ would arrive without 'b'"),
    ({1: "a"}, Any, "$ has the key 1 (int)"),
    ({1: "a", "1": "b"}, Any, "$ has the key 1 (int)"),
    ({1: "a", "1": "a"}, dict[int, str], "$ has two keys"),
    ({"a b": [{1.5: 0}]}, Any, "$['a b'][0] has the key 1.5 (float)"),
    ({Level.LOW: 1}, Any, "(Level)"),
    ({True: 1}, Any, "$ has the key True (bool)"),
    ({True: 1}, dict[int, int], "$ has the key True (bool)"),
    ({None: 1}, Any, "$ has the key None (NoneType)"),
    ({"x": {"y": 1, (1, 2): 2}}, Any, "$.x has the key (1, 2) (tuple)"),
    (Line(extra={1: 2}), Line, "$.extra has the key 1 (int)"),
    (Reading(counts={1: 2}), Reading, "$.counts has the key 1 (int)"),  # type: ignore[dict-item]
    (Owner(pet=Animal(), extra={1: 2}), Owner, "$.extra has the key 1 (int)"),
    (Owner(pet=Cat()), Owner, "$.pet is Cat and would arrive as Animal, without lives"),
    (Longer(), Line, "$ is Longer and would arrive as Line, without more"),
    ([{"a": 1, "b": 2}], list[Partial], "$[0] would arrive without 'b'"),
    (2**53 + 1, float, "$ is 9007199254740993 and would arrive as 9007199254740992.0"),
    ({"n": 10**5000}, Any, "$.n is an integer of 16610 bits"),
    (["ok", "\ud800"], Any, "$[1] holds a lone surrogate"),
    ({"a": {"\ud800": 1}}, Any, "$.a has the key '\\ud800', which holds a lone surrogate"),
    (Line(extra="\udfff"), Line, "$.extra holds a lone surrogate"),
    (Owner(pet=Animal(), extra="\udfff"), Owner, "$.extra holds a lone surrogate"),
    (nested(DEPTH_MAX + 1), Any, f"nests deeper than {DEPTH_MAX} levels"),
    (nested(5_000), Any, f"nests deeper than {DEPTH_MAX} levels"),
    ([nested(DEPTH_MAX + 1), "[]" * 5], Any, "$[0].a.a.a"),
    (endless(), Any, "contains itself"),
    ({"a": [object()]}, Any, "$.a[0] is object"),
    (Loose(1, more={"f": print}), Loose, "$.more.f is builtin_function_or_method"),
    ([1 + 2j], Any, "$[0] is complex"),
    ([AlwaysRaises()], Any, "$[0] is AlwaysRaises"),
    ([msgspec.UNSET], Any, "$[0] is UnsetType"),
    (msgspec.Raw(b"NaN"), Any, "Raw"),
    ({"at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=3601)))}, Any, "$.at is datetime.datetime(2026"),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=3601))), datetime, "$ is datetime.datetime(2026"),
    ("a", int, "$: expected int, got str"),
    (True, int, "$: expected int, got bool"),
    (1, bool, "$: expected bool, got int"),
    (1.0, int, "$: expected int, got float"),
    (None, int, "$: expected int, got null"),
    (Loose("a"), Loose, "$.x: expected int, got str"),  # type: ignore[arg-type]
    ({"a": [Loose("a")]}, dict[str, list[Loose]], ".x: expected int, got str"),  # type: ignore[arg-type]
    (1, Callable[[], int], "Callable"),
    ([1], Iterable[int], "Iterable[int]"),
    (1, Loose | Line, "more than one dict-like type"),
    (1, "int", "'int'"),
]


@pytest.mark.parametrize(("value", "annotation", "message"), REFUSED, ids=[case[2][:50] for case in REFUSED])
def test_what_json_would_change_is_refused_with_its_place(value: Any, annotation: Any, message: str) -> None:
    for _ in range(2):  # the second time the reader comes from the cache
        with pytest.raises(EncodeError) as caught:
            codec.encode(value, annotation)
        assert message in str(caught.value)


def test_a_field_that_is_not_compared_is_checked_all_the_same() -> None:
    assert codec.decode(codec.encode(Reading(hidden=1.0), Reading), Reading).hidden == 1.0


def test_an_object_whose_comparison_raises_is_an_encode_error_or_comes_back() -> None:
    class Prickly(msgspec.Struct):
        x: int

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

    assert codec.decode(codec.encode(Prickly(3), Prickly), Prickly).x == 3
    assert codec.decode(codec.encode({"p": Prickly(3)})) == {"p": {"x": 3}}


def test_an_object_whose_comparison_has_no_truth_value_is_refused_or_comes_back() -> None:
    class Arrayish(msgspec.Struct):
        x: list[int]

        def __eq__(self, other: object) -> Any:
            return self  # as numpy does: the answer is an array

        def __bool__(self) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    assert codec.decode(codec.encode([Arrayish([1])], list[Arrayish]), list[Arrayish])[0].x == [1]


def test_a_class_that_raises_while_it_is_built_is_an_encode_error() -> None:
    @dataclasses.dataclass
    class Fragile:
        x: int

        def __post_init__(self) -> None:
            if self.x == 13:
                raise RuntimeError("thirteen")

    unlucky = Fragile(1)
    unlucky.x = 13
    with pytest.raises(EncodeError, match="thirteen"):
        codec.encode(unlucky, Fragile)


DECODE: list[tuple[str, Any, str]] = [
    ('{"amount": "x"}', Reading, ""),
    ('[{"x": 1}, {"x": "a"}]', list[Loose], "$[1].x: expected int, got str"),
    ("{}", Loose, "$: object missing required field x"),
    ('{"a": 1}', dict[int, int], "a key: expected int, got str"),
    ("{", Any, "$: the text is not JSON"),
    ("", Any, "$: the text is not JSON"),
    ("NaN", Any, "$: the text is not JSON"),
    ('{"a": 1} 2', Any, "$: the text is not JSON"),
    ('"\ud800"', Any, "lone surrogate at index 1"),
    ("1e999", Any, "out of range"),
    ("1" * 5_000, Any, "out of range"),
    ("[" * 100_000, Any, "nests too deep"),
    ("{}", Owner, "$.pet: field required"),
    ('{"pet": {"name": 5}}', Owner, "$.pet.name: input should be a valid string, got int"),
    ('{"o": [{"pet": {"name": 5}}]}', dict[str, list[Owner]], "[0].pet.name: input should be a valid string, got int"),
    ("[3]", list[Owner | Cat], "got int"),
    ("1", Callable[[], int], "Callable"),
    ("1", Loose | Line, "more than one dict-like type"),
    ("1", "int", "'int'"),
    ("1", object(), "object"),
]


@pytest.mark.parametrize(("text", "annotation", "message"), DECODE, ids=[case[2][:40] or "fits" for case in DECODE])
def test_a_misfit_says_where_and_what_was_expected(text: str, annotation: Any, message: str) -> None:
    if not message:
        assert codec.decode(text, annotation) == Reading()
        return
    with pytest.raises(DecodeError) as caught:
        codec.decode(text, annotation)
    assert message in str(caught.value)
