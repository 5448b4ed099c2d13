"""Start, ask, act: what an application calls. Nothing here runs a step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from uuid import UUID

import asyncpg
import msgspec

from durable.acting import Acting, check_who
from durable.authoring import Workflow
from durable.errors import (
    EncodeError,
    ExecutionCancelled,
    ExecutionFailed,
    NoPendingInput,
    UnknownExecution,
    UsageError,
)
from durable.following import Following, LifeEvent
from durable.handle import Handle
from durable.ids import execution_uuid, new_token
from durable.inbox import InputPage, input_from, page_from, place_after, read_request, refuse_wrong
from durable.model.answers import EVENT
from durable.model.failure import Failure
from durable.model.inputs import InputType
from durable.model.names import check_name
from durable.model.status import Status
from durable.paging import PAGE_MAX, check_limit, read_cursor, write_cursor
from durable.parts import Parts, ended, unknown
from durable.queueing import Queueing
from durable.request import encode_tags, encoded, matchable, once_of
from durable.runtime.listener import READY, TIMER
from durable.scheduling import Scheduling
from durable.store.connection import Row
from durable.store.executions import notify_in
from durable.store.group_commit import Kind
from durable.store.messages import ANSWERING, DELIVERING, EMITTING, emit_in, post_in
from durable.view import (
    Execution,
    Page,
    execution_from,
    listed_from,
    page_of_executions,
    place_before,
    steps_from,
    with_logs,
)

In = TypeVar("In")
Out = TypeVar("Out")

OnConflict: TypeAlias = Literal["return", "error"]


class Client(Scheduling, Queueing, Acting):
    """The calls of a running engine. `durable.start` and its siblings are these methods on the engine of the loop."""

    _parts: Parts | None = None

    def handle_of(self, id: str, execution_id: UUID, result_type: Any, created: bool) -> Handle[Any]:
        """A handle of this client."""
        return Handle(self, id, execution_id, result_type, created)

    # --- Ask ------------------------------------------------------------------------------------------------------

    def handle(self, id: str, workflow: Workflow[Any, Out] | None = None) -> Handle[Out]:
        """A handle for an execution that was started elsewhere or before; *workflow* types its result."""
        self.parts()  # raises when the engine is not running
        result_type = Any if workflow is None else self.definition_of(workflow).output_type
        return Handle(self, id, execution_uuid(id), result_type, False)

    async def get_execution(self, id: str, *, include_steps: bool = False, include_logs: bool = False) -> Execution:
        """The execution as it stands now, with its steps, their attempts, and what they have asked people, if wanted; and
        with what they have logged, see ``Durable(capture_logs=...)``.

        Raises `UnknownExecution`, and `StoreUnavailable` when PostgreSQL does not answer for about eight seconds; so do the
        other questions."""
        parts = self.parts()
        execution_id = execution_uuid(id)
        rows = await parts.executions.fetch("execution/get", execution_id)
        if not rows:
            raise unknown(id)
        execution = execution_from(rows[0], parts.codec)
        if not include_steps and not include_logs:
            return execution
        steps = steps_from(await self._journal(parts, execution_id), parts.codec)
        if include_logs:
            steps = with_logs(steps, await self._logs(parts, execution_id))
        asked = await parts.executions.fetch("input/of", execution_id)
        inputs = [input_from(row, parts.codec) for row in asked]
        return msgspec.structs.replace(execution, steps=steps, inputs=inputs)

    async def list_executions(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        status: Status | str | Sequence[Status | str] | None = None,
        tags: Mapping[str, Any] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Executions, newest first, filtered by workflow, status (one or several) and tags (all must be there).

        *limit* is 1 to 1,000; *cursor* is the `cursor` of the page before. Raises `UsageError`.
        """
        parts = self.parts()
        check_limit(limit)
        before, before_id = place_before(cursor)
        arguments: list[Any] = [_name_of(workflow), _statuses(status), before, before_id, limit]
        if tags:
            rows = await parts.executions.fetch("execution/list_tagged", *arguments, encode_tags(tags))
        else:
            rows = await parts.executions.fetch("execution/list", *arguments)
        return page_of_executions(rows, limit)

    async def list_pending_inputs(
        self,
        *,
        workflow: Workflow[Any, Any] | str | None = None,
        name: str | None = None,
        type: InputType | None = None,
        due_before: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> InputPage:
        """What executions ask people and nobody has answered, the oldest first, filtered by workflow, name, type, and by what
        expires before an instant. What one execution has asked, answered or not, is in its `Execution.inputs`.

        *limit* is 1 to 1,000; *cursor* is the `cursor` of the page before. Raises `UsageError`.
        """
        parts = self.parts()
        check_limit(limit)
        if due_before is not None and due_before.tzinfo is None:
            raise UsageError(f"due_before is {due_before!r}, which has no time zone. Give an aware datetime.")
        if type not in (None, *get_args(InputType)):
            raise UsageError(f"type is {type!r}. Give one of {', '.join(get_args(InputType))}.")
        place = place_after(cursor)
        rows = await parts.executions.fetch("input/list", _name_of(workflow), name, type, due_before, *place, limit)
        return page_from(rows, limit, parts.codec)

    async def list_children(self, id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """The executions that an execution has started by ``durable.call_workflow`` and ``durable.start_workflow``.

        *limit* is 1 to 1,000; *cursor* is the `cursor` of the page before. Raises `UsageError`.
        """
        parts = self.parts()
        check_limit(limit)
        after = None if cursor is None else read_cursor(cursor, "list_children", UUID)[0]
        rows = await parts.executions.fetch("child/list", execution_uuid(id), after, limit)
        items = [listed_from(row) for row in rows]
        return Page(items, write_cursor("list_children", items[-1].execution_id) if len(items) == limit else None)

    def events(self, id: str, after: str | None = None, *, follow: bool = True) -> AsyncIterator[LifeEvent]:
        """The life of an execution as it goes on, until it has ended: its steps, what they wait for, their progress, and the
        chunks of their streams. From its beginning, or *after* the `position` of an event that was seen before.
        Without *follow*, only what has happened by now.

        New events are pushed; at the latest they are found within a second or two. Raises `UnknownExecution`, `UsageError` and
        `StoreUnavailable` while it is iterated. Stop by leaving the loop; that changes nothing for the execution.
        """
        parts = self.parts()
        execution_id = execution_uuid(id)
        return Following(parts.executions, parts.followers, parts.codec, execution_id, id).events(after, follow=follow)

    async def wait_for_result(self, id: str, result_type: Any, timeout: float | timedelta | None) -> Any:
        """See `Handle.result`."""
        parts = self.parts()
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        async with asyncio.timeout(seconds):
            try:
                end = await parts.waiter.wait(execution_uuid(id))
            except UnknownExecution:
                raise unknown(id) from None  # which names it as the caller does
        if end.status == Status.COMPLETED:
            return parts.codec.decode(end.result or "null", result_type)
        if end.status == Status.CANCELLED:
            raise ExecutionCancelled(id, end.reason)
        raise ExecutionFailed(id, end.status, msgspec.json.decode(end.error or "{}", type=Failure))

    # --- Act ------------------------------------------------------------------------------------------------------

    async def cancel(
        self, id: str, reason: str | None = None, *, compensate: bool = False, by: str | None = None
    ) -> bool:
        """Cancel an execution, wherever it stands: running steps are cancelled. Nothing is undone, unless *compensate*: then
        the compensations of its completed steps are run, and it ends `compensated` or `compensation_failed`; with nothing to
        undo it ends `cancelled` all the same. Its children are cancelled, too, in the same way and a moment later.

        *by* says who acts; it is kept with the reason, see `list_acts`.

        True when this call cancelled it, or wants what another one has asked for and no worker has begun yet; False when it had
        ended before, or is being compensated. Raises `UnknownExecution`,
        and `StoreUnavailable` when PostgreSQL does not answer for about eight seconds. If cancelled itself, it may have
        happened.
        """
        parts = self.parts()
        try:
            check_who(by, reason)
            row = await parts.canceller.cancel(execution_uuid(id), reason, compensate=compensate, by=by)
        except asyncpg.DataError as error:
            raise UsageError(f"the reason of a cancellation cannot be stored: {error}") from error
        if row is None:
            raise unknown(id)
        return bool(row["changed"])

    async def send_event(
        self,
        id: str,
        name: str,
        payload: Any = None,
        *,
        dedupe_key: str | None = None,
        connection: asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any] | None = None,
        notify: bool = True,
    ) -> bool:
        """Send an event to an execution, whether it waits for it already or not: it is kept until it is waited for, and is
        consumed once. When it returns, the event is durable.

        Events of one name are consumed in the order in which they were sent. Under one *dedupe_key* (1 to 200 characters) an
        execution gets an event of this name once. With *connection*, an asyncpg connection in a transaction of yours, the event
        is sent by the workers after its commit, in the order of such events, and later than others that are sent meanwhile;
        *notify* tells the workers of the commit, else they find it by polling.

        True; False when it was sent before under this *dedupe_key*, which may have been by this very call, if its reply was
        lost. Raises `UnknownExecution`, `ExecutionEnded`,
        `EncodeError`, `PayloadTooLarge`, `UsageError`. While PostgreSQL is away it waits (with *connection* it raises what
        asyncpg raises). If cancelled, the event may have been sent: give it a *dedupe_key* to be sure.
        """
        parts = self.parts()
        execution_id = execution_uuid(id)
        check_name(name, "the name of an event")
        once = once_of(name, dedupe_key)
        text = encoded(payload, parts.codec, parts.payload_bytes_max)
        try:
            if connection is not None:
                outcome = await post_in(connection, id, name, text, dedupe_key, notify=notify)  # type: ignore[arg-type]
            else:
                outcome = await self._send(
                    parts, DELIVERING, execution_id, (execution_id, f"{EVENT}{name}", once, text), len(text)
                )
        except asyncpg.DataError as error:
            raise EncodeError(f"PostgreSQL cannot store this event: {error}") from error
        if outcome == "unknown":
            raise unknown(id)
        if outcome == "ended":
            raise ended(id)
        # Without a key it was this very call, whose reply was lost, that has sent it before.
        return outcome == "sent" or (dedupe_key is None and connection is None)

    async def emit(
        self,
        name: str,
        payload: Any = None,
        *,
        connection: asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any] | None = None,
        notify: bool = True,
    ) -> None:
        """Emit an event to whoever waits for it by ``durable.wait_for_event(name, match={...})`` with what is in its payload.
        When it returns, the event is durable; workers find who waits.

        It reaches those that waited by now, and those that will wait within the hour and look back as far as this. With
        *connection*, an asyncpg connection in a transaction of yours, it is emitted with its commit; *notify* tells the workers
        then, else they find it by polling. Raises `EncodeError`, `PayloadTooLarge`, `UsageError`. While PostgreSQL is away it
        waits. If cancelled, it may have been emitted.
        """
        parts = self.parts()
        check_name(name, "the name of an event")
        text = encoded(payload, parts.codec, parts.payload_bytes_max)
        try:
            operation = new_token()
            row = (operation, operation, name, text, matchable(payload, parts.codec))
            if connection is not None:
                await emit_in(connection, row)  # type: ignore[arg-type]
                if notify:
                    await notify_in(connection, READY, TIMER)  # type: ignore[arg-type]
                return
            await parts.commit.write(EMITTING, operation, row, len(text))
        except asyncpg.DataError as error:
            raise EncodeError(f"PostgreSQL cannot store this event: {error}") from error
        parts.herald.emitted()

    async def provide_input(
        self, id: str, name: str, value: Any = None, *, by: str | None = None, number: int | None = None
    ) -> None:
        """Answer what an execution asks by ``durable.wait_for_input`` under *name*: the earliest of that name, or the one of
        this *number* (`Input.number`). When it returns, the answer is durable, and the execution gets it. *by* says who has
        answered; it is kept with the answer.

        Raises `InputRejected`, which says what is wrong by field, and the execution waits on; `NoPendingInput` when nothing of
        that name is asked, or somebody else was quicker; `UnknownExecution`, `ExecutionEnded`, `EncodeError`,
        `PayloadTooLarge`; and `StoreUnavailable` when PostgreSQL does not answer for about eight seconds while the question is
        looked up. Once that is found, it waits while PostgreSQL is away. If cancelled, it may have been answered.
        """
        parts = self.parts()
        execution_id = execution_uuid(id)
        check_name(name, "the name of an input")
        if number is not None and (type(number) is not int or not 0 < number < 1 << 31):
            raise UsageError(f"number is {number!r}. Give the number of an Input, as list_pending_inputs() shows it.")
        if by is not None:
            check_name(by, "the name of who answers")
        text = encoded(value, parts.codec, parts.payload_bytes_max)
        found = await parts.executions.fetch("input/find", execution_id, name, number)
        if not found:
            raise unknown(id)
        (row,) = found
        if row["ended"]:
            raise ended(id)
        if row["seq"] is None:
            raise NoPendingInput(f"execution {id!r} asks nothing named {name!r} now. See list_pending_inputs().")
        refuse_wrong(id, name, read_request(row["request"], parts.codec), text, parts.codec)
        answer = (execution_id, row["seq"], new_token(), text, by)
        try:
            outcome = await self._send(parts, ANSWERING, execution_id, answer, len(text))
        except asyncpg.DataError as error:
            raise EncodeError(f"PostgreSQL cannot store this answer: {error}") from error
        if outcome == "ended":
            raise ended(id)
        if outcome not in ("sent", "duplicate"):
            raise NoPendingInput(f"{name!r} of execution {id!r} was answered, or taken back, a moment ago.")

    async def _send(self, parts: Parts, kind: Kind, execution_id: UUID, message: tuple[Any, ...], size: int) -> str:
        """Send a message, and tell whom it concerns. Returns what became of it: sent or duplicate, or else why not."""
        row = await parts.commit.write(kind, execution_id, message, size)
        assert row is not None, "a message always has an outcome"
        outcome, queue = str(row["outcome"]), row["queue"]
        if outcome in ("sent", "duplicate"):
            parts.herald.mail(execution_id, queue, sure=outcome == "sent")
        return outcome

    async def _logs(self, parts: Parts, execution_id: UUID) -> list[Row]:
        logs: list[Row] = []
        after = 0
        while True:
            page = await parts.executions.fetch("stream/read", execution_id, after, PAGE_MAX)
            logs += [row for row in page if row["kind"] == "log"]
            if len(page) < PAGE_MAX:
                return logs
            after = page[-1]["position"]

    async def _journal(self, parts: Parts, execution_id: UUID) -> list[Row]:
        journal: list[Row] = []
        while True:
            after = journal[-1]["seq"] if journal else 0
            page = await parts.executions.fetch("journal/read", [execution_id], execution_id, after, PAGE_MAX)
            journal += page
            if len(page) < PAGE_MAX:
                return journal


def _statuses(status: Status | str | Sequence[Status | str] | None) -> list[str]:
    if status is None:
        return [s.value for s in Status]
    given = [status] if isinstance(status, str) else list(status)
    try:
        return [Status(s).value for s in given]
    except ValueError as error:
        raise UsageError(f"{error}. The statuses are: {', '.join(Status)}.") from error


def _name_of(workflow: Workflow[Any, Any] | str | None) -> str | None:
    return workflow.name if isinstance(workflow, Workflow) else workflow
