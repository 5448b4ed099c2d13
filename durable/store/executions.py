"""Executions as rows: start, read, list, watch, cancel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar, cast
from uuid import UUID

import asyncpg
import msgspec

from durable.errors import EngineNotRunning, StoreUnavailable, UsageError
from durable.model.answers import ChildEnd
from durable.model.status import Status
from durable.store.connection import (
    AGAIN,
    LOST,
    REPLY_SECONDS,
    Connection,
    Pooled,
    Row,
    backoff,
    borrowed,
    columns,
    log_lost,
    refuse_pooler,
)
from durable.store.group_commit import Kind
from durable.store.queries import load

T = TypeVar("T")

# Plans for the values at hand: a list of few statuses and one of all must not share a plan, nor its price.
NAME = {"application_name": "durable client"}
SETTINGS = {
    "default_transaction_isolation": "read committed",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "timezone": "UTC",
    # A client that freezes within a transaction must not hold up the workers for longer.
    "idle_in_transaction_session_timeout": "10s",
}

Acted: TypeAlias = tuple[Row, Row | None]
"""What an act on an execution gives: its row, and if it has changed something that of its family (``child/tell``)."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is kept of a cancellation that somebody asked for."""

    by: str | None
    compensate: bool


POOL_CONNECTIONS = 4
TRIES = 12  # with the pauses between them about eight seconds: a restart of PostgreSQL, not an outage


@dataclass(slots=True)
class NewExecution:
    """A row to be started. `token` claims it at birth; without one it is made ready, or sleeps until it is due."""

    execution_id: UUID
    name: str | None
    operation: UUID
    shape_id: int
    workflow: str
    version: int
    queue: str
    priority: int
    tags: str | None
    input: str
    scheduled_at: datetime | None
    delay: float | None
    timeout: float | None
    chosen_id: bool
    key: str | None = None
    token: UUID | None = None

    def row(self) -> tuple[object, ...]:
        """The arguments of ``execution/start`` for this row."""
        return (
            self.execution_id,
            self.name,
            None if self.operation is self.execution_id else self.operation,
            self.shape_id,
            self.workflow,
            self.version,
            self.queue,
            self.priority,
            self.tags,
            self.input,
            self.scheduled_at,
            self.delay,
            self.timeout,
            self.token,
            self.key,
        )


@dataclass(frozen=True, slots=True)
class Births:
    """The writes that start executions, claimed for one owner where they have a token."""

    plain: Kind
    generated: Kind
    chosen: Kind

    def of(self, new: NewExecution, *, plain: bool) -> Kind:
        """A start under an id of the caller's may meet the same id in a transaction that is open for long. *plain*: as far as
        is known, its queue has neither limits nor keys."""
        if new.chosen_id:
            return self.chosen
        return (
            self.plain
            if plain and new.delay is None and new.scheduled_at is None and new.key is None
            else self.generated
        )


def births(owner: UUID) -> Births:
    """Make them once and keep them: writes are combined by kind."""
    query = load("execution/start")
    generated = Kind(query, owner, False, lane="any")
    plain = generated.plain(load("execution/start_plain"), (owner,), otherwise=True, lone=load("execution/start_lone"))
    return Births(plain, generated, Kind(query, owner, True, lane="apart"))


async def start_in(connection: Connection, new: NewExecution, owner: UUID) -> Row:
    """Start one execution in the caller's own transaction."""
    query = load("execution/start")
    rows = await connection.fetch(query.sql, *columns(query, [new.row()]), owner, new.chosen_id)
    return rows[0]


async def existing_in(connection: Connection, execution_id: UUID) -> str | None:
    """The workflow of an execution that was committed while a start of it waited for that, as the caller's own transaction sees
    it now."""
    rows = await connection.fetch(load("execution/existing").sql, execution_id)
    return rows[0]["workflow"] if rows else None


async def notify_in(connection: Connection, channel: str, payload: str) -> None:
    """Send a notification with the caller's own commit."""
    await connection.fetch(load("notify/send").sql, [channel], [payload])


async def _nothing(_: object) -> None:
    """No session state is ever changed, so there is nothing to reset when a connection goes back: a round trip less."""


