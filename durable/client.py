"""Start, ask, act: what an application calls. Nothing here runs a step."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from durable.authoring import Workflow
from durable.codec import Codec
from durable.engine.journal import History, Subject
from durable.errors import (
    EncodeError,
    ExecutionCancelled,
    ExecutionEnded,
    ExecutionFailed,
    IdConflict,
    UnknownExecution,
    UnknownWorkflow,
    UsageError,
)
from durable.ids import execution_uuid, new_token, shown_id
from durable.model.answers import EVENT
from durable.model.definition import Definition
from durable.model.failure import Failure
from durable.model.status import Change, Status, stored_sources
from durable.request import Options, check_event_name, encode_tags, encoded, new_execution, once_of
from durable.runtime.listener import ENDED, READY, TIMER, TOLD, Listener, channel_of
from durable.runtime.owned import Ended
from durable.runtime.supervisor import Supervisor
from durable.runtime.waiter import Waiter
from durable.store.connection import Row
from durable.store.executions import Births, Executions, NewExecution, notify_in, start_in
from durable.store.group_commit import GroupCommit
from durable.store.messages import DELIVERING, post_in
from durable.view import Execution, Page, execution_from, listed_from, steps_from

In = TypeVar("In")
Out = TypeVar("Out")

OnConflict: TypeAlias = Literal["return", "error"]

PAGE_MAX = 1_000


@dataclass(slots=True)
class Parts:
    """What a running engine lends its client."""

    process: UUID
    definitions: Mapping[tuple[str, int], Definition]
    codec: Codec
    commit: GroupCommit
    births: Births
    executions: Executions
    listener: Listener
    waiter: Waiter
    supervisor: Supervisor | None
    payload_bytes_max: int


class Handle(Generic[Out]):
    """One execution, to be asked and acted on. `created` is False when the id had been started before."""

    __slots__ = ("_client", "_type", "created", "execution_id", "id")

    def __init__(self, client: Client, id: str, execution_id: UUID, result_type: Any, created: bool) -> None:
        self.id = id
        self.execution_id = execution_id
        self.created = created
        self._client = client
        self._type = result_type

    async def result(self, timeout: float | timedelta | None = None) -> Out:
        """The result, once the execution has completed.

        *timeout* in seconds; None waits for ever. Raises `ExecutionFailed` with the recorded error, `ExecutionCancelled`,
        or `TimeoutError`. Cancelling it, or its timeout, leaves the execution alone.
        """
        return await self._client.wait_for_result(self.id, self._type, timeout)

    async def status(self) -> Status:
        """Where the execution stands now."""
        return (await self._client.get_execution(self.id)).status

    async def cancel(self, reason: str | None = None, *, compensate: bool = False) -> bool:
        """See `Client.cancel`."""
        return await self._client.cancel(self.id, reason, compensate=compensate)

    async def send_event(self, name: str, payload: Any = None, *, dedupe_key: str | None = None) -> bool:
        """See `Client.send_event`."""
        return await self._client.send_event(self.id, name, payload, dedupe_key=dedupe_key)

    def __repr__(self) -> str:
        return f"<Handle of execution {self.id!r}>"


class Client:
    """The calls of a running engine. `durable.start` and its siblings are these methods on the engine of the loop."""

    _parts: Parts | None = None

    # --- Start ----------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: Workflow[In, Out],
        data: In,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | None = None,
        scheduled_at: datetime | None = None,
        tags: Mapping[str, Any] | None = None,
        connection: asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any] | None = None,
        notify: bool = True,
        on_conflict: OnConflict = "return",
    ) -> Handle[Out]:
        """Start an execution of *workflow* on *data*. When it returns, the execution is durable and will be run.

        *id* may be any string; the same id starts once, and a second start returns the existing execution (or raises
        `IdConflict` with ``on_conflict="error"``, or when it is another workflow's). *queue* and *priority* (higher
        first) override the workflow's. *delay* or *scheduled_at* (aware) put the beginning off. *tags* are JSON values by
        which lists can be filtered. With *connection*, an asyncpg connection in a transaction of yours, the start is
        part of that transaction; *notify* tells workers with its commit, else they find it by polling.

        Raises `EngineNotRunning`, `UnknownWorkflow`, `EncodeError`, `PayloadTooLarge`, `IdConflict`, `UsageError`. While
        PostgreSQL is away it waits (with *connection* it raises what asyncpg raises). If cancelled, the execution may have
        been started: give it an *id* to be sure.
        """
        parts = self.parts()
        definition = self._definition(parts, workflow)
        options = Options(queue, priority, delay, scheduled_at, tags)
        new = new_execution(definition, data, id, options, parts.codec, parts.payload_bytes_max)
        if connection is not None:
            row = await start_in(connection, new, parts.process)  # type: ignore[arg-type]
            if notify and row["created"]:
                message = TIMER if row["due_in"] is not None else new.queue
                await notify_in(connection, READY, message)  # type: ignore[arg-type]
            created = bool(row["created"]) or self._existing(new, row["existing_workflow"], on_conflict)
        elif self._begins_here(parts, definition, new, options):
            created = await self._begin_here(parts, definition, new, on_conflict)
        else:
            write = parts.commit.write(parts.births.of(new), new.execution_id, new.row(), len(new.input))
            created = await self._started(parts, new, await _refusable(write), on_conflict)
        return Handle(self, shown_id(new.execution_id, new.name), new.execution_id, definition.output_type, created)

    async def start_many(
        self,
        workflow: Workflow[In, Out],
        data: Sequence[In],
        *,
        ids: Sequence[str] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | None = None,
        scheduled_at: datetime | None = None,
        tags: Mapping[str, Any] | None = None,
        on_conflict: OnConflict = "return",
    ) -> list[Handle[Out]]:
        """Start many executions of one workflow, in order, with few statements. See `start`.

        Not one transaction: when it raises, some may have been started; with *ids* (one for each of *data*) it can be
        repeated safely.
        """
        parts = self.parts()
        definition = self._definition(parts, workflow)
        if ids is not None and len(ids) != len(data):
            raise UsageError(f"start_many was given {len(data)} items and {len(ids)} ids. Give one id for each item.")
        named = ids if ids is not None else [None] * len(data)
        options = Options(queue, priority, delay, scheduled_at, tags)
        news = [
            new_execution(definition, item, id, options, parts.codec, parts.payload_bytes_max)
            for item, id in zip(data, named, strict=True)
        ]
        writes = [parts.commit.write(parts.births.of(new), new.execution_id, new.row(), len(new.input)) for new in news]
        # Whatever one of them meets, what was started is told to the workers before it is raised here.
        await asyncio.gather(*writes, return_exceptions=True)
        handles: list[Handle[Out]] = []
        errors: list[BaseException] = []
        for new, write in zip(news, writes, strict=True):
            try:
                created = await self._started(parts, new, await _refusable(write), on_conflict)
            except Exception as error:
                errors.append(error)
                continue
            id_ = shown_id(new.execution_id, new.name)
            handles.append(Handle(self, id_, new.execution_id, definition.output_type, created))
        if errors:
            raise errors[0]
        return handles

    # --- Ask ------------------------------------------------------------------------------------------------------

    def handle(self, id: str, workflow: Workflow[Any, Out] | None = None) -> Handle[Out]:
        """A handle for an execution that was started elsewhere or before; *workflow* types its result."""
        parts = self.parts()
        result_type = Any if workflow is None else self._definition(parts, workflow).output_type
        return Handle(self, id, execution_uuid(id), result_type, False)

    async def get_execution(self, id: str, *, include_steps: bool = False) -> Execution:
        """The execution as it stands now, with its steps and their attempts if asked for. Raises `UnknownExecution`, and
        `StoreUnavailable` when PostgreSQL does not answer for about eight seconds; so do the other questions."""
        parts = self.parts()
        execution_id = execution_uuid(id)
        rows = await parts.executions.fetch("execution/get", execution_id)
        if not rows:
            raise _unknown(id)
        steps = None
        if include_steps:
            steps = steps_from(await self._journal(parts, execution_id), parts.codec)
        return execution_from(rows[0], parts.codec, steps)

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
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        if not 1 <= limit <= PAGE_MAX:
            raise UsageError(f"limit is {limit}. Give a number from 1 to {PAGE_MAX}, and page with cursor.")
        before, before_id = _read_cursor(cursor)
        arguments: list[Any] = [name, _statuses(status), before, before_id, limit]
        if tags:
            rows = await parts.executions.fetch("execution/list_tagged", *arguments, encode_tags(tags))
        else:
            rows = await parts.executions.fetch("execution/list", *arguments)
        items = [listed_from(row) for row in rows]
        return Page(items, _cursor(items[-1]) if len(items) == limit else None)

    async def wait_for_result(self, id: str, result_type: Any, timeout: float | timedelta | None) -> Any:
        """See `Handle.result`."""
        parts = self.parts()
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        async with asyncio.timeout(seconds):
            try:
                ended = await parts.waiter.wait(execution_uuid(id))
            except UnknownExecution:
                raise _unknown(id) from None  # which names it as the caller does
        if ended.status == Status.COMPLETED:
            return parts.codec.decode(ended.result or "null", result_type)
        if ended.status == Status.CANCELLED:
            raise ExecutionCancelled(id, ended.reason)
        raise ExecutionFailed(id, ended.status, msgspec.json.decode(ended.error or "{}", type=Failure))

    # --- Act ------------------------------------------------------------------------------------------------------

    async def cancel(self, id: str, reason: str | None = None, *, compensate: bool = False) -> bool:
        """Cancel an execution, wherever it stands: running steps are cancelled. Nothing is undone, unless *compensate*: then
        the compensations of its completed steps are run, and it ends `compensated` or `compensation_failed`; with nothing to
        undo it ends `cancelled` all the same.

        True when this call cancelled it, False when it had ended before, or is being compensated. Raises `UnknownExecution`,
        and `StoreUnavailable` when PostgreSQL does not answer for about eight seconds. If cancelled itself, it may have
        happened.
        """
        parts = self.parts()
        execution_id, sources = execution_uuid(id), stored_sources(Change.CANCEL)
        try:
            if compensate:
                row = await parts.executions.request_undo(execution_id, new_token(), reason or "", sources)
            else:
                row = await parts.executions.cancel(execution_id, new_token(), reason, sources)
        except asyncpg.DataError as error:
            raise UsageError(f"the reason of a cancellation cannot be stored: {error}") from error
        if row is None:
            raise _unknown(id)
        if row["changed"]:
            if row["claimed"]:
                parts.listener.send(TOLD, execution_id.hex)
                if parts.supervisor is not None:
                    parts.supervisor.claim_told(execution_id)
            elif compensate:
                self._announce(parts, row["queue"], None)
            if not compensate:
                self._tell_cancelled(parts, execution_id, reason, row["watchers"] or ())
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

        Events of one name are consumed in the order in which they were sent. Under one *dedupe_key* an execution gets an event
        of this name once. With *connection*, an asyncpg connection in a transaction of yours, the event is sent with its
        commit; *notify* tells workers then, else they find it by polling.

        True; False when it was sent before under this *dedupe_key*. Raises `UnknownExecution`, `ExecutionEnded`,
        `EncodeError`, `PayloadTooLarge`, `UsageError`. While PostgreSQL is away it waits (with *connection* it raises what
        asyncpg raises). If cancelled, the event may have been sent: give it a *dedupe_key* to be sure.
        """
        parts = self.parts()
        execution_id = execution_uuid(id)
        check_event_name(name)
        once = once_of(name, dedupe_key)
        text = encoded(payload, parts.codec, parts.payload_bytes_max)
        try:
            if connection is not None:
                return await post_in(connection, id, name, text, dedupe_key, notify=notify)  # type: ignore[arg-type]
            row = await parts.commit.write(
                DELIVERING, execution_id, (execution_id, f"{EVENT}{name}", once, text), len(text)
            )
        except asyncpg.exceptions.NoDataFoundError as error:
            raise _unknown(id) from error
        except asyncpg.exceptions.ObjectNotInPrerequisiteStateError as error:
            raise _ended(id) from error
        except asyncpg.DataError as error:
            raise EncodeError(f"PostgreSQL cannot store this event: {error}") from error
        assert row is not None, "a message always has an outcome"
        match row["outcome"]:
            case "unknown":
                raise _unknown(id)
            case "ended":
                raise _ended(id)
            case outcome:
                self._tell_of_mail(parts, execution_id, row["queue"])
                return outcome == "sent" or dedupe_key is None  # else it was this very call, whose reply was lost

    def _tell_of_mail(self, parts: Parts, execution_id: UUID, queue: str | None) -> None:
        if parts.supervisor is not None:
            parts.supervisor.woken(execution_id, queue)
        elif queue is not None:
            parts.listener.send(READY, queue)
        else:
            parts.listener.send(TOLD, execution_id.hex)

    def _tell_cancelled(self, parts: Parts, execution_id: UUID, reason: str | None, watchers: Sequence[UUID]) -> None:
        parts.waiter.ended(execution_id, Ended(Status.CANCELLED.value, reason=reason))
        for watcher in watchers:
            if watcher != parts.process:
                parts.listener.send(channel_of(watcher), f"{ENDED}{execution_id.hex}")

    # --- Ours -----------------------------------------------------------------------------------------------------

    def parts(self) -> Parts:
        """The running engine's parts. Raises `EngineNotRunning`."""
        raise NotImplementedError

    def _definition(self, parts: Parts, workflow: Workflow[Any, Any]) -> Definition:
        definition = workflow.definition
        if parts.definitions.get((definition.name, definition.version)) is not definition:
            raise UnknownWorkflow(
                f"this engine was not given workflow {definition.name!r} version {definition.version} ({definition.source}). "
                "Add it: Durable(..., workflows=[...])."
            )
        return definition

    def _begins_here(self, parts: Parts, definition: Definition, new: NewExecution, options: Options) -> bool:
        """Whether the execution can be claimed with its birth and run here at once; then a slot is reserved for it."""
        return parts.supervisor is not None and not options.put_off and parts.supervisor.reserve(definition, new.queue)

    async def _begin_here(
        self, parts: Parts, definition: Definition, new: NewExecution, on_conflict: OnConflict
    ) -> bool:
        supervisor = parts.supervisor
        assert supervisor is not None
        token = new.token = new_token()
        epoch = supervisor.epoch
        supervisor.under_way.add(token)
        write = parts.commit.write(supervisor.births.of(new), new.execution_id, new.row(), len(new.input))

        def born(done: asyncio.Future[Row | None]) -> None:
            # Whatever became of the caller meanwhile: what was claimed at birth must be run, or its slot be given back.
            supervisor.under_way.discard(token)
            row = None if done.cancelled() or done.exception() is not None else done.result()
            if row is None or not row["created"] or not supervisor.can_use(epoch):
                supervisor.unreserve(new.queue)
                return
            subject = Subject(
                shown_id(new.execution_id, new.name),
                definition.name,
                new.input,
                History(),
                json.loads(new.tags) if new.tags else {},
            )
            supervisor.begin(new.execution_id, token, new.queue, new.shape_id, subject, new.timeout)

        write.add_done_callback(born)
        row = await _refusable(asyncio.shield(write))
        if row["created"]:
            return True
        created = await self._recognised(parts, new, row, on_conflict)
        if created:  # by a first try whose reply was lost: the claim that it made is nobody's here
            await supervisor.release_stray(new.execution_id, token)
        return created

    async def _started(self, parts: Parts, new: NewExecution, row: Row, on_conflict: OnConflict) -> bool:
        """Settle a start that was written: tell the workers of a new execution, and the caller of an old one."""
        created = bool(row["created"]) or await self._recognised(parts, new, row, on_conflict)
        if created:
            self._announce(parts, new.queue, row["due_in"])
        return created

    def _announce(self, parts: Parts, queue: str, due_in: float | None) -> None:
        if due_in is None:
            if parts.supervisor is not None:
                parts.supervisor.became_ready(queue)
            else:
                parts.listener.send(READY, queue)
        elif parts.supervisor is not None:
            parts.supervisor.will_be_due(due_in)
        else:
            parts.listener.send(READY, TIMER)

    async def _recognised(self, parts: Parts, new: NewExecution, row: Row, on_conflict: OnConflict) -> bool:
        """Whether an execution that was found to exist is this very start's: it was committed, by somebody or by our own
        first try, after the statement had taken its snapshot."""
        workflow = row["existing_workflow"]
        if workflow is None:
            found = await parts.executions.fetch("execution/existing", new.execution_id)
            if found and found[0]["started_by"] == new.operation:
                return True
            workflow = found[0]["workflow"] if found else new.workflow
        return self._existing(new, workflow, on_conflict)

    def _existing(self, new: NewExecution, workflow: str | None, on_conflict: OnConflict) -> Literal[False]:
        shown = shown_id(new.execution_id, new.name)
        if workflow is not None and workflow != new.workflow:
            raise IdConflict(
                f"execution {shown!r} exists already, and is one of workflow {workflow!r}, not {new.workflow!r}."
            )
        if on_conflict == "error":
            raise IdConflict(f"execution {shown!r} exists already.")
        return False

    async def _journal(self, parts: Parts, execution_id: UUID) -> list[Row]:
        journal: list[Row] = []
        while True:
            after = journal[-1]["seq"] if journal else 0
            page = await parts.executions.fetch("journal/read", [execution_id], execution_id, after, PAGE_MAX)
            journal += page
            if len(page) < PAGE_MAX:
                return journal


