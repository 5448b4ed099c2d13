"""Rows for tests that speak to the store directly: what an engine would write, without an engine.

Owns: executions in any place, the kinds of write with one owner, and what the tables say afterwards. A worker made here has
a row with a lease and nothing that runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID

from durable.ids import new_id, new_token
from durable.model.status import Change, stored_sources
from durable.store import claims
from durable.store.connection import Connection, Row, connect
from durable.store.executions import NewExecution, births
from durable.store.group_commit import Kind
from durable.store.messages import ANSWERING, DELIVERING, EMITTING
from durable.store.queries import load

SHAPE = 7
QUEUE = "default"
ENDING = stored_sources(Change.COMPLETE)
CANCELLING = stored_sources(Change.CANCEL)
WAKING = stored_sources(Change.WAKE)

PLACES = """
select name from (select execution_id, 'ready' as name from durable.ready
                  union all select execution_id, 'claim' from durable.claim
                  union all select execution_id, 'wake' from durable.wake
                  union all select execution_id, 'ended' from durable.ended) as place
 where execution_id = $1
"""


@asynccontextmanager
async def connections(dsn: str, count: int) -> AsyncIterator[list[Connection]]:
    """Connections as a worker opens them."""
    opened: list[Connection] = []
    try:
        for _ in range(count):
            opened.append(await connect(dsn, "test"))  # noqa: PERF401 - what was opened before one fails is closed
        yield opened
    finally:
        for connection in opened:
            connection.terminate()


async def run(connection: Connection, name: str, *arguments: object) -> list[Row]:
    """Run a query file."""
    return await connection.fetch(load(name).sql, *arguments)


async def send(connection: Connection, kind: Kind, *rows: tuple[Any, ...]) -> list[Row]:
    """Write rows of one kind, as a flush does."""
    query, arguments = kind.statement(rows)
    return await connection.fetch(query.sql, *arguments)


class Worker:
    """An owner of claims, with its kinds of write. While `plainly`, those it has two statements for are the plain ones."""

    plainly: ClassVar[bool] = False

    def __init__(self) -> None:
        self.id = new_token()
        starts = births(self.id)
        self.start, self.start_plain = starts.generated, starts.plain
        self.record = claims.recording(self.id)
        self.record_plain = claims.recording_plainly(self.record)
        self.finish = claims.finishing(self.id, ENDING)
        self.finish_plain = claims.finishing_plainly(self.finish)
        if self.plainly:
            self.start, self.record, self.finish = self.start_plain, self.record_plain, self.finish_plain
        self.suspend = claims.suspending(self.id, stored_sources(Change.SUSPEND), "waiting")
        self.compact = claims.compacting(self.id)
        self.begin_ending = claims.beginning_to_end(self.id, stored_sources(Change.BEGIN_ENDING))
        self.finish_ending = claims.finishing(self.id, stored_sources(Change.FINISH_ENDING))
        self.adopt = claims.adopting()
        self.answer = claims.answering(self.id)
        self.deliver = DELIVERING
        self.ask = claims.asking(self.id)
        self.close = claims.closing(self.id)
        self.bear = claims.bearing(self.id)
        self.give_up = claims.giving_up(self.id)
        self.go_on = claims.continuing(self.id)
        self.subscribe = claims.subscribing(self.id)
        self.unsubscribe = claims.unsubscribing(self.id)
        self.emit = EMITTING
        self.stream = claims.streaming()
        self.provide = ANSWERING
        self.hold = claims.holding()
        self.release = claims.releasing()

    async def register(self, connection: Connection, lease: float = 60.0) -> Worker:
        """Write its row, with a lease of so many seconds; a negative one has lapsed already."""
        await run(connection, "worker/register", self.id, lease, "host", 1)
        return self

    async def take(
        self, connection: Connection, want: int = 10, token: UUID | None = None, plain: bool | None = None
    ) -> list[Row]:
        """Claim what is ready; if *plain*, nothing special."""
        if self.plainly if plain is None else plain:
            rows = await run(
                connection, "claim/take_plain", self.id, token or new_token(), [QUEUE], [want], [SHAPE], True
            )
            return [row for row in rows if row["parked"] is False]
        return await run(
            connection,
            "claim/take",
            self.id,
            token or new_token(),
            [QUEUE],
            [want],
            [SHAPE],
            1,
            [SHAPE],
            [SHAPE],
            [True],
        )

    async def born(self, connection: Connection, count: int = 1) -> list[tuple[UUID, UUID]]:
        """Executions claimed at birth: ids with tokens, in order of id."""
        news = [new(token=new_token()) for _ in range(count)]
        await send(connection, self.start, *(n.row() for n in news))
        return sorted((n.execution_id, n.token) for n in news if n.token is not None)


def new(
    execution_id: UUID | None = None,
    *,
    token: UUID | None = None,
    delay: float | None = None,
    input: str = "{}",
    workflow: str = "flow",
) -> NewExecution:
    """A start, with a new id and a new operation."""
    return NewExecution(
        execution_id=execution_id or new_id(),
        name=None,
        operation=new_token(),
        shape_id=SHAPE,
        workflow=workflow,
        version=1,
        queue=QUEUE,
        priority=0,
        tags=None,
        input=input,
        scheduled_at=None,
        delay=delay,
        timeout=None,
        chosen_id=execution_id is not None,
        token=token,
    )


def recorded(execution_id: UUID, token: UUID, seq: int = 1, value: str = '{"by": "step"}') -> tuple[Any, ...]:
    """A row of `journal/record`."""
    return (execution_id, token, seq, f"step{seq}", "completed", 1, value, None, None, 0.5, None, None, None)


def finished(execution_id: UUID, token: UUID, seq: int | None = 1, parent: UUID | None = None) -> tuple[Any, ...]:
    """A row of `execution/finish`, with a last record, or with seq=None without one; told to its parent."""
    last = (None,) * 7 if seq is None else (seq, f"step{seq}", "completed", 1, '{"done": true}', None, 0.5)
    told = (parent, f"child:{execution_id}", '{"status":"completed","result":1}', None, True)
    family = (None,) * 5 if parent is None else told
    return (execution_id, token, "completed", seq or 0, None, *last, None, *family)


def failed(execution_id: UUID, token: UUID) -> tuple[Any, ...]:
    """A row of `execution/finish` that says that it has failed."""
    failure = '{"type":"E","message":"no"}'
    last = (1, "step1", "failed", 1, None, failure, 0.5)
    return (execution_id, token, "failed", None, failure, *last, None, *(None,) * 5)


def born(execution_id: UUID, token: UUID, child: UUID, seq: int = 30, kind: str = "waiting") -> tuple[Any, ...]:
    """A row of `child/bear`."""
    effect = (seq, "step", kind, 1, f'"{child}"', None, f'child:"flow"#{seq}')
    return (execution_id, token, *effect, child, SHAPE, "flow", 1, QUEUE, 0, None, "{}", None, None)


def subscribed(execution_id: UUID, token: UUID, seq: int = 50) -> tuple[Any, ...]:
    """A row of `emission/subscribe`."""
    return (execution_id, token, seq, "step", 1, 60.0, f'match:"go":{seq}#1', "go", '{"a": 1}', 60.0)


def unsubscribed(execution_id: UUID, token: UUID, seq: int = 51) -> tuple[Any, ...]:
    """A row of `emission/expire`."""
    return (execution_id, token, seq, "step", 1, None, 'match:"go":50#1', 50)


def emitted(operation: UUID, a: int = 1) -> tuple[Any, ...]:
    """A row of `emission/emit`."""
    return (operation, operation, "go", f'{{"a": {a}}}', f'{{"a": {a}}}')


def streamed(execution_id: UUID, token: UUID, run: UUID, number: int = 1) -> tuple[Any, ...]:
    """A row of `stream/send`."""
    return (execution_id, token, run, number, 1, "chunk", "step", None, '"part"')


def continued(execution_id: UUID, token: UUID, seq: int = 40) -> tuple[Any, ...]:
    """A row of `journal/continue`."""
    return (execution_id, token, seq, 1, "{}", "{}")


def given_up(execution_id: UUID, token: UUID, child: UUID, seq: int = 31) -> tuple[Any, ...]:
    """A row of `child/expire`."""
    return (execution_id, token, seq, "step", 1, None, f'child:"flow"#{seq}', child)


def suspended(
    execution_id: UUID,
    token: UUID,
    seq: int | None = 1,
    delay: float | None = 60.0,
    seen: int | None = None,
    topics: str | None = None,
) -> tuple[Any, ...]:
    """A row of `execution/suspend`, with a failed attempt to record, or with seq=None without one. *topics* wake it, as an
    array: {event:go}, if they come after the message that was *seen*."""
    last = (None,) * 8 if seq is None else (seq, "step", "failed", seq, None, '{"type": "E"}', delay, 0.5)
    return (execution_id, token, delay, *last, seen, topics)


def sent(execution_id: UUID, once: str = "o", topic: str = "event:go") -> tuple[Any, ...]:
    """A row of `message/deliver`."""
    return (execution_id, topic, once, '{"sent": true}')


def answered(execution_id: UUID, token: UUID, seq: int = 10, numbers: str = "{1}") -> tuple[Any, ...]:
    """A row of `journal/answer`."""
    return (execution_id, token, seq, "step", 1, '[["event:go",{"sent":true}]]', "event:go#1", numbers, None)


def asked(execution_id: UUID, token: UUID, seq: int = 20) -> tuple[Any, ...]:
    """A row of `input/ask`."""
    return (
        execution_id,
        token,
        seq,
        "step",
        1,
        3600.0,
        f'input:"why"#{seq}',
        "why",
        "text",
        60.0,
        '{"type":"text","schema":{}}',
    )


def provided(execution_id: UUID, operation: UUID, seq: int = 20) -> tuple[Any, ...]:
    """A row of `input/answer`."""
    return (execution_id, seq, operation, '"so"', "ada")


def expired(execution_id: UUID, token: UUID, seq: int = 21, asked: int = 20) -> tuple[Any, ...]:
    """A row of `input/expire`."""
    return (execution_id, token, seq, "step", 1, None, f'input:"why"#{asked}', asked)


def iterated(execution_id: UUID, token: UUID, seq: int = 9, drops: str = "{1,2}") -> tuple[Any, ...]:
    """A row of `journal/compact`."""
    return (execution_id, token, seq, "loop", 1, '{"round": 1}', drops, None, None)


def failing(execution_id: UUID, token: UUID, seq: int = 8) -> tuple[Any, ...]:
    """A row of `execution/begin_ending`."""
    return (execution_id, token, seq, '{"type": "E"}')


def adopted(execution_id: UUID, token: UUID) -> tuple[Any, ...]:
    """A row of `execution/adopt`."""
    return (execution_id, token, SHAPE + 1)


def held(execution_id: UUID, token: UUID) -> tuple[Any, ...]:
    """A row of `claim/hold`."""
    return (execution_id, token, f"{{{SHAPE + 1}}}", "expected a, found b", False)


async def cancel(connection: Connection, execution_id: UUID, operation: UUID) -> Row | None:
    """Cancel in one transaction, as a client does."""
    async with connection.transaction():
        if not await run(connection, "execution/lock", execution_id):
            return None  # what is not locked may be started, and claimed, at this moment
        await run(connection, "execution/displace", execution_id, CANCELLING)
        (row,) = await run(connection, "execution/cancel", execution_id, operation, None, CANCELLING)
        if row["changed"]:
            await run(connection, "child/tell", execution_id, '{"status":"cancelled"}', "why")
    return row


async def places(connection: Connection, execution_id: UUID) -> list[str]:
    """Where an execution stands: one place, if all is well."""
    return [row["name"] for row in await connection.fetch(PLACES, execution_id)]


async def journal(connection: Connection, execution_id: UUID) -> list[tuple[int, UUID]]:
    """What is recorded: the numbers of the records, and which worker wrote them."""
    query = "select seq, worker_id from durable.journal where execution_id = $1 order by seq"
    return [(row["seq"], row["worker_id"]) for row in await connection.fetch(query, execution_id)]
