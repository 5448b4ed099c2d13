"""The data helpers return a changed copy of the same type and leave what they were given alone."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest

from durable.data import append, assign, increment, update
from durable.errors import UsageError


class Struct(msgspec.Struct, frozen=True, rename="camel"):
    order_id: int = 1
    items: list[str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    order_id: int = 1
    items: list[str] | None = None
    made_up: int = dataclasses.field(default=0, init=False)


class Model(pydantic.BaseModel):
    order_id: int = pydantic.Field(default=1, alias="orderId")
    items: list[str] | None = None


class Open(pydantic.BaseModel, extra="allow"):
    order_id: int = 1
    items: list[str] | None = None


def as_dict(order_id: int = 1, items: list[str] | None = None) -> dict[str, Any]:
    return {"order_id": order_id, "items": items}


KINDS: list[Callable[[], Any]] = [as_dict, Struct, Data, Model, Open]


def get(data: Any, key: str) -> Any:
    return data[key] if isinstance(data, dict) else getattr(data, key)


@pytest.mark.parametrize("make", KINDS)
def test_every_helper_changes_a_copy_of_the_same_type(make: Callable[[], Any]) -> None:
    data = make()
    for changed, key, value in (
        (assign(data, order_id=2), "order_id", 2),
        (assign(data, {"order_id": 2}), "order_id", 2),
        (update(data, "order_id", 0, lambda number: number * 10), "order_id", 10),
        (append(data, "items", "a"), "items", ["a"]),
        (append(assign(data, items=["a"]), "items", "b"), "items", ["a", "b"]),
        (increment(data, "order_id"), "order_id", 2),
        (increment(data, "order_id", by=-3), "order_id", -2),
    ):
        assert type(changed) is type(data)
        assert changed is not data
        assert get(changed, key) == value
    assert data == make(), "the original is untouched"


@pytest.mark.parametrize("make", KINDS)
def test_no_changes_is_still_a_copy(make: Callable[[], Any]) -> None:
    data = make()
    assert assign(data) == data
    assert assign(data) is not data


@pytest.mark.parametrize("make", [Struct, Data, Model])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: assign(data, total=1),
        lambda data: assign(data, {"total": 1}),
        lambda data: update(data, "total", 0, abs),
        lambda data: append(data, "total", 1),
        lambda data: increment(data, "total"),
    ],
)
def test_an_unknown_field_is_refused_with_the_fields_there_are(make: Callable[[], Any], change: Any) -> None:
    with pytest.raises(UsageError, match=r"has no field 'total'\. Its fields are: order_id, items"):
        change(make())


def test_a_dict_takes_new_keys() -> None:
    empty: dict[str, Any] = {}
    assert assign(empty, {"a b": 1}, c=2) == {"a b": 1, "c": 2}
    assert assign({"a": 1}, {"a": 2}, a=3) == {"a": 3}
    assert update(empty, "n", 7, abs) == {"n": 7}
    assert append(empty, "n", 1) == {"n": [1]}
    assert increment(empty, "n", by=Decimal("0.5")) == {"n": Decimal("0.5")}
    assert empty == {}


def test_a_key_may_have_any_name() -> None:
    assert assign({}, data=1, changes=2) == {"data": 1, "changes": 2}


def test_a_dict_subclass_stays_what_it_is() -> None:
    assert type(assign(OrderedDict(a=1), a=2)) is OrderedDict


def test_appending_leaves_the_old_list_alone() -> None:
    data = {"n": [1]}
    assert append(data, "n", 2) == {"n": [1, 2]}
    assert append({"n": (1,)}, "n", 2) == {"n": (1, 2)}
    assert data == {"n": [1]}


def test_a_model_that_allows_extras_takes_new_fields() -> None:
    changed = increment(append(assign(Open(), note="x"), "tags", "a"), "count")
    assert (changed.note, changed.tags, changed.count) == ("x", ["a"], 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assign(5, a=1), "int is not data"),
        (lambda: assign(None, a=1), "NoneType is not data"),
        (lambda: assign([1], a=1), "list is not data"),
        (lambda: assign(Data, order_id=1), "type is not data"),
        (lambda: assign({}, [("a", 1)]), "a mapping of changes, not list"),  # type: ignore[arg-type]
        (lambda: assign(Data(), made_up=1), "cannot be copied with made_up changed"),
        (lambda: append({"n": "text"}, "n", "x"), "append\\(\\) to 'n': it holds str, not a list"),
        (lambda: increment({"n": "text"}, "n"), "increment\\(\\) of 'n': it holds str"),
        (lambda: increment({"n": True}, "n"), "increment\\(\\) of 'n': it holds bool"),
        (lambda: increment({"n": 1.5}, "n", by=Decimal(1)), "cannot add Decimal to float"),
    ],
)
def test_what_cannot_be_changed_is_a_usage_error(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_an_error_of_the_updating_function_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        update({"n": 0}, "n", 0, lambda number: 1 / number)