class Executions:
    """Reads, and acts from outside, over a small pool. *lock_timeout*, as PostgreSQL takes it, bounds each wait for a lock."""

    def __init__(self, dsn: str, lock_timeout: str = "0") -> None:
        self._dsn = dsn
        self._settings = SETTINGS | {"lock_timeout": lock_timeout}
        self._pooled = isinstance(dsn, Pooled)
        self._pool: asyncpg.Pool[Row] | None = None
        self._closed = False

    async def fetch(self, name: str, *arguments: object) -> list[Row]:
        """Run one statement that may be repeated. Raises `StoreUnavailable` when PostgreSQL does not answer in time, and
        `UsageError` when it cannot take an argument."""
        query = load(name)
        try:
            return await self._surely(lambda connection: connection.fetch(query.sql, *arguments))
        except asyncpg.DataError as error:
            if str(error).startswith("durable: "):  # so says a function of ours, and what is wrong
                raise
            raise UsageError(f"PostgreSQL cannot take what was given: {error}") from error

    async def cancel(
        self, execution_id: UUID, operation: UUID, reason: str | None, sources: list[str], note: Note | None = None
    ) -> Acted | None:
        """Cancel in one transaction; None when there is no such execution. Raises like `fetch`."""
        arguments = (execution_id, operation, reason, sources)
        told = msgspec.json.encode(ChildEnd(Status.CANCELLED.value, reason=reason)).decode()
        return await self._displaced("execution/cancel", arguments, told, note)

    async def request_undo(
        self, execution_id: UUID, operation: UUID, reason: str, sources: list[str], note: Note | None = None
    ) -> Acted | None:
        """Ask in one transaction that it be ended and undone; None when there is no such execution. Its children hear of it
        when that begins. Raises like `fetch`."""
        return await self._displaced("execution/request_undo", (execution_id, operation, reason, sources), None, note)

    async def retry(
        self, execution_id: UUID, operation: UUID, by: str | None, reason: str | None, sources: list[str]
    ) -> Row | None:
        """Have one that has failed go on, in one transaction; None when there is no such execution. Raises like `fetch`."""

        async def act(connection: Connection) -> Row | None:
            async with self._transaction(connection):
                if await connection.fetchrow(load("execution/lock").sql, execution_id) is None:
                    return None
                return await connection.fetchrow(load("act/retry").sql, execution_id, operation, by, reason, sources)

        return await self._surely(act)

    async def hold(
        self, kind: Literal["pause", "resume"], execution_id: UUID, operation: UUID, by: str | None, reason: str | None
    ) -> Row | None:
        """Pause or resume in one transaction; None when there is no such execution. Raises like `fetch`."""
        first, second = ("act/park", "act/pause") if kind == "pause" else ("act/unpark", "act/resume")

        async def act(connection: Connection) -> Row | None:
            async with self._transaction(connection):
                if await connection.fetchrow(load("execution/lock").sql, execution_id) is None:
                    return None
                await connection.fetch(load(first).sql, execution_id, operation)
                return await connection.fetchrow(load(second).sql, execution_id, operation, by, reason)

        return await self._surely(act)

    def _transaction(self, connection: Connection) -> AbstractAsyncContextManager[object]:
        return nullcontext() if self._pooled else connection.transaction()  # over a pooler it is in one

    async def _displaced(
        self, name: str, arguments: tuple[UUID, UUID, str | None, list[str]], told: str | None, note: Note | None
    ) -> Acted | None:
        """Lock an execution, take it out of the places where it waits, act on it by the statement *name*, and tell its family,
        if there is something *told* of it: the parent, and its children, which are doomed."""
        execution_id, operation, reason, sources = arguments

        async def act(connection: Connection) -> Acted | None:
            async with self._transaction(connection):
                locked = await connection.fetchrow(load("execution/lock").sql, execution_id)
                if locked is None:
                    return None
                if locked["undo"] is None:  # else a worker is to hear of that, wherever it stands
                    await connection.fetch(load("execution/displace").sql, execution_id, sources)
                row = await connection.fetchrow(load(name).sql, *arguments)
                assert row is not None, "what is locked is there"
                if row["changed"] and note is not None:
                    details = json.dumps({"compensate": True}) if note.compensate else None
                    await connection.fetch(
                        load("act/note").sql, execution_id, operation, "cancel", note.by, reason, details
                    )
                if not row["changed"] or told is None:
                    return row, None
                family = await connection.fetchrow(
                    load("child/tell").sql, execution_id, told, "its parent was cancelled"
                )
                return row, family

        return await self._surely(act)

    async def _surely(self, act: Callable[[Connection], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            if self._closed:
                raise EngineNotRunning("the engine was closed while something was asked of it")
            try:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._dsn,
                        min_size=0,
                        max_size=POOL_CONNECTIONS,
                        command_timeout=REPLY_SECONDS,
                        server_settings=NAME if self._pooled else NAME | self._settings,
                        reset=_nothing,
                        statement_cache_size=0 if self._pooled else 100,
                    )
                async with self._pool.acquire() as acquired:
                    connection = cast(Connection, acquired)
                    if not self._pooled:
                        return await act(connection)
                    async with borrowed(connection, self._settings):
                        return await act(connection)
            except (*LOST, *AGAIN) as error:
                refuse_pooler(error)
                attempt += 1
                if attempt == TRIES:
                    raise StoreUnavailable(f"PostgreSQL did not answer in {TRIES} tries: {error}") from error
                log_lost("client", attempt, error)
                await asyncio.sleep(backoff(attempt))

    async def close(self) -> None:
        """Close the pool. Whoever asks for something now, or has no answer yet, gets `EngineNotRunning`."""
        self._closed = True
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None
