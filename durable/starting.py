"""The calls that start executions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from durable.authoring import Workflow
from durable.engine.journal import History, Subject
from durable.errors import EncodeError, IdConflict, QueueFull, UsageError
from durable.handle import Handle
from durable.ids import execution_uuid, new_token, shown_id
from durable.model.definition import Definition
from durable.parts import Calls, Parts
from durable.request import Options, encoded, execution_of, key_of, new_execution, queue_of
from durable.runtime.listener import READY, TIMER
from durable.store.connection import Row
from durable.store.executions import NewExecution, notify_in, start_in

In = TypeVar("In")
Out = TypeVar("Out")

AT_ONCE = 250  # of many starts that are made in a turn of the loop: else the lanes wait for the next ones

OnConflict: TypeAlias = Literal["return", "error"]


class Starting(Calls):
    """Starts executions."""

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
        key: str | int | UUID | None = None,
        connection: asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any] | None = None,
        notify: bool = True,
        on_conflict: OnConflict = "return",
    ) -> Handle[Out]:
        """Start an execution of *workflow* on *data*. When it returns, the execution is durable and will be run.

        *id* may be any string; the same id starts once, and a second start returns the existing execution (or raises
        `IdConflict` with ``on_conflict="error"``, or when it is another workflow's). *queue* and *priority* (higher first)
        override the workflow's. *delay* or *scheduled_at* (aware) put the beginning off. *tags* are JSON values by which
        lists can be filtered. *key* says whose turn it takes, in a queue with keys whose ``Queue(key=...)`` does not say so
        itself. With *connection*, an asyncpg connection in a transaction of yours, the start is part of that transaction;
        *notify* tells workers with its commit, else they find it by polling.

        Raises `EngineNotRunning`, `UnknownWorkflow`, `EncodeError`, `PayloadTooLarge`, `IdConflict`, `QueueFull`,
        `UsageError`. While PostgreSQL is away it waits (with *connection* it raises what asyncpg raises). If cancelled, the
        execution may have been started: give it an *id* to be sure.
        """
        parts = self.parts()
        definition = self.definition_of(workflow)
        options = Options(queue, priority, delay, scheduled_at, tags, key)
        new = new_execution(definition, data, id, options, parts.codec, parts.payload_bytes_max, parts.queues)
        if parts.tracing is not None:
            new.tags = parts.tracing.tagged(new.tags)
        if connection is not None:
            row = await start_in(connection, new, parts.process)  # type: ignore[arg-type]
            if notify and row["created"]:
                message = TIMER if row["due_in"] is not None else new.queue
                await notify_in(connection, READY, message)  # type: ignore[arg-type]
            check_refused(new, row)
            created = bool(row["created"]) or self._existing(new, row["existing_workflow"], on_conflict)
        elif self._begins_here(parts, definition, new, options):
            created = await self._begin_here(parts, definition, new, on_conflict)
        else:
            write = parts.write_start(new, parts.births)
            created = await self._started(parts, new, await written_start(write), on_conflict)
        return self.handle_of(shown_id(new.execution_id, new.name), new.execution_id, definition.output_type, created)

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
        key: str | int | UUID | None = None,
        on_conflict: OnConflict = "return",
    ) -> list[Handle[Out]]:
        """Start many executions of one workflow, in order, with few statements. See `start`.

        Not one transaction: when it raises, some may have been started; with *ids* (one for each of *data*) it can be
        repeated safely.
        """
        parts = self.parts()
        definition = self.definition_of(workflow)
        if ids is not None and len(ids) != len(data):
            raise UsageError(f"start_many was given {len(data)} items and {len(ids)} ids. Give one id for each item.")
        named = ids if ids is not None else [None] * len(data)
        options = Options(queue, priority, delay, scheduled_at, tags, key)
        # All is checked before anything is written. Then PostgreSQL works on the first ones while the next are made.
        checked = self._checked(definition, data, named, options)
        writes: list[asyncio.Future[Row | None]] = []
        made: list[NewExecution] = []
        for text, turn, id in checked:
            new = execution_of(definition, text, id, options, turn)
            if parts.tracing is not None:
                new.tags = parts.tracing.tagged(new.tags)
            made.append(new)
            writes.append(parts.write_start(new, parts.births))
            if len(writes) % AT_ONCE == 0:
                await asyncio.sleep(0)
        # Whatever one of them meets, what was started is told to the workers before it is raised here.
        handles: list[Handle[Out]] = []
        errors: list[BaseException] = []
        for new, write in zip(made, writes, strict=True):
            try:
                created = await self._started(parts, new, await written_start(write), on_conflict)
            except asyncio.CancelledError:
                for other in writes:
                    other.cancel()
                raise
            except Exception as error:
                errors.append(error)
                continue
            id_ = shown_id(new.execution_id, new.name)
            handles.append(self.handle_of(id_, new.execution_id, definition.output_type, created))
        if errors:
            raise errors[0]
        return handles

    def _checked(
        self, definition: Definition, data: Sequence[Any], ids: Sequence[str | None], options: Options
    ) -> list[tuple[str, str | None, str | None]]:
        """Of each of *data* its JSON text, its turn and its id, which can all be kept. Raises like `start`."""
        parts = self.parts()
        queue = queue_of(definition, options)
        for id in ids:
            if id is not None:
                execution_uuid(id)
        texts = [encoded(item, parts.codec, parts.payload_bytes_max, definition.input_type) for item in data]
        turns = [key_of(queue, item, options.key, parts.queues) for item in data]
        return list(zip(texts, turns, ids, strict=True))

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
        write = parts.write_start(new, supervisor.births)

        def born(done: asyncio.Future[Row | None]) -> None:
            # Whatever became of the caller meanwhile: what was claimed at birth must be run, or its slot be given back.
            supervisor.under_way.discard(token)
            row = None if done.cancelled() or done.exception() is not None else done.result()
            if row is None or not row["claimed"] or not supervisor.can_use(epoch):
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
        row = await written_start(asyncio.shield(write))
        check_refused(new, row)
        if row["claimed"]:
            self._count(parts, new)
            return True
        if row["created"]:  # in a queue that has got limits since we looked
            supervisor.queues_changed()
            return await self._started(parts, new, row, on_conflict)
        created = await self._recognised(parts, new, row, on_conflict)
        if created:  # by a first try whose reply was lost: the claim that it made is nobody's here
            await supervisor.release_stray(new.execution_id, token)
        return created

    async def _started(self, parts: Parts, new: NewExecution, row: Row, on_conflict: OnConflict) -> bool:
        """Settle a start that was written: tell the workers of a new execution, and the caller of an old one."""
        check_refused(new, row)
        created = bool(row["created"]) or await self._recognised(parts, new, row, on_conflict)
        if created:
            self._count(parts, new)
            if row["due_in"] is None:
                parts.herald.ready(new.queue)
            else:
                parts.herald.later(row["due_in"])
        return created

    def _count(self, parts: Parts, new: NewExecution) -> None:
        parts.meter.count("durable_executions_started_total", (("workflow", new.workflow),))

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


async def written_start(write: asyncio.Future[Row | None]) -> Row:
    """The answer of a start. Raises `EncodeError`."""
    try:
        row = await write
    except asyncpg.DataError as error:
        raise EncodeError(f"PostgreSQL cannot store this start: {error}") from error
    assert row is not None, "a start always answers"
    return row


def check_refused(new: NewExecution, row: Row) -> None:
    """Raise `QueueFull` or `UsageError`, if the queue has refused a start."""
    match row["refused"]:
        case "full":
            raise QueueFull(f"queue {new.queue!r} is full: its max_depth is reached. Try again later, or raise it.")
        case "key":
            raise UsageError(
                f"what is in queue {new.queue!r} takes turns by key. "
                "Give this engine the Queue(key=...) too, or the start a key=."
            )
        case "no_key":
            raise UsageError(
                f"queue {new.queue!r} has no keys, so that key={new.key!r} would change nothing. "
                f"Give it some: Durable(..., queues={{{new.queue!r}: Queue(per_key=...)}})."
            )
        case _:
            pass
