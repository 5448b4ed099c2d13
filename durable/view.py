"""What an execution looks like from outside: frozen values, ready to be shown or sent as JSON (they are msgspec Structs)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from durable.codec import Codec
from durable.errors import DecodeError
from durable.ids import shown_id
from durable.inbox import Input
from durable.model.answers import CHILD, child_end, read_answer, shown_topic
from durable.model.failure import Failure
from durable.model.status import Status
from durable.paging import Row, read_cursor, write_cursor


class Attempt(msgspec.Struct, frozen=True):
    """One try of one step. `seconds` is how long the body ran, `worker_id` who ran it, `next_run_at` when the next try is
    due (None: there is none)."""

    number: int
    status: str
    seconds: float
    worker_id: UUID
    recorded_at: datetime
    error: Failure | None = None
    next_run_at: datetime | None = None


class EffectView(msgspec.Struct, frozen=True):
    """What the body of a step has done durably. `key` tells it from the others: its kind, what it was called with, and which
    one of its kind it is. `kind` is waiting, answered, expired (nothing came in time), ran, or tried (it failed). `until` is
    when a wait ends at the latest, or the next try is due; `result` is what a call has returned, in JSON form, the id of a
    child that was begun, or what a wait was given: payloads by what it has waited for, see `Execution.waits_for`."""

    key: str
    kind: str
    recorded_at: datetime
    until: datetime | None = None
    result: Any = None
    error: Failure | None = None


class LogLine(msgspec.Struct, frozen=True):
    """Something that a body has logged. Those of a run that did not come to its end, because its worker crashed, say, are
    there, too."""

    at: datetime
    attempt: int
    level: str
    logger: str
    text: str


class StepView(msgspec.Struct, frozen=True):
    """One node of an execution that something is recorded of. `result` is its data in JSON form; None when it returned None,
    or has not completed.

    `status` is completed, failed, retrying, running (begun, with no result yet) or chosen (a branch). `attempts` are those
    of a step. `choice` is the case that a branch has chosen, `goto` the node that was gone to, `iterations` how many of a
    loop are over (only those of the last one are kept), `compensates` the path of the step that this one undoes. `effects` is
    what its body has done durably, `logs` what it has logged, if that was asked for.
    """

    path: str
    status: str
    attempts: list[Attempt]
    result: Any = None
    choice: str | None = None
    goto: str | None = None
    iterations: int | None = None
    compensates: str | None = None
    effects: list[EffectView] = []
    logs: list[LogLine] = []


class Execution(msgspec.Struct, frozen=True):
    """An execution as it stood when it was asked for. `input` and `result` are in JSON form (the text itself, if it came from
    SQL and Python cannot read it), `parent` is the execution that has started it.

    `wake_at` is until when it sleeps, `waits_for` what wakes it before: names of events, and ``input:<name>``. `hold` is
    "paused" when somebody has paused it, as `hold_reason` says, and "definition" when the code of the workers that looked at
    it cannot go on with it, as `hold_reason` says: it goes on when a worker comes whose code can.
    """

    id: str
    execution_id: UUID
    workflow: str
    version: int
    status: Status
    queue: str
    priority: int
    tags: dict[str, Any]
    created_at: datetime
    ended_at: datetime | None = None
    parent: str | None = None
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    claimed_at: datetime | None = None
    wake_at: datetime | None = None
    waits_for: list[str] = []
    worker_id: UUID | None = None
    crashes: int = 0
    input: Any = None
    result: Any = None
    error: Failure | None = None
    reason: str | None = None
    hold: str | None = None
    hold_reason: str | None = None
    steps: list[StepView] | None = None
    inputs: list[Input] | None = None

    @property
    def compensations(self) -> list[StepView]:
        """What was done to undo steps, in that order; empty when the steps were not asked for."""
        return [step for step in self.steps or () if step.compensates is not None]


class Page(msgspec.Struct, frozen=True):
    """Some executions of a list, newest first, without input and result. `cursor` asks for the next page; None: there is
    none."""

    items: list[Execution]
    cursor: str | None = None


def shown(text: str, codec: Codec) -> Any:
    """Data in its JSON form; where it cannot be read, the text itself: whoever looks for the reason is to see it."""
    try:
        return codec.decode(text)
    except DecodeError:
        return text


def failure_from(text: str | None) -> Failure | None:
    """A stored error, if there is one."""
    return None if text is None else msgspec.json.decode(text, type=Failure)


def listed_from(row: Row) -> Execution:
    """A row of a list."""
    return Execution(
        id=shown_id(row["execution_id"], row["name"]),
        execution_id=row["execution_id"],
        workflow=row["workflow"],
        version=row["version"],
        status=Status(row["status"]),
        queue=row["queue"],
        priority=row["priority"],
        tags=json.loads(row["tags"]) if row["tags"] else {},
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        parent=None if row["parent_id"] is None else shown_id(row["parent_id"], row["parent_name"]),
    )


def page_of_executions(rows: Sequence[Row], limit: int) -> Page:
    """A page of ``execution/list``."""
    items = [listed_from(row) for row in rows]
    if len(items) < limit:
        return Page(items, None)
    return Page(items, write_cursor("list_executions", items[-1].created_at, items[-1].execution_id))


def place_before(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    """Where a page of executions begins. Raises `UsageError`."""
    if cursor is None:
        return None, None
    at, id = read_cursor(cursor, "list_executions", datetime.fromisoformat, UUID)
    return at, id


def execution_from(row: Row, codec: Codec) -> Execution:
    """A row of ``execution/get``."""
    return msgspec.structs.replace(
        listed_from(row),
        due_at=row["due_at"],
        deadline_at=row["deadline_at"],
        claimed_at=row["claimed_at"],
        wake_at=row["wake_at"],
        waits_for=[shown_topic(topic) for topic in row["topics"] or ()],
        worker_id=row["worker_id"],
        crashes=row["crashes"],
        input=shown(row["input"], codec),
        result=None if row["result"] is None else shown(row["result"], codec),
        error=failure_from(row["error"]),
        reason=row["reason"],
        hold=row["hold"],
        hold_reason=row["hold_reason"],
    )


def steps_from(journal: Sequence[Row], codec: Codec) -> list[StepView]:
    """A journal as steps, in the order in which they began to be recorded."""
    about = [row for row in journal if row["kind"] in ("failing", "retried")]  # an ending that was retried is none
    failing = about[-1]["seq"] if about and about[-1]["kind"] == "failing" else None
    by_path: dict[str, list[Row]] = {}
    for row in journal:
        if row["path"]:  # what stands nowhere is about the whole
            by_path.setdefault(row["path"], []).append(row)
    return [_step_from(path, rows, failing, codec) for path, rows in by_path.items()]


def with_logs(steps: list[StepView], rows: Sequence[Row]) -> list[StepView]:
    """Steps with what their bodies have logged. One that has logged and is not recorded yet is running."""
    by_path: dict[str, list[LogLine]] = {}
    for row in rows:
        told = msgspec.json.decode(row["value"])
        line = LogLine(row["sent_at"], row["attempt"], told["level"], told["logger"], row["message"])
        by_path.setdefault(row["path"], []).append(line)
    known = [msgspec.structs.replace(step, logs=by_path.pop(step.path, [])) for step in steps]
    return known + [StepView(path, "running", [], logs=lines) for path, lines in by_path.items()]


def _step_from(path: str, rows: list[Row], failing: int | None, codec: Codec) -> StepView:
    results = {row["kind"]: row for row in rows}
    done, note = results.get("completed"), next((row for row in rows if row["kind"] in _NOTES), None)
    iterated = results.get("iterated")
    undoing = failing is not None and rows[0]["seq"] > failing and "/" in path
    return StepView(
        path,
        _status_of(rows),
        [_attempt_from(row) for row in rows if row["attempt"] and row["kind"] in _TRIES],
        None if done is None or done["value"] is None else shown(done["value"], codec),
        choice=note["target"] if note is not None and note["kind"] == "chosen" else None,
        goto=None if done is None else done["target"],
        iterations=None if iterated is None else iterated["attempt"],
        compensates=path.rpartition("/")[0] if undoing else None,
        effects=[_effect_from(row, codec) for row in rows if row["key"] is not None],
    )


def _effect_from(row: Row, codec: Codec) -> EffectView:
    value = row["value"]
    if row["kind"] == "answered":
        result: Any = _answer(value, codec)
    elif row["kind"] in ("ran", "tried"):
        result = None if value is None or row["error"] is not None else _returned(row["key"], value, codec)
    else:
        result = None if value is None else msgspec.json.decode(value)
    return EffectView(
        row["key"],
        row["kind"],
        row["recorded_at"],
        row["run_at"],
        result,
        failure_from(row["error"]),
    )


def _answer(value: str, codec: Codec) -> Any:
    try:
        return {shown_topic(topic): _brought(topic, payload, codec) for topic, payload in read_answer(value)}
    except DecodeError:
        return value


def _brought(topic: str, payload: str, codec: Codec) -> Any:
    if topic.startswith(CHILD):
        payload = bytes(child_end(payload).result).decode()
    return shown(payload, codec)


def _returned(key: str, value: str, codec: Codec) -> Any:
    return msgspec.json.decode(value) if key.startswith("start:") else shown(value, codec)


_TRIES = ("completed", "failed")
_NOTES = ("started", "chosen", "items", "iterated")


def _status_of(rows: list[Row]) -> str:
    tries = [row for row in rows if row["kind"] in _TRIES]
    if not tries:
        return "chosen" if rows[0]["kind"] == "chosen" else "running"
    return "retrying" if tries[-1]["run_at"] is not None else tries[-1]["kind"]


def _attempt_from(row: Row) -> Attempt:
    return Attempt(
        row["attempt"],
        row["kind"],
        row["seconds"],
        row["worker_id"],
        row["recorded_at"],
        failure_from(row["error"]),
        row["run_at"],
    )
