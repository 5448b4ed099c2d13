"""Laws of the codec over arbitrary values."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.codec import JsonCodec
from durable.errors import DecodeError, EncodeError

codec = JsonCodec()

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(2**63 - 2, 2**70)
JSONISH = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


class Struct(msgspec.Struct):
    number: float | None
    anything: Any
    by_number: dict[int, str]


@dataclasses.dataclass
class Data:
    number: float | None
    anything: Any = dataclasses.field(compare=False)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=8)
    | st.decimals()
    | st.uuids()
    | st.datetimes()
    | st.timedeltas()
    | st.just(object())
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.floats() | st.booleans(), inner, max_size=4)
        | st.frozensets(st.integers() | st.floats() | st.text(max_size=3), max_size=4)
        | st.builds(Struct, st.none() | st.floats(), inner, st.dictionaries(st.integers(), st.text(max_size=3)))
        | st.builds(Data, st.none() | st.floats(), inner)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, all the way down; -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


class Refused(Exception):
    pass


def json_form(value: Any) -> Any:
    """An independent, slow account of what a value may arrive as in an untyped place, or Refused."""
    match value:
        case None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise Refused
            return value
        case str():
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise Refused
            return value
        case list() | tuple() | frozenset():
            return [json_form(item) for item in value]
        case dict():
            if any(not isinstance(key, str) for key in value):
                raise Refused
            return {json_form(key): json_form(item) for key, item in value.items()}
        case Struct():
            by_number = {str(key): json_form(item) for key, item in value.by_number.items()}
            return {"number": json_form(value.number), "anything": json_form(value.anything), "by_number": by_number}
        case Data():
            return {"number": json_form(value.number), "anything": json_form(value.anything)}
        case bytes() | Decimal() | UUID() | datetime() | timedelta():
            return msgspec.to_builtins(value)
        case _:
            raise Refused


@given(JSONISH)
def test_json_data_comes_back_exactly(value: Any) -> None:
    text = codec.encode(value)
    assert same(codec.decode(text), value)
    assert same(json.loads(text), value), "any other JSON reader must see the same"


@given(JSONISH)
def test_json_data_comes_back_exactly_from_an_untyped_field(value: Any) -> None:
    data = Struct(1.0, value, {})
    assert same(codec.decode(codec.encode(data, Struct), Struct).anything, value)


@given(ANYTHING)
def test_any_value_arrives_in_its_json_form_or_is_refused(value: Any) -> None:
    try:
        expected = json_form(value)
    except Refused:
        with pytest.raises(EncodeError):
            codec.encode(value)
        return
    text = codec.encode(value)
    text.encode("utf-8")
    assert same(codec.decode(text), expected)
    assert same(json.loads(text), expected)


@given(ANYTHING, st.floats())
def test_a_typed_value_comes_back_equal_or_is_refused(anything: Any, number: float) -> None:
    for value in (Struct(number, anything, {3: "x"}), Data(number, anything)):
        try:
            text = codec.encode(value, type(value))
        except EncodeError:
            continue
        back = codec.decode(text, type(value))
        assert same(back.number, number)
        assert same(back.anything, json_form(anything))


@given(
    st.dictionaries(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.datetimes(timezones=st.just(UTC)) | st.none()),
    st.sets(st.decimals(allow_nan=False)),
    st.tuples(st.binary(), st.uuids(), st.timedeltas()),
)
def test_typed_containers_come_back_equal(
    numbers: dict[int, float], moments: list[Any], decimals: set[Decimal], mixed: tuple[Any, ...]
) -> None:
    for value, annotation in (
        (numbers, dict[int, float]),
        (moments, list[datetime | None]),
        (decimals, set[Decimal]),
        (mixed, tuple[bytes, UUID, timedelta]),
    ):
        assert codec.decode(codec.encode(value, annotation), annotation) == value


ANNOTATIONS = st.sampled_from(
    [
        *(Any, int, str, float, list[int], dict[str, Any], dict[int, str], Struct, Data, datetime, UUID, Decimal),
        *(bytes, set[int], tuple[int, str], int | None, list[Struct], object, "nonsense", 5, Data | Struct),
    ]
)


@given(st.text() | JSONISH.map(json.dumps) | st.binary().map(lambda raw: raw.decode("latin-1")), ANNOTATIONS)
def test_decoding_raises_nothing_but_decode_errors(text: str, annotation: Any) -> None:
    try:
        codec.decode(text, annotation)
    except DecodeError as error:
        message = str(error)
    else:
        return
    assert message.startswith("$")


@given(JSONISH | ANYTHING, ANNOTATIONS)
def test_encoding_raises_nothing_but_encode_errors(value: Any, annotation: Any) -> None:
    try:
        text = codec.encode(value, annotation)
    except EncodeError as error:
        message = str(error)
    else:
        codec.decode(text, annotation)
        return
    assert message.startswith("$")
