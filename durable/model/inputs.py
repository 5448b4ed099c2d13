"""What people are asked: the question as a value, checked when it is asked, and what an answer to it must be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec

from durable.errors import UsageError
from durable.model.schema import Problem, problems, schema_of

InputType: TypeAlias = Literal["approval", "choice", "text", "form"]
FieldType: TypeAlias = Literal["text", "number", "integer", "boolean", "date", "datetime", "choice", "choices"]

DECISIONS = ("approved", "rejected")


class Choice(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Something to choose: *value* is the answer, *label* what is shown (default: the value)."""

    value: str | int | float | bool
    label: str | None = None


class Field(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A field of a form. *options* are the choices of a ``"choice"`` (one of them) or of ``"choices"`` (some of them)."""

    name: str
    type: FieldType = "text"
    required: bool = True
    label: str | None = None
    options: list[Choice] | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked. `schema` is the JSON schema of the answer; `model` says which class that was made of, if any."""

    type: InputType
    schema: dict[str, Any]
    prompt: str | None = None
    choices: list[Choice] = []
    multiple: bool = False
    fields: list[Field] = []
    metadata: Any = None
    model: str | None = None

    def problems(self, answer: Any) -> list[Problem]:
        """What is wrong with *answer*, JSON data; empty when nothing is."""
        return problems(answer, self.schema)

    def model_here(self) -> Any:
        """The class of the form, if this process has it; it is not imported for that."""
        module, _, name = (self.model or "").partition(":")
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return found if isinstance(found, type) else None


def request(
    type: InputType,
    prompt: str | None,
    choices: Sequence[Any] | None,
    multiple: bool,
    fields: Sequence[Any] | None,
    form: Any,
    metadata: Any,
) -> Request:
    """A question as it is asked. Raises `UsageError` when it cannot be."""
    if (choices is None) == (type == "choice"):
        raise UsageError('choices= belongs to an input of type "choice", and such an input needs it.')
    if multiple and type != "choice":
        raise UsageError('multiple= belongs to an input of type "choice".')
    if type == "form" and (fields is None) == (form is None):
        raise UsageError("a form needs fields=[...], or form=, a class: one of the two.")
    if type != "form" and not (fields is form is None):
        raise UsageError('fields= and form= belong to an input of type "form".')
    asked_choices = _choices(choices or (), "choices") if type == "choice" else []
    asked_fields = [_field(given) for given in fields or ()]
    if len({field.name for field in asked_fields}) < len(asked_fields):
        raise UsageError("two fields of the form have the same name. Give each its own.")
    match type:
        case "approval":
            schema: dict[str, Any] = {"enum": list(DECISIONS)}
        case "choice":
            schema = _schema_of_choice(asked_choices, multiple)
        case "text":
            schema = {"type": "string"}
        case "form":
            schema = schema_of(form) if form is not None else _schema_of_fields(asked_fields)
        case _:  # pyright: ignore[reportUnnecessaryComparison]
            raise UsageError(f'type is {type!r}. Give "approval", "choice", "text" or "form".')
    model = None if form is None else f"{form.__module__}:{form.__qualname__}"
    return Request(type, schema, prompt, asked_choices, multiple, asked_fields, metadata, model)


def _choices(given: Sequence[Any], what: str) -> list[Choice]:
    made = [Choice(one) if isinstance(one, str | int | float) else _convert(one, Choice, what) for one in given]
    if isinstance(given, str) or not made:
        raise UsageError(f"{what} is {given!r}. Give a list of texts, numbers or Choices.")
    if any(type(a.value) is type(b.value) and a.value == b.value for n, a in enumerate(made) for b in made[:n]):
        raise UsageError(f"{what} has a value twice: {given!r}.")
    return made


def _field(given: Any) -> Field:
    if isinstance(given, dict):
        attributes = cast("dict[str, Any]", given)
        if (options := attributes.get("options")) is not None:
            given = attributes | {"options": _choices(options, f"options of {attributes.get('name')!r}")}
    field = _convert(given, Field, "fields")
    if not field.name:
        raise UsageError("a field of the form has no name.")
    if (field.options is None) == (field.type in ("choice", "choices")):
        raise UsageError(
            f'field {field.name!r}: options belong to the types "choice" and "choices", and these need some.'
        )
    return field


def _convert(given: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(given, kind, from_attributes=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"{what}: {given!r} does not describe a {kind.__name__}: {error}") from error


def _schema_of_choice(choices: Sequence[Choice], multiple: bool) -> dict[str, Any]:
    one = {"enum": [choice.value for choice in choices]}
    if not multiple:
        return one
    return {"type": "array", "items": one, "uniqueItems": True, "minItems": 1, "maxItems": len(choices)}


def _schema_of_fields(fields: Sequence[Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _schema_of_field(field) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def _schema_of_field(field: Field) -> dict[str, Any]:
    schema = _schema_of_value(field)
    return schema if field.required else {"anyOf": [schema, {"type": "null"}]}


def _schema_of_value(field: Field) -> dict[str, Any]:
    match field.type:
        case "text":
            return {"type": "string", "minLength": 1} if field.required else {"type": "string"}
        case "number" | "integer" | "boolean":
            return {"type": field.type}
        case "date":
            return {"type": "string", "format": "date"}
        case "datetime":
            return {"type": "string", "format": "date-time"}
        case "choice":
            return _schema_of_choice(field.options or (), False)
        case "choices":
            some = _schema_of_choice(field.options or (), True)
            return some if field.required else some | {"minItems": 0}
