"""Start, ask, act: what an application calls. Nothing here runs a step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args
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
    NoPendingInput,
    UnknownExecution,
    UnknownWorkflow,
    UsageError,
)
from durable.following import Following, LifeEvent
from durable.ids import execution_uuid, new_token, shown_id
from durable.inbox import InputPage, input_from, page_from, place_after, read_request, refuse_wrong
from durable.model.answers import EVENT
from durable.model.definition import Definition
from durable.model.failure import Failure
from durable.model.inputs import InputType
from durable.model.names import check_name
from durable.model.status import Status
from durable.paging import PAGE_MAX, check_limit, read_cursor, write_cursor
from durable.request import Options, encode_tags, encoded, matchable, new_execution, once_of
from durable.runtime.canceller import Canceller
from durable.runtime.followers import Followers
from durable.runtime.herald import Herald
from durable.runtime.listener import READY, TIMER, Listener
from durable.runtime.supervisor import Supervisor
from durable.runtime.waiter import Waiter
from durable.store.connection import Row
from durable.store.executions import Births, Executions, NewExecution, notify_in, start_in
from durable.store.group_commit import GroupCommit, Kind
from durable.store.messages import ANSWERING, DELIVERING, EMITTING, emit_in, post_in
from durable.view import Execution, Page, execution_from, listed_from, page_of_executions, place_before, steps_from

In = TypeVar("In")
Out = TypeVar("Out")

OnConflict: TypeAlias = Literal["return", "error"]


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
    followers: Followers
    herald: Herald
    canceller: Canceller
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

    def events(self, after: str | None = None) -> AsyncIterator[LifeEvent]:
        """See `Client.events`."""
        return self._client.events(self.id, after)

    async def provide_input(
        self, name: str, value: Any = None, *, by: str | None = None, number: int | None = None
    ) -> None:
        """See `Client.provide_input`."""
        await self._client.provide_input(self.id, name, value, by=by, number=number)

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
        """The execution as it stands now, with its steps, their attempts, and what they have asked people, if wanted.

        Raises `UnknownExecution`, and `StoreUnavailable` when PostgreSQL does not answer for about eight seconds; so do the
        other questions."""
        parts = self.parts()
        execution_id = execution_uuid(id)
        rows = await parts.executions.fetch("execution/get", execution_id)
        if not rows:
            raise _unknown(id)
        execution = execution_from(rows[0], parts.codec)
        if not include_steps:
            return execution
        steps = steps_from(await self._journal(parts, execution_id), parts.codec)
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
        after = None if cursor is None else UUID(read_cursor(cursor, "list_children", 1)[0])
        rows = await parts.executions.fetch("child/list", execution_uuid(id), after, limit)
        items = [listed_from(row) for row in rows]
        return Page(items, write_cursor(items[-1].execution_id) if len(items) == limit else None)

    def events(self, id: str, after: str | None = None) -> AsyncIterator[LifeEvent]:
        """The life of an execution as it goes on, until it has ended: its steps, what they wait for, their progress, and the
        chunks of their streams. From its beginning, or *after* the `position` of an event that was seen before.

        New events are pushed; at the latest they are found within a second or two. Raises `UnknownExecution`, `UsageError` and
        `StoreUnavailable` while it is iterated. Stop by leaving the loop; that changes nothing for the execution.
        """
        parts = self.parts()
        execution_id = execution_uuid(id)
        return Following(parts.executions, parts.followers, parts.codec, execution_id, id).events(after)

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
        undo it ends `cancelled` all the same. Its children are cancelled, too, in the same way and a moment later.

        True when this call cancelled it, False when it had ended before, or is being compensated. Raises `UnknownExecution`,
        and `StoreUnavailable` when PostgreSQL does not answer for about eight seconds. If cancelled itself, it may have
        happened.
        """
        parts = self.parts()
        try:
            row = await parts.canceller.cancel(execution_uuid(id), reason, compensate=compensate)
        except asyncpg.DataError as error:
            raise UsageError(f"the reason of a cancellation cannot be stored: {error}") from error
        if row is None:
            raise _unknown(id)
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
            raise _unknown(id)
        if outcome == "ended":
            raise _ended(id)
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
        `PayloadTooLarge`. While PostgreSQL is away it waits. If cancelled, it may have been answered.
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
            raise _unknown(id)
        (row,) = found
        if row["ended"]:
            raise _ended(id)
        if row["seq"] is None:
            raise NoPendingInput(f"execution {id!r} asks nothing named {name!r} now. See list_pending_inputs().")
        refuse_wrong(id, name, read_request(row["request"], parts.codec), text, parts.codec)
        answer = (execution_id, row["seq"], new_token(), text, by)
        try:
            outcome = await self._send(parts, ANSWERING, execution_id, answer, len(text))
        except asyncpg.DataError as error:
            raise EncodeError(f"PostgreSQL cannot store this answer: {error}") from error
        if outcome == "ended":
            raise _ended(id)
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

    # --- Ours -----------------------------------------------------------------------------------------------------

    def parts(self) -> Parts:
        """The running engine's parts. Raises `EngineNotRunning`."""
        raise NotImplementedError

    @property
    def payload_bytes_max(self) -> int:
        """How big encoded input may be."""
        return self.parts().payload_bytes_max

    def result_type(self, workflow: str, version: int) -> Any:
        """What the executions of a workflow give; None when the engine does not know it."""
        definition = self.parts().definitions.get((workflow, version))
        return None if definition is None else definition.output_type

    def definition_of(self, workflow: Workflow[Any, Any]) -> Definition:
        """What the engine knows *workflow* as. Raises `UnknownWorkflow`."""
        return self._definition(self.parts(), workflow)

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
            if row["due_in"] is None:
                parts.herald.ready(new.queue)
            else:
                parts.herald.later(row["due_in"])
        return created

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


def _name_of(workflow: Workflow[Any, Any] | str | None) -> str | None:
    return workflow.name if isinstance(workflow, Workflow) else workflow
