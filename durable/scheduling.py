"""The calls about schedules: create, ask, change, trigger, delete."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from durable.authoring import Workflow
from durable.errors import IdConflict, UnknownSchedule, UnknownWorkflow, UsageError
from durable.handle import Handle
from durable.ids import new_token, shown_id
from durable.model.cron import RuleOf, UnreadableRule, written
from durable.model.definition import Definition
from durable.model.firing import CatchUp, Overlap, Policy
from durable.model.names import check_name
from durable.paging import check_limit, read_cursor
from durable.parts import Parts
from durable.request import Options, check_priority, check_queue_name, draft_of, encode_tags, key_of
from durable.runtime.scheduler import ORPHANED_AFTER, newest_of, policy_of, tags_of
from durable.scheduled import Schedule, SchedulePage, encoded_for, rule_of, schedule_from, schedules_page
from durable.starting import Starting, check_refused, written_start
from durable.store.connection import Row

In = TypeVar("In")

UNSET: Any = msgspec.UNSET
TRIES = 20  # of a change, while the schedule fires


@dataclass(frozen=True, slots=True)
class _State:
    """What of a schedule can be changed."""

    rule: RuleOf | UnreadableRule
    input: str
    policy: Policy
    queue: str | None
    priority: int | None
    tags: str | None
    paused: bool
    paused_by: str | None
    paused_reason: str | None

    def row(self) -> tuple[Any, ...]:
        """The arguments of ``schedule/change`` for it."""
        policy = self.policy
        return (
            json.dumps(written(self.rule)),
            self.input,
            policy.overlap,
            policy.catch_up,
            _seconds(policy.catch_up_window),
            _seconds(policy.jitter),
            self.queue,
            self.priority,
            self.tags,
            self.paused,
            self.paused_by,
            self.paused_reason,
        )


class Scheduling(Starting):
    """Keeps schedules."""

    async def create_schedule(
        self,
        name: str,
        workflow: Workflow[In, Any],
        rule: RuleOf,
        data: In = None,  # pyright: ignore[reportArgumentType]
        *,
        overlap: Overlap = "skip",
        catch_up: CatchUp = "latest",
        catch_up_window: timedelta | None = None,
        jitter: timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        tags: Mapping[str, Any] | None = None,
        paused: bool = False,
    ) -> Schedule:
        """Start an execution of *workflow* on *data* whenever *rule* says so, from now on. When it returns, the schedule is
        durable, and fires on whatever workers know the workflow.

        *name* has 1 to 200 characters. *rule* is a `Cron` or an `Every`. *overlap*, *catch_up*, *catch_up_window* and
        *jitter* are those of `Scheduled`; *queue*, *priority* and *tags* those of `start`. Created *paused*, it fires when it
        was resumed. The id of an execution is ``name@instant``; in it, ``durable.context().scheduled_for`` is the instant.

        Raises `IdConflict` when there is a schedule of that name, `UnknownWorkflow`, `DefinitionError`, `EncodeError`,
        `DecodeError` for data that the workflow cannot read, `PayloadTooLarge`, `UsageError`, and `StoreUnavailable`. If
        cancelled, it may have been created.
        """
        parts = self.parts()
        definition = self.definition_of(workflow)
        check_name(name, "the name of a schedule")
        policy = Policy(overlap, catch_up, catch_up_window, jitter).checked(rule, f"schedule {name!r}")
        text = encoded_for(definition, data, parts.codec, parts.payload_bytes_max)
        operation = new_token()
        now = await self._now(parts)
        next_at = rule.next_after(now)
        (row,) = await parts.executions.fetch(
            "schedule/put",
            name,
            None,
            operation,
            definition.name,
            definition.version,
            json.dumps(written(rule)),
            text,
            policy.overlap,
            policy.catch_up,
            _seconds(policy.catch_up_window),
            _seconds(policy.jitter),
            None if queue is None else check_queue_name(queue),
            None if priority is None else check_priority(priority),
            encode_tags(tags) if tags else None,
            None,
            paused,
            next_at,
            None if next_at is None else policy.due_at(name, next_at),
            now,
        )
        if not row["written"] and row["created_by"] != operation:
            found = await self._find(parts, name)
            if found is None or found["created_by"] != operation:
                raise IdConflict(f"there is a schedule {name!r} already. Use update_schedule, or another name.")
        parts.herald.scheduled()
        return await self.get_schedule(name)

    async def get_schedule(self, name: str) -> Schedule:
        """The schedule as it stands now. Raises `UnknownSchedule`, and `StoreUnavailable`."""
        parts = self.parts()
        return schedule_from(await self._stored(parts, name), parts.codec)

    async def list_schedules(
        self, *, workflow: Workflow[Any, Any] | str | None = None, limit: int = 50, cursor: str | None = None
    ) -> SchedulePage:
        """Schedules by name, those of a workflow or all. *limit* is 1 to 1,000; *cursor* is the `cursor` of the page before.
        Raises `UsageError` and `StoreUnavailable`."""
        parts = self.parts()
        check_limit(limit)
        after = None if cursor is None else read_cursor(cursor, "list_schedules", str)[0]
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        rows = await parts.executions.fetch("schedule/list", name, after, ORPHANED_AFTER, limit)
        return schedules_page(rows, limit, parts.codec)

    async def update_schedule(
        self,
        name: str,
        *,
        rule: RuleOf = UNSET,
        data: Any = UNSET,
        overlap: Overlap = UNSET,
        catch_up: CatchUp = UNSET,
        catch_up_window: timedelta | None = UNSET,
        jitter: timedelta | None = UNSET,
        queue: str | None = UNSET,
        priority: int | None = UNSET,
        tags: Mapping[str, Any] | None = UNSET,
    ) -> Schedule:
        """Change what is given of a schedule, and leave the rest. Another *rule* counts from now on: what the one before has
        not fired yet, it does not fire any more. What is running goes on. See `create_schedule`.

        Raises `UsageError` for one that is declared in code, to be changed there; `UnknownSchedule`, and what `create_schedule`
        raises: `DefinitionError`, too, for one whose rule cannot be read here, unless it is given another. If cancelled, it may
        have happened.
        """
        parts = self.parts()
        given = {"overlap": overlap, "catch_up": catch_up, "catch_up_window": catch_up_window, "jitter": jitter}
        policies = {key: value for key, value in given.items() if value is not UNSET}

        def change(row: Row) -> _State:
            if row["declaration"] is not None:
                raise UsageError(
                    f"schedule {name!r} is declared in code, by workflow {row['workflow']!r}. Change it there; "
                    "here it can be paused, resumed and triggered."
                )
            state = _state_of(row)
            text = state.input if data is UNSET else self._input(parts, row, data)
            changed = replace(
                state,
                rule=state.rule if rule is UNSET else rule,
                input=text,
                policy=replace(state.policy, **policies),
                queue=state.queue if queue is UNSET else queue and check_queue_name(queue),
                priority=state.priority if priority in (UNSET, None) else check_priority(priority),
                tags=state.tags if tags is UNSET else (encode_tags(tags) if tags else None),
            )
            if priority is None:
                changed = replace(changed, priority=None)
            changed.policy.checked(changed.rule, f"schedule {name!r}")
            return changed

        return await self._change(parts, name, change)

    async def pause_schedule(self, name: str, reason: str | None = None, *, by: str | None = None) -> Schedule:
        """Let a schedule fire no more until it is resumed. What it has started goes on. One that is declared in code stays
        paused when the code is changed. Raises `UnknownSchedule`, `UsageError`, and `StoreUnavailable`."""
        for text, what in ((reason, "the reason of a pause"), (by, "the name of who pauses")):
            if text is not None:
                check_name(text, what)
        return await self._change(
            self.parts(),
            name,
            lambda row: replace(_state_of(row), paused=True, paused_by=by, paused_reason=reason),
        )

    async def resume_schedule(self, name: str) -> Schedule:
        """Let a schedule fire again, from now on: what it would have fired meanwhile it does not. Does nothing to one that is
        not paused. Raises `UnknownSchedule`, `DefinitionError` for one whose rule cannot be read here, and
        `StoreUnavailable`."""
        return await self._change(
            self.parts(),
            name,
            lambda row: replace(_state_of(row), paused=False, paused_by=None, paused_reason=None),
        )

    async def trigger_schedule(self, name: str) -> Handle[Any]:
        """Start an execution of a schedule now, whether it is paused or not, and whatever its overlap policy: it is not
        counted among its firings, which go on as before. ``scheduled_for`` is the present.

        Raises `UnknownSchedule`, `UnknownWorkflow` when this engine does not know the workflow, and what `start` raises. If
        cancelled, it may have been started.
        """
        parts = self.parts()
        row = await self._stored(parts, name)
        definition = self._definition_for(parts, row)
        options = Options(queue=row["queue"], priority=row["priority"])
        data = parts.codec.decode(row["input"], definition.input_type)
        draft = replace(draft_of(definition, options), tags=tags_of(name, row["now"], row["tags"]))
        new = draft.execution(row["input"], None, key_of(draft.queue, data, None, parts.queues))
        check_refused(new, await written_start(parts.write_start(new, parts.births)))
        parts.herald.ready(new.queue)
        return self.handle_of(shown_id(new.execution_id, None), new.execution_id, definition.output_type, True)

    async def delete_schedule(self, name: str) -> None:
        """Delete a schedule. What it has started goes on. One that is declared in code can be deleted when no worker has had
        that code for five minutes; before, pause it. Raises `UnknownSchedule`, `UsageError`, and `StoreUnavailable`."""
        parts = self.parts()
        row = await self._stored(parts, name)
        await parts.executions.fetch("schedule/delete", name, ORPHANED_AFTER)
        left = await self._find(parts, name)
        if left is not None and left["created_by"] == row["created_by"]:
            raise UsageError(
                f"schedule {name!r} is declared in the code of workers that run, by workflow {row['workflow']!r}. "
                "Take it out there first, or pause it."
            )

    # --- Within ----------------------------------------------------------------------------------------------------

    async def _now(self, parts: Parts) -> datetime:
        (row,) = await parts.executions.fetch("clock/now")
        return row["now"]

    async def _find(self, parts: Parts, name: str) -> Row | None:
        check_name(name, "the name of a schedule")
        rows = await parts.executions.fetch("schedule/get", name, ORPHANED_AFTER)
        return rows[0] if rows else None

    async def _stored(self, parts: Parts, name: str) -> Row:
        row = await self._find(parts, name)
        if row is None:
            raise UnknownSchedule(f"there is no schedule {name!r}. See list_schedules().")
        return row

    async def _change(self, parts: Parts, name: str, change: Callable[[Row], _State]) -> Schedule:
        """Change a schedule, as it stands when nobody changes it at the same time."""
        for _ in range(TRIES):
            row = await self._stored(parts, name)
            state, now = change(row), row["now"]
            next_at, handled_at = row["next_at"], row["handled_at"]
            if state.rule != rule_of(row) or (row["paused"] and not state.paused):
                next_at, handled_at = state.rule.next_after(now), max(now, handled_at)
            due_at = None if state.paused or next_at is None else state.policy.due_at(name, next_at)
            (done,) = await parts.executions.fetch(
                "schedule/change", name, row["revision"], new_token(), *state.row(), next_at, due_at, handled_at
            )
            if done["changed"]:
                parts.herald.scheduled()
                return await self.get_schedule(name)
        raise UsageError(f"schedule {name!r} fires or is changed all the time: it could not be changed. Try again.")

    def _definition_for(self, parts: Parts, row: Row) -> Definition:
        definition = newest_of(parts.definitions).get(row["workflow"])
        if definition is None or definition.version < row["version"]:
            raise UnknownWorkflow(
                f"this engine was not given workflow {row['workflow']!r} version {row['version']} or newer. "
                "Add it: Durable(..., workflows=[...])."
            )
        return definition

    def _input(self, parts: Parts, row: Row, data: Any) -> str:
        definition = self._definition_for(parts, row)
        return encoded_for(definition, data, parts.codec, parts.payload_bytes_max)


def _state_of(row: Row) -> _State:
    return _State(
        rule_of(row),
        row["input"],
        policy_of(row),
        row["queue"],
        row["priority"],
        row["tags"],
        row["paused"],
        row["paused_by"],
        row["paused_reason"],
    )


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
