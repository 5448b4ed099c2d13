"""The calls that start executions."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
from durable.request import Draft, Options, draft_of, encoded, key_of
from durable.runtime.listener import READY, TIMER
from durable.store.connection import Row
from durable.store.executions import NewExecution, existing_in, notify_in, start_in

In = TypeVar("In")
Out = TypeVar("Out")

AT_ONCE = 250  # of many starts that are made in a turn of the loop: else the lanes wait for the next ones
# What is settled is let go: rows that wait to be looked at cost the garbage collector more than all else that is done here.
UNDER_WAY = 2_000
PATIENCE = (
    0.1  # seconds for which the oldest of them is waited for: it may be held up by somebody's transaction, and it alone
)

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
        options = Options(queue, priority, delay, scheduled_at, tags)
        draft = _draft(parts, definition, options)
        text = encoded(data, parts.codec, parts.payload_bytes_max, definition.input_type)
        new = draft.execution(text, id, key_of(draft.queue, data, key, parts.queues))
        if connection is not None:
            row = await start_in(connection, new, parts.process)  # type: ignore[arg-type]
            if notify and row["created"]:
                message = TIMER if row["due_in"] is not None else new.queue
                await notify_in(connection, READY, message)  # type: ignore[arg-type]
            check_refused(new, row)
            created = bool(row["created"])
            if not created:
                found = row["existing_workflow"] or await existing_in(connection, new.execution_id)  # type: ignore[arg-type]
                self._existing(new, found, on_conflict)
        elif self._begins_here(parts, draft):
            created = await self._begin_here(parts, draft, new, on_conflict)
        else:
            news = _News(parts, draft)
            row = await written_start(parts.write_start(new, parts.births))
            created = await self._started(parts, new, row, on_conflict, news)
            news.tell()
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
        options = Options(queue, priority, delay, scheduled_at, tags)
        # All is checked before anything is written. Then PostgreSQL works on the first ones while the next are made.
        draft = _draft(parts, definition, options)
        checked = self._checked(draft, data, named, key)
        under_way: deque[tuple[NewExecution, asyncio.Future[Row | None]]] = deque()
        handles: list[Handle[Out]] = []
        first_error: Exception | None = None
        news = _News(parts, draft)

        async def settle(left: int, patience: float | None) -> None:
            nonlocal first_error
            while len(under_way) > left:
                new, write = under_way[0]
                if not write.done():
                    news.tell()
                    await asyncio.wait((write,), timeout=patience)
                    if not write.done():
                        return
                under_way.popleft()
                try:
                    created = await self._started(parts, new, await written_start(write), on_conflict, news)
                except Exception as error:
                    first_error = first_error or error
                    continue
                id = shown_id(new.execution_id, new.name)
                handles.append(self.handle_of(id, new.execution_id, definition.output_type, created))
            news.tell()

        # Whatever one of them meets, what was started is told to the workers before it is raised here.
        try:
            for made, (text, turn, id) in enumerate(checked, 1):
                new = draft.execution(text, id, turn)
                under_way.append((new, parts.write_start(new, parts.births)))
                if made % AT_ONCE == 0:
                    await asyncio.sleep(0)
                    await settle(UNDER_WAY, PATIENCE)
            await settle(0, None)
        except BaseException:
            for _, write in under_way:
                write.cancel()
            news.hint()
            raise
        if first_error is not None:
            raise first_error
        return handles

    def _checked(
        self, draft: Draft, data: Sequence[Any], ids: Sequence[str | None], key: str | int | UUID | None
    ) -> Iterable[tuple[str, str | None, str | None]]:
        """Of each of *data* its JSON text, its turn and its id, which can all be kept. Raises like `start`."""
        parts = self.parts()
        for id in ids:
            if id is not None:
                execution_uuid(id)
        kind = draft.definition.input_type
        texts = [encoded(item, parts.codec, parts.payload_bytes_max, kind) for item in data]
        turns = [key_of(draft.queue, item, key, parts.queues) for item in data]
        return zip(texts, turns, ids, strict=True)

    def _begins_here(self, parts: Parts, draft: Draft) -> bool:
        """Whether the execution can be claimed with its birth and run here at once; then a slot is reserved for it."""
        return (
            parts.supervisor is not None
            and not draft.put_off
            and parts.supervisor.reserve(draft.definition, draft.queue)
        )

    async def _begin_here(self, parts: Parts, draft: Draft, new: NewExecution, on_conflict: OnConflict) -> bool:
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
                new.workflow,
                new.input,
                History(),
                json.loads(new.tags) if new.tags else {},
            )
            supervisor.begin(new.execution_id, token, new.queue, new.shape_id, subject, new.timeout)

        write.add_done_callback(born)
        row = await written_start(asyncio.shield(write))
        check_refused(new, row)
        news = _News(parts, draft)
        if row["claimed"]:
            news.count()
            return True
        if row["created"]:  # in a queue that has got limits since we looked
            supervisor.queues_changed()
            news.add(row["due_in"])
            news.tell()
            return True
        created = await self._recognised(parts, new, row, on_conflict)
        if created:  # by a first try whose reply was lost: the claim that it made is nobody's here
            await supervisor.release_stray(new.execution_id, token)
        return created

    async def _started(self, parts: Parts, new: NewExecution, row: Row, on_conflict: OnConflict, news: _News) -> bool:
        """Settle a start that was written: it is news of a new execution, or an old one, and the caller is told so."""
        check_refused(new, row)
        created = bool(row["created"]) or await self._recognised(parts, new, row, on_conflict)
        if created:
            news.add(row["due_in"])
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


def _draft(parts: Parts, definition: Definition, options: Options) -> Draft:
    draft = draft_of(definition, options)
    return draft if parts.tracing is None else replace(draft, tags=parts.tracing.tagged(draft.tags))


class _News:
    """What the starts of one call have brought: counted, and told to the workers once for many."""

    __slots__ = ("_created", "_draft", "_parts", "_ready", "_soonest")

    def __init__(self, parts: Parts, draft: Draft) -> None:
        self._parts = parts
        self._draft = draft
        self._created = 0
        self._ready = False
        self._soonest: float | None = None

    def add(self, due_in: float | None) -> None:
        """One was started, and is ready, or due in so many seconds."""
        self._created += 1
        if due_in is None:
            self._ready = True
        elif self._soonest is None or due_in < self._soonest:
            self._soonest = due_in

    def tell(self) -> None:
        """Tell what has come since the last time."""
        if self._created:
            self.count(self._created)
        if self._ready:
            self._parts.herald.ready(self._draft.queue)
        if self._soonest is not None:
            self._parts.herald.later(self._soonest)
        self._created, self._ready, self._soonest = 0, False, None

    def hint(self) -> None:
        """The same, and that there may be more: what was written and will not be looked at."""
        if self._draft.put_off:
            self._soonest = 0.0
        else:
            self._ready = True
        self.tell()

    def count(self, created: int = 1) -> None:
        """So many were started."""
        self._parts.meter.count(
            "durable_executions_started_total", (("workflow", self._draft.definition.name),), created
        )


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
    refused = row["refused"]
    if refused is None:
        return
    match refused:
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
