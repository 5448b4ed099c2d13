"""What is annotated comes back as what it was; what is not arrives in its JSON form."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from durable.codec import DEPTH_MAX, Codec, JsonCodec

codec: Codec = JsonCodec()
T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mode(StrEnum):
    FAST = "fast"


class Point(NamedTuple):
    x: int
    on: date


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Item(msgspec.Struct):
    sku: str
    price: float | None = None


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    first_name: str
    last_seen: datetime | None = None


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Row(msgspec.Struct, array_like=True):
    key: int
    value: str


class Maybe(msgspec.Struct):
    value: int | msgspec.UnsetType = msgspec.UNSET


class Box(msgspec.Struct, Generic[T]):
    content: T


class Tree(msgspec.Struct):
    children: list[Tree] = []


@dataclasses.dataclass
class Order:
    id: UUID
    items: list[Item]
    placed: datetime
    total: Decimal = Decimal(0)
    note: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Tag:
    text: str


@dataclasses.dataclass(eq=False)
class Identity:
    name: str
    weight: float | None = None


class Customer(pydantic.BaseModel):
    name: str
    since: date
    level: Level = Level.LOW
    tags: set[str] = set()
    secret: bytes = b""


class Aliased(pydantic.BaseModel):
    order_id: int = pydantic.Field(alias="orderId")

    @pydantic.computed_field
    @property
    def doubled(self) -> int:
        return self.order_id * 2


class Closed(pydantic.BaseModel, extra="forbid"):
    a: int


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Names(pydantic.RootModel[list[str]]):
    pass


@dataclasses.dataclass
class Mixed:
    customer: Customer
    others: dict[str, list[Customer]]


ID = UUID("0190e1b2-0000-7000-8000-000000000001")
NOW = datetime(2026, 3, 4, 5, 6, 7, 89, UTC)
ANN = Customer(name="Ann", since=date(2020, 1, 2), level=Level.HIGH, tags={"a", "b"}, secret=b"plain")
BOB = Customer(name="Bob", since=date(2020, 1, 2), tags={"a"})

TYPED: list[tuple[Any, Any]] = [
    (None, None),
    (True, bool),
    (-3, int),
    (2**80, int),
    (1.5, float),
    (-0.0, float),
    ("nul \0, zażółć, \U0001f600", str),
    ({"a": [1, 2.0, None, True, "x"]}, dict[str, Any]),
    ([1, 2], list[int]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[int, ...]),
    ({1, 2}, set[int]),
    (frozenset({"a"}), frozenset[str]),
    ({1: "a", 2**70: "b"}, dict[int, str]),
    ({1.5: "a"}, dict[float, str]),
    ({ID: 1}, dict[UUID, int]),
    ({NOW: 1}, dict[datetime, int]),
    ({Colour.RED: 1}, dict[Colour, int]),
    ({Level.LOW: 1}, dict[Level, int]),
    (Colour.BLUE, Colour),
    (Level.HIGH, Level),
    (Mode.FAST, Mode),
    (NOW, datetime),
    (datetime(2026, 1, 1, 12), datetime),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5))), datetime),
    (date(2026, 1, 1), date),
    (time(1, 2, 3, 4), time),
    (timedelta(days=-1, microseconds=3), timedelta),
    (timedelta(days=999_999_999), timedelta),
    (Decimal("1.10"), Decimal),
    (ID, UUID),
    (b"\0\xff", bytes),
    (bytearray(b"ab"), bytearray),
    (Point(1, date(2026, 1, 1)), Point),
    ({"title": "Alien"}, Movie),
    ({"title": "Alien", "year": 1979}, Movie),
    (Item("a", 2.5), Item),
    ([Item("a"), Item("b", 1.0)], list[Item]),
    (Renamed("Ann", NOW), Renamed),
    (Renamed("Ann"), Renamed),
    ([Cat(9), Dog("Rex")], list[Cat | Dog]),
    (Row(1, "a"), Row),
    (Maybe(), Maybe),
    (Maybe(3), Maybe),
    (Box(Item("a")), Box[Item]),
    (Tree([Tree(), Tree([Tree()])]), Tree),
    (Order(ID, [Item("a", 2.0)], NOW, Decimal("9.90")), Order),
    (Tag("a"), Tag),
    (Tag("a"), Tag | None),
    (None, Item | None),
    (5, int | str | None),
    ("x", Literal["x", "y", 1]),
    (7, Annotated[int, msgspec.Meta(gt=3)]),
    (7, Annotated[int, ["unhashable"]]),
    ([1], Sequence[int]),
    ({"a": 1}, Mapping[str, int]),
    ({"a": 1}, object),
    (ANN, Customer),
    ([ANN], list[Customer]),
    ({"a": ANN}, dict[str, Customer | None]),
    (Aliased(orderId=4), Aliased),
    (Closed(a=1), Closed | Names),
    ([Closed(a=1), ANN], list[Closed | Customer]),
    (Open.model_validate({"a": 1, "b": [2]}), Open),
    (Names(["a"]), Names),
    (Mixed(ANN, {"x": [ANN]}), Mixed),
]


@pytest.mark.parametrize(("value", "annotation"), TYPED, ids=lambda part: repr(part)[:40])
def test_an_annotated_value_comes_back_as_what_it_was(value: Any, annotation: Any) -> None:
    text = codec.encode(value, annotation)
    json.loads(text)
    back = codec.decode(text, annotation)
    assert back == value
    assert type(back) is type(value)
    assert codec.encode(value, annotation) == text, "the cached reader must agree with the first one"


@pytest.mark.parametrize("value", [-0.0, [-0.0], {"a": -0.0}])
def test_negative_zero_keeps_its_sign(value: Any) -> None:
    assert repr(codec.decode(codec.encode(value))) == repr(value)


UNTYPED: list[tuple[Any, Any]] = [
    ((1, (2, 3)), [1, [2, 3]]),
    ({"at": NOW}, {"at": "2026-03-04T05:06:07.000089Z"}),
    ({"id": ID, "n": Decimal("1.10")}, {"id": str(ID), "n": "1.10"}),
    ([Decimal("NaN")], ["NaN"]),
    ([Decimal("sNaN")], ["sNaN"]),
    ({"c": Colour.RED, "l": Level.LOW}, {"c": "red", "l": 1}),
    ([b"ab", bytearray(b"ab"), memoryview(b"ab")], ["YWI=", "YWI=", "YWI="]),
    ({"s": {7}}, {"s": [7]}),
    ({"item": Item("a", 1.0)}, {"item": {"sku": "a", "price": 1.0}}),
    ([Row(1, "a")], [[1, "a"]]),
    ({"t": Tag("a")}, {"t": {"text": "a"}}),
    (Identity("a"), {"name": "a", "weight": None}),
    ([BOB], [{"name": "Bob", "since": "2020-01-02", "level": 1, "tags": ["a"], "secret": ""}]),
    (Point(1, date(2026, 1, 1)), [1, "2026-01-01"]),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(int, a=1), {"a": 1}),
    ({Mode.FAST: 1}, {"fast": 1}),
    pytest.param([msgspec.Raw(b'{"a":1}')], [{"a": 1}], id="raw"),
]


@pytest.mark.parametrize(("value", "arrives"), UNTYPED, ids=lambda part: repr(part)[:40])
def test_in_an_untyped_place_a_value_arrives_in_its_json_form(value: Any, arrives: Any) -> None:
    assert codec.decode(codec.encode(value)) == arrives


def test_an_object_in_an_untyped_place_is_judged_by_the_annotations_of_its_class() -> None:
    class Prices(msgspec.Struct):
        by_year: dict[int, float]

    text = codec.encode({"prices": Prices({2026: 1.5})})
    assert codec.decode(text, dict[str, Prices]) == {"prices": Prices({2026: 1.5})}


def test_subclasses_of_scalars_are_written_as_their_base() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "something else"

    class Number(int):
        pass

    class Ratio(float):
        pass

    class FrozenClock(datetime):
        pass

    class FrozenDay(date):
        pass

    moment, day = FrozenClock(2026, 1, 2, 3, 4, 5, 6, UTC), FrozenDay(2026, 1, 2)
    text = codec.encode([Text("a"), Number(3), Ratio(0.5), moment, day])
    assert json.loads(text) == ["a", 3, 0.5, "2026-01-02T03:04:05.000006Z", "2026-01-02"]
    assert codec.decode(codec.encode(moment, datetime), datetime) == moment
    assert type(codec.decode(codec.encode(Text("a"), Text), Text)) is Text


def test_an_ambiguous_local_time_keeps_its_offset() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for fold, offset in ((0, 2), (1, 1)):
        moment = datetime(2025, 10, 26, 2, 30, fold=fold, tzinfo=berlin)
        back = codec.decode(codec.encode(moment, datetime), datetime)
        assert (back.hour, back.minute, back.utcoffset()) == (2, 30, timedelta(hours=offset))


def test_the_deepest_allowed_nesting_comes_back() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX):
        value = [value]
    assert codec.decode(codec.encode(value)) == value


def test_many_shallow_containers_are_not_deep() -> None:
    value = [{"brackets in text": '[[[{{{ \\" ]'}] * (DEPTH_MAX * 3)
    assert codec.decode(codec.encode(value)) == value


def test_a_model_may_write_nan_as_text_by_a_serializer_of_its_own() -> None:
    class Sample(pydantic.BaseModel):
        value: Annotated[float, pydantic.PlainSerializer(str)]

    back = codec.decode(codec.encode(Sample(value=float("nan")), Sample), Sample)
    assert repr(back.value) == "nan"


def test_a_class_that_calls_everything_equal_is_still_checked() -> None:
    @dataclasses.dataclass(eq=False)
    class Entity:
        id: int
        score: float | None = None

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Entity) and other.id == self.id

        __hash__ = None  # type: ignore[assignment]

    text = codec.encode(Entity(1, 2.0), Entity)
    assert codec.decode(text, Entity).score == 2.0


def test_plain_data_never_imports_pydantic() -> None:
    program = (
        "import sys, dataclasses; from durable.codec import JsonCodec; from durable import data\n"
        "from durable.model.fit import fits\n"
        "@dataclasses.dataclass\n"
        "class A: x: int\n"
        "c = JsonCodec(); c.decode(c.encode({'a': (1, A(1))})); c.decode(c.encode(A(1), A), A)\n"
        "data.assign(A(1), x=2); fits(A, dict)\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
