"""Values that break whoever looks at them: each is refused by an `EncodeError`, or arrives; nothing hangs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.codec import JsonCodec
from durable.errors import DecodeError, EncodeError

codec = JsonCodec()


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class NoHash:
    """Can be put into a dict once, and is not to be found again."""

    times = 0

    def __hash__(self) -> int:
        self.times += 1
        if self.times > 1:
            raise RuntimeError("no hash")
        return 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


class NoEquality:
    def __eq__(self, other: object) -> bool:
        raise Unspeakable

    __hash__ = object.__hash__


class NoText(str):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise Unspeakable

    __hash__ = str.__hash__


class NoNumber(int):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def bit_length(self) -> int:
        raise RuntimeError("no bits")


class NoItems(dict[str, Any]):
    def _broken(self) -> Any:
        raise RuntimeError("no items")

    items = keys = __iter__ = __repr__ = _broken


class NoIteration(list[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("no iteration")

    def __len__(self) -> int:
        return 10**9


class NoAttributes:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class EveryAttribute:
    def __getattr__(self, name: str) -> Any:
        return EveryAttribute()


class NoName(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__name__", "__mro__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def __repr__(cls) -> str:
        raise RuntimeError("no repr")


class Nameless(metaclass=NoName):
    pass


@dataclasses.dataclass
class Data:
    x: Any = None

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@dataclasses.dataclass
class Unreadable:
    x: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            raise RuntimeError("no x")
        return super().__getattribute__(name)


class Struct(msgspec.Struct, eq=False):
    x: Any = None

    def __eq__(self, other: object) -> bool:
        raise Unspeakable


class Model(pydantic.BaseModel):
    x: Any = None


class Odd(Enum):
    OBJECT = object()


def around(make: Callable[[], Any]) -> Any:
    """Something that contains itself."""
    made = make()
    made.x = made
    return made


def deep(levels: int) -> Any:
    value = None
    for _ in range(levels):
        value = Data(value)
    return value


def key(value: Any) -> dict[Any, int]:
    return {value: 1}


HOSTILE: dict[str, Callable[[], Any]] = {
    "repr": NoRepr,
    "repr of a key": lambda: key(NoRepr()),
    "hash": lambda: key(NoHash()),
    "equality": NoEquality,
    "equality of a key": lambda: key(NoEquality()),
    "text": lambda: NoText("x"),
    "a lone surrogate without text": lambda: NoText("\ud800"),
    "text of a key": lambda: key(NoText("x")),
    "number": lambda: NoNumber(5),
    "a long number": lambda: NoNumber(10**5000),
    "items": lambda: NoItems(a=1),
    "items with NaN": lambda: NoItems(a=float("nan")),
    "iteration": lambda: NoIteration([1]),
    "attributes": NoAttributes,
    "every attribute": EveryAttribute,
    "the name of a class": Nameless,
    "the name of a key's class": lambda: key(Nameless()),
    "a dataclass with NaN": lambda: Data(float("nan")),
    "a field": Unreadable,
    "a Struct with NaN": lambda: Struct(float("nan")),
    "a model with an object": lambda: Model(x=NoRepr()),
    "an Enum of objects": lambda: Odd.OBJECT,
    "a dataclass around itself": lambda: around(Data),
    "a Struct around itself": lambda: around(Struct),
    "a model around itself": lambda: around(Model),
    "depth": lambda: deep(5_000),
    "a function": lambda: deep,
    "a generator": lambda: (n for n in range(3)),
    "an error": Unspeakable,
}
ANNOTATIONS: list[Any] = [Any, int, str, dict[str, Any], list[Any], Data, Struct, Model, Nameless, Odd]
ANNOTATIONS += [NoRepr(), NoEquality(), Unspeakable(), EveryAttribute(), Data | None, "no such name", 5]


def refused_or_arrives(value: Any, annotation: Any) -> None:
    said: str | None = None
    try:
        text = codec.encode(value, annotation)
    except EncodeError as error:
        said = str(error)
    else:
        codec.decode(text, annotation)
    assert said is None or said.startswith("$")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_value_is_refused_or_arrives_whatever_its_annotation(make: Callable[[], Any]) -> None:
    for annotation in ANNOTATIONS:
        refused_or_arrives(make(), annotation)


# What is drawn is how to make a value, for the value itself cannot be shown.
WAYS: dict[str, Callable[..., Any]] = {
    "list": lambda *parts: list(parts),
    "tuple": lambda *parts: parts,
    "dict": lambda *parts: {str(number): part for number, part in enumerate(parts)},
    "dataclass": lambda *parts: Data(parts[0]),
    "struct": lambda *parts: Struct(parts[0]),
    "model": lambda *parts: Model(x=parts[0]),
}
LEAVES = st.sampled_from(sorted(HOSTILE)) | st.integers() | st.floats()
RECIPES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from(sorted(WAYS)), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=6,
)


def made(recipe: Any) -> Any:
    if isinstance(recipe, tuple):
        way, parts = recipe
        return WAYS[way](*map(made, parts))
    return HOSTILE[recipe]() if isinstance(recipe, str) else recipe


@pytest.mark.timeout(60)
@settings(max_examples=150)
@given(RECIPES, st.sampled_from([Any, list[Any], dict[str, Any], Data, Struct, Model]))
def test_a_hostile_value_anywhere_is_refused_or_arrives(recipe: Any, annotation: Any) -> None:
    refused_or_arrives(made(recipe), annotation)


@settings(max_examples=200)
@given(st.binary(max_size=30) | st.text(max_size=30) | st.none() | st.integers())
def test_whatever_is_decoded_raises_nothing_but_decode_errors(text: Any) -> None:
    for annotation in (Any, Data, Model, Nameless, NoRepr()):
        with contextlib.suppress(DecodeError):
            codec.decode(text, annotation)