def _unknown(id: str) -> UnknownExecution:
    return UnknownExecution(f"there is no execution {id!r}")


def _ended(id: str) -> ExecutionEnded:
    return ExecutionEnded(f"execution {id!r} has ended: nobody in it would read what is sent to it")


async def _refusable(write: asyncio.Future[Row | None]) -> Row:
    try:
        row = await write
    except asyncpg.DataError as error:
        raise EncodeError(f"PostgreSQL cannot store this start: {error}") from error
    assert row is not None, "a start always answers"
    return row


def _statuses(status: Status | str | Sequence[Status | str] | None) -> list[str]:
    if status is None:
        return [s.value for s in Status]
    given = [status] if isinstance(status, str) else list(status)
    try:
        return [Status(s).value for s in given]
    except ValueError as error:
        raise UsageError(f"{error}. The statuses are: {', '.join(Status)}.") from error


def _cursor(last: Execution) -> str:
    return base64.urlsafe_b64encode(f"{last.created_at.isoformat()}|{last.execution_id}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    if cursor is None:
        return None, None
    try:
        at, id = base64.urlsafe_b64decode(cursor).decode().split("|")
        return datetime.fromisoformat(at), UUID(id)
    except ValueError as error:
        raise UsageError("the cursor is not one that list_executions gave.") from error
