"""Schedules as they are shown, and as the code of an engine declares them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from durable.codec import Codec, plain_text
from durable.errors import DefinitionError, DurableError
from durable.ids import shown_id
from durable.model.cron import RuleOf, UnreadableRule, read_or_tell, written
from durable.model.definition import Definition
from durable.model.firing import CatchUp, Overlap
from durable.model.scheduled import Scheduled
from durable.paging import Row, write_cursor
from durable.request import encode_tags, encoded
from durable.runtime.scheduler import Declaration, newest_of, policy_of

LATE_SECONDS = 60.0


class Schedule(msgspec.Struct, frozen=True):
    """A schedule as it stood when it was asked for.

    `status` is active; paused; orphaned: it is declared in code, but no worker has that any more, so that it does not fire;
    unreadable: `rule` is an `UnreadableRule` to this program, which says why; or late: it should have fired a minute ago, but
    no worker that knows its workflow has come. `next_at` is the instant that it
    fires for next, `due_at` that with its share of the jitter (None: paused). `last_at` is the instant that it has fired for
    last, `last_execution` the id of that execution. `queued` are instants that wait for that to end, `skipped` counts those
    that were left out because it had not. `declared`: in code, by ``Workflow(schedule=...)``. `version` is the oldest of the
    workflow that it may start: workers start the newest that they know. `data` is the input in JSON form.
    """

    name: str
    workflow: str
    version: int
    rule: RuleOf | UnreadableRule
    status: str
    data: Any
    overlap: Overlap
    catch_up: CatchUp
    declared: bool
    created_at: datetime
    changed_at: datetime
    catch_up_window: timedelta | None = None
    jitter: timedelta | None = None
    queue: str | None = None
    priority: int | None = None
    tags: dict[str, Any] = {}
    next_at: datetime | None = None
    due_at: datetime | None = None
    last_at: datetime | None = None
    last_execution: str | None = None
    queued: list[datetime] = []
    skipped: int = 0
    paused_by: str | None = None
    paused_reason: str | None = None

    def next_times(self, n: int = 5) -> list[datetime]:
        """The next *n* instants that it fires for, as its rule says, paused or not; without the jitter. No more than the first
        one, if the rule cannot be read here."""
        times = [self.next_at] if self.next_at is not None else []
        if isinstance(self.rule, UnreadableRule):
            return times[:n]
        while times and len(times) < n and (instant := self.rule.next_after(times[-1])) is not None:
            times.append(instant)
        return times[:n]


class SchedulePage(msgspec.Struct, frozen=True):
    """Some schedules of a list, by name. `cursor` asks for the next page; None: there is none."""

    items: list[Schedule]
    cursor: str | None = None


def schedule_from(row: Row, codec: Codec) -> Schedule:
    """A row of ``schedule/get``."""
    policy, rule = policy_of(row), rule_of(row)
    last = row["last_execution_id"]
    return Schedule(
        name=row["name"],
        workflow=row["workflow"],
        version=row["version"],
        rule=rule,
        status=_status_of(row, isinstance(rule, UnreadableRule)),
        data=codec.decode(row["input"]),
        overlap=policy.overlap,
        catch_up=policy.catch_up,
        declared=row["declaration"] is not None,
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        catch_up_window=policy.catch_up_window,
        jitter=policy.jitter,
        queue=row["queue"],
        priority=row["priority"],
        tags=json.loads(row["tags"]) if row["tags"] else {},
        next_at=row["next_at"],
        due_at=row["due_at"],
        last_at=row["last_at"],
        last_execution=None if last is None else shown_id(last, row["last_execution_name"]),
        queued=list(row["queued"]),
        skipped=row["skipped"],
        paused_by=row["paused_by"],
        paused_reason=row["paused_reason"],
    )


def rule_of(row: Row) -> RuleOf | UnreadableRule:
    """The rule of a row."""
    return read_or_tell(json.loads(row["rule"]))


def schedules_page(rows: Sequence[Row], limit: int, codec: Codec) -> SchedulePage:
    """A page of ``schedule/list``."""
    items = [schedule_from(row, codec) for row in rows]
    return SchedulePage(items, write_cursor("list_schedules", items[-1].name) if len(items) == limit else None)


def declarations(
    definitions: Mapping[tuple[str, int], Definition], codec: Codec, payload_bytes_max: int
) -> list[Declaration]:
    """What the newest versions of workflows declare. Raises `DefinitionError` for data that does not fit its workflow."""
    return [
        _declaration(definition, definition.schedule, codec, payload_bytes_max)
        for definition in newest_of(definitions).values()
        if definition.schedule is not None
    ]


def encoded_for(definition: Definition, data: Any, codec: Codec, payload_bytes_max: int) -> str:
    """The data of a schedule, as what its executions get. Raises `EncodeError`, `PayloadTooLarge`, and `DecodeError` for what
    they could not read."""
    text = encoded(data, codec, payload_bytes_max, definition.input_type)
    codec.decode(text, definition.input_type)
    return text


def _declaration(definition: Definition, schedule: Scheduled, codec: Codec, payload_bytes_max: int) -> Declaration:
    where = f'workflow "{definition.name}" ({definition.source})'
    try:
        text = encoded_for(definition, schedule.data, codec, payload_bytes_max)
        tags = encode_tags(schedule.tags) if schedule.tags else None
    except DurableError as error:
        raise DefinitionError(
            f"{where}: its schedule gives {schedule.data!r}, which cannot be kept: {error}. "
            "Say on what data: schedule=Scheduled(rule, data=...)."
        ) from error
    policy = schedule.policy.checked(schedule.rule, where)
    plain = plain_text(schedule.data, codec, definition.input_type)
    parts = (definition.name, definition.version, written(schedule.rule), repr(policy), plain, tags)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return Declaration(definition.name, digest, definition.name, definition.version, schedule.rule, policy, text, tags)


def _status_of(row: Row, unreadable: bool) -> str:
    if row["paused"]:
        return "paused"
    if row["orphaned"]:
        return "orphaned"
    if unreadable:
        return "unreadable"
    late = row["due_at"] is not None and (row["now"] - row["due_at"]).total_seconds() > LATE_SECONDS
    return "late" if late else "active"
