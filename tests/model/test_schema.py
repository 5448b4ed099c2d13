"""JSON Schema as forms need it: what a value breaks is found, by its place, for what msgspec and Pydantic write."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel
from pydantic import Field as PydanticField

from durable import Choice, Field, UsageError
from durable.model.inputs import request
from durable.model.schema import problems, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Part:
    name: Annotated[str, msgspec.Meta(min_length=1, pattern="^[a-z]*$")]
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Order(msgspec.Struct, forbid_unknown_fields=True):
    colour: Colour
    due: date
    at: datetime
    id: UUID
    parts: Annotated[list[Part], msgspec.Meta(min_length=1, max_length=2)]
    place: tuple[int, str]
    note: str | None = None
    size: Literal[1, 2] = 1
    inner: Order | None = None


GOOD: dict[str, Any] = {
    "colour": "red",
    "due": "2030-12-31",
    "at": "2030-12-31T09:00:00Z",
    "id": "8b53ecb0-abd7-009f-5554-848be006e32a",
    "parts": [{"name": "a"}],
    "place": [1, "a"],
}


def test_what_fits_has_no_problems() -> None:
    schema = schema_of(Order)
    assert problems(GOOD, schema) == []
    assert problems(GOOD | {"note": None, "size": 2, "inner": GOOD}, schema) == []


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        ({"colour": "green"}, "colour", 'must be one of "blue", "red"'),
        ({"due": "soon"}, "due", "must be a date"),
        ({"id": "x"}, "id", "must be a UUID"),
        ({"parts": []}, "parts", "must have 1 items or more"),
        ({"parts": [{"name": "a"}] * 3}, "parts", "must have 2 items or fewer"),
        ({"parts": [{"name": "a"}, {"name": ""}]}, "parts[1].name", "must not be empty"),
        ({"parts": [{"name": "A"}]}, "parts[0].name", "must fit the pattern"),
        ({"parts": [{"name": "a", "weight": 0}]}, "parts[0].weight", "must be more than 0"),
        ({"parts": [{}]}, "parts[0].name", "is missing"),
        ({"place": ["1", "a"]}, "place[0]", "must be a whole number"),
        ({"place": [True, "a"]}, "place[0]", "must be a whole number"),
        ({"note": 5}, "note", "fits none of its 2 forms"),
        ({"size": 3}, "size", "must be one of 1, 2"),
        ({"size": True}, "size", "must be one of 1, 2"),
        ({"inner": {**GOOD, "colour": 5}}, "inner.colour", "must be one of"),
        ({"more": 1}, "more", "is not known. It has: colour"),
    ],
)
def test_what_does_not_fit_is_found_by_its_place(change: dict[str, Any], place: str, said: str) -> None:
    found = dict(problems(GOOD | change, schema_of(Order)))
    assert list(found) == [place]
    assert said in found[place] or (place == "note" and "must be a text" in found[place])


class Guest(BaseModel):
    name: str = PydanticField(min_length=2)
    age: int = PydanticField(ge=18, lt=150)
    friends: list[Guest] = []
    mail: str | None = None


def test_the_schema_of_a_pydantic_model_is_understood() -> None:
    schema = schema_of(Guest)
    assert problems({"name": "Ada", "age": 36, "friends": [{"name": "Bo", "age": 20}], "mail": None}, schema) == []
    found = dict(problems({"name": "A", "age": 3, "friends": [{"age": 200}], "mail": 5}, schema))
    assert found.keys() == {"name", "age", "friends[0].name", "friends[0].age", "mail"}


def test_a_class_without_a_schema_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="has no JSON schema"):
        schema_of(object())


def asked(type: Any, **more: Any) -> Any:
    given = {"prompt": None, "choices": None, "multiple": False, "fields": None, "form": None, "metadata": None} | more
    return request(type, **given)


@pytest.mark.parametrize(
    ("question", "good", "bad"),
    [
        (asked("approval"), ["approved", "rejected"], [True, "yes", None, {"decision": "approved"}]),
        (asked("text"), ["", "so"], [None, 5, ["so"]]),
        (asked("choice", choices=["a", 1]), ["a", 1], ["b", True, 1.5, ["a"], None]),
        (asked("choice", choices=["a", Choice("b")], multiple=True), [["a"], ["b", "a"]], ["a", [], ["a", "a"], ["c"]]),
        (
            asked("form", fields=[{"name": "n", "type": "number"}, Field("on", "boolean", required=False)]),
            [{"n": 1}, {"n": 1.5, "on": None}, {"n": 0, "on": False}],
            [{}, {"n": "1"}, {"n": True}, {"n": 1, "on": 1}, {"n": 1, "x": 1}, [], None],
        ),
        (
            asked("form", fields=[Field("d", "date"), Field("c", "choices", options=[Choice("x")], required=False)]),
            [{"d": "2030-01-01"}, {"d": "2030-01-01", "c": []}, {"d": "2030-01-01", "c": ["x"]}],
            [{"d": "1.1.2030"}, {"d": None}, {"d": "2030-01-01", "c": "x"}],
        ),
    ],
)
def test_an_answer_is_what_was_asked_for(question: Any, good: list[Any], bad: list[Any]) -> None:
    assert [answer for answer in good if question.problems(answer)] == []
    assert [answer for answer in bad if not question.problems(answer)] == []


@pytest.mark.parametrize(
    ("type", "given"),
    [
        ("choice", {}),
        ("choice", {"choices": []}),
        ("choice", {"choices": "ab"}),
        ("choice", {"choices": ["a", "a"]}),
        ("choice", {"choices": [{"label": "a"}]}),
        ("text", {"choices": ["a"]}),
        ("text", {"multiple": True}),
        ("text", {"fields": [{"name": "a"}]}),
        ("form", {}),
        ("form", {"fields": [{"name": "a"}], "form": Part}),
        ("form", {"fields": [{"name": "a"}, {"name": "a"}]}),
        ("form", {"fields": [{"name": "a", "type": "colour"}]}),
        ("form", {"fields": [{"name": "a", "type": "choice"}]}),
        ("form", {"fields": [{"name": "a", "options": ["x"]}]}),
        ("form", {"fields": [{"name": ""}]}),
        ("form", {"fields": [{"naem": "a"}]}),
        ("form", {"form": object()}),
        ("mood", {}),
    ],
)
def test_a_question_that_cannot_be_asked_is_a_usage_error(type: Any, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        asked(type, **given)


def test_the_class_of_a_form_is_found_where_it_is_and_never_imported() -> None:
    assert asked("form", form=Part).model_here() is Part
    assert msgspec.structs.replace(asked("form", form=Part), model="antigravity:Part").model_here() is None

    @dataclass
    class Local:
        names: list[str] = field(default_factory=list)

    assert asked("form", form=Local).model_here() is None
