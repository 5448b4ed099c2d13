"""The inbox of people: what executions ask, and how it is answered. What `Client` does for it is here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from durable.codec import Codec
from durable.errors import DecodeError, InputRejected
from durable.ids import shown_id
from durable.model.inputs import Choice, Field, Request
from durable.paging import Row, read_cursor, write_cursor


class Input(msgspec.Struct, frozen=True):
    """Something that an execution has asked people, in step *path*.

    `status` is pending, answered, expired (nobody has answered in time, or what has asked it is over), or
    withdrawn (its execution has ended). `number`
    tells it from others of its name. `schema` is the JSON schema of its answer. `due_at` is until when it waits, `answered_by`
    who has answered, as the one who passed it on says, `closed_at` when it stopped to be pending, `reminded` how often.
    """

    id: str
    execution_id: UUID
    workflow: str
    path: str
    name: str
    number: int
    type: str
    status: str
    requested_at: datetime
    schema: dict[str, Any]
    prompt: str | None = None
    choices: list[Choice] = []
    multiple: bool = False
    fields: list[Field] = []
    metadata: Any = None
    due_at: datetime | None = None
    closed_at: datetime | None = None
    answered_by: str | None = None
    answer: Any = None
    reminded: int = 0


class InputPage(msgspec.Struct, frozen=True):
    """Some of what is pending, the oldest first. `cursor` asks for the next page; None: there is none."""

    items: list[Input]
    cursor: str | None = None


def input_from(row: Row, codec: Codec) -> Input:
    """A row of ``input/list`` and its siblings."""
    asked = read_request(row["request"], codec)
    return Input(
        id=shown_id(row["execution_id"], row["execution_name"]),
        execution_id=row["execution_id"],
        workflow=row["workflow"],
        path=row["path"],
        name=row["name"],
        number=row["seq"],
        type=row["kind"],
        status=row["status"],
        requested_at=row["requested_at"],
        schema=asked.schema,
        prompt=asked.prompt,
        choices=asked.choices,
        multiple=asked.multiple,
        fields=asked.fields,
        metadata=asked.metadata,
        due_at=row["due_at"],
        closed_at=row["closed_at"],
        answered_by=row["answered_by"],
        answer=None if row["answer"] is None else codec.decode(row["answer"]),
        reminded=row["reminded"],
    )


def page_from(rows: Sequence[Row], limit: int, codec: Codec) -> InputPage:
    """A page of ``input/list``."""
    items = [input_from(row, codec) for row in rows]
    if len(items) < limit:
        return InputPage(items, None)
    last = items[-1]
    return InputPage(items, write_cursor("list_pending_inputs", last.requested_at, last.execution_id, last.number))


def place_after(cursor: str | None) -> tuple[datetime | None, UUID | None, int | None]:
    """Where a page begins. Raises `UsageError`."""
    if cursor is None:
        return None, None, None
    at, id, number = read_cursor(cursor, "list_pending_inputs", datetime.fromisoformat, UUID, int)
    return at, id, number


def read_request(text: str, codec: Codec) -> Request:
    """A question as it was stored."""
    return codec.decode(text, Request)


def refuse_wrong(id: str, name: str, asked: Request, text: str, codec: Codec) -> None:
    """Raise `InputRejected` when *text*, an encoded answer, does not answer the question."""
    found = asked.problems(codec.decode(text))
    if not found and (model := asked.model_here()) is not None:
        try:
            codec.decode(text, model)
        except DecodeError as error:
            place, _, said = str(error).partition(": ")
            found = [(place.removeprefix("$").removeprefix("."), said)]
    if found:
        problems: dict[str, str] = {}
        for place, said in found:
            problems.setdefault(place, said)
        told = "; ".join(f"{place or 'the answer'} {said}" for place, said in problems.items())
        raise InputRejected(f"this does not answer {name!r} of execution {id!r}, which waits on: {told}", problems)
