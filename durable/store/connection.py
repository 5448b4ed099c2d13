"""Connections: how they are opened, what a lost one looks like, and one that mends itself.

Owns the settings that keep plans stable and the list of errors after which the outcome of a statement is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import asyncpg

from durable.errors import ConfigurationError
from durable.store.queries import Query, load

log = logging.getLogger("durable.store")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = asyncpg.Record


class Named(Protocol):
    """Values by name: a row, or what has come as JSON with the names of one."""

    def __getitem__(self, name: str, /) -> Any: ...


# One generic plan per statement, made of index scans: planning each flush anew would cost more than running it, and a plan
# made while a hot table was empty must not turn into a scan of a full one.
SETTINGS = {
    "default_transaction_isolation": "read committed",  # statements count on seeing what was committed while they waited
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "timezone": "UTC",
}

# A process that freezes within a transaction over a pooler must not keep its locks.
BORROWED = {"idle_in_transaction_session_timeout": "3s"}

BACKOFF_MIN = 0.02  # seconds; a PostgreSQL that restarts is back within tenths
BACKOFF_MAX = 1.0
REPLY_SECONDS = 15.0  # without a reply for so long a connection counts as lost: half-open sockets say nothing

# After these the statement may have committed or not. InternalClientError is what asyncpg can raise when a backend was
# terminated under it.
LOST: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.IdleSessionTimeoutError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.QueryCanceledError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a name that still leads to a server which was demoted
)
# These are answers: the statement did nothing, and is worth sending again.
AGAIN: tuple[type[BaseException], ...] = (
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.LockNotAvailableError,
)
# These too, but sending it again would not help: PostgreSQL cannot store this data.
REFUSED: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class Pooled(str):
    """A DSN that leads to a pooler which lends a server connection for one transaction (PgBouncer in transaction mode): what is
    set or prepared in one transaction is not there in the next."""

    __slots__ = ()


async def connect(
    dsn: str, purpose: str, reply_seconds: float | None = None, more: Mapping[str, str] | None = None
) -> Connection:
    """Open a connection for *purpose*, which is shown in pg_stat_activity, with *more* settings than `SETTINGS`. Raises what
    asyncpg raises."""
    reply_seconds = REPLY_SECONDS if reply_seconds is None else reply_seconds
    name = {"application_name": f"durable {purpose}"}
    if isinstance(dsn, Pooled):
        return await asyncpg.connect(dsn, server_settings=name, timeout=reply_seconds, statement_cache_size=0)
    settings = name | _settings(reply_seconds, more)
    return await asyncpg.connect(dsn, server_settings=settings, timeout=reply_seconds, max_cached_statement_lifetime=0)


def _settings(reply_seconds: float, more: Mapping[str, str] | None) -> dict[str, str]:
    # The server gives up before we do: backends that went on waiting for a lock after we had left would pile up.
    return SETTINGS | {"statement_timeout": f"{int(reply_seconds * 900)}ms"} | dict(more or {})


@contextlib.asynccontextmanager
async def borrowed(connection: Connection, settings: Mapping[str, str]) -> AsyncGenerator[None]:
    """A transaction over a pooler, with *settings* that hold for it alone. A statement must not be sent outside of one: asyncpg
    prepares it first, and could be lent another server connection to run it."""
    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        await connection.fetch(
            load("database/settings").sql, [*settings, *BORROWED], [*settings.values(), *BORROWED.values()]
        )
        yield
    except (*LOST, asyncio.CancelledError):
        raise  # the connection is dropped
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


def refuse_pooler(error: BaseException) -> None:
    """Raise `ConfigurationError` if *error* is what a pooler says that we were not told of."""
    if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
        raise ConfigurationError(
            f"the DSN leads to a pooler, not to PostgreSQL: {error}. Give Durable(listener_dsn=...) too, which leads past it."
        ) from error


def backoff(attempt: int) -> float:
    """The pause before try number *attempt* (from 1), in seconds, spread so that many clients do not come as one crowd."""
    return min(BACKOFF_MIN * 2 ** min(attempt - 1, 16), BACKOFF_MAX) * random.uniform(0.5, 1.0)


class Link:
    """One connection that is opened again when it was lost. Its users take turns.

    *on_resent* is called when a statement that had to be sent more than once has its answer: what it did, it may have done
    at the first time, and told in a reply that nobody has read.
    """

    def __init__(
        self,
        dsn: str,
        purpose: str,
        reply_seconds: float | None = None,
        on_resent: Callable[[], None] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._dsn = dsn
        self._purpose = purpose
        self._reply_seconds = REPLY_SECONDS if reply_seconds is None else reply_seconds
        self._on_resent = on_resent
        self._more = more
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._sent_at: float | None = None
        self._watched = False

    async def fetch(self, query: Query, *arguments: Any) -> list[Row]:
        """Run one statement once. When it raises one of `LOST`, the outcome is unknown, and the next call connects anew."""
        async with self._turn:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._connected()
            self._be_watched()
            try:
                if not isinstance(self._dsn, Pooled):
                    return await connection.fetch(query.sql, *arguments)
                async with borrowed(connection, _settings(self._reply_seconds, self._more)):
                    return await connection.fetch(query.sql, *arguments)
            except asyncio.CancelledError:  # the protocol may be in the middle of a reply
                self._drop()
                raise
            except LOST as error:
                self._drop()
                if self._sent_at is None:  # so it was broken off below
                    raise TimeoutError(f"no reply within {self._reply_seconds:g} s") from error
                raise
            finally:
                self._sent_at = None

    def _be_watched(self) -> None:
        self._sent_at = self._loop.time()
        if not self._watched:
            self._watch_in(self._reply_seconds)

    def _watch_in(self, seconds: float) -> None:
        self._watched = True
        self._loop.call_later(seconds, self._watch)

    def _watch(self) -> None:
        """Break the connection off if the reply is overdue. One timer looks after many statements: to set one for each, and to
        take it back, is a good part of what a short statement costs here."""
        self._watched = False
        if self._sent_at is None:
            return
        left = self._sent_at + self._reply_seconds - self._loop.time()
        if left > 0:
            self._watch_in(left)
        else:
            self._sent_at = None
            self._drop()

    async def _connected(self) -> Connection:
        """A new connection. Whatever keeps us from one counts as lost: an engine that has begun has been let in before, and a
        password that is being changed, or a database that is being moved, comes back."""
        try:
            return await connect(self._dsn, self._purpose, self._reply_seconds, self._more)
        except asyncpg.PostgresError as error:
            if isinstance(error, LOST):
                raise
            raise ConnectionError(f"PostgreSQL refuses the connection: {error}") from error

    async def execute(self, statement: str) -> None:
        """Run a statement that PostgreSQL itself has written, of those that can take no parameters. It may take long."""
        async with self._turn:
            connection = await asyncpg.connect(
                self._dsn, server_settings={"application_name": f"durable {self._purpose}"}
            )
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

    async def fetch_surely(self, query: Query, *arguments: Any) -> list[Row]:
        """Run a statement that may be repeated until an answer comes, however long PostgreSQL is away."""
        attempt = 0
        while True:
            try:
                rows = await self.fetch(query, *arguments)
            except (*LOST, *AGAIN) as error:
                attempt += 1
                log_lost(self._purpose, attempt, error)
                await asyncio.sleep(backoff(attempt))
            else:
                if attempt and self._on_resent is not None:
                    self._on_resent()
                return rows

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close the connection; never raises for a server that is gone."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=2)
            except LOST:
                connection.terminate()


def log_lost(purpose: str, attempt: int, error: BaseException) -> None:
    """Tell once when an outage begins, and again now and then while it lasts."""
    if attempt == 1 or attempt % 30 == 0:
        log.warning("PostgreSQL did not answer (%s, try %d): %s: %s", purpose, attempt, type(error).__name__, error)


def columns(
    query: Query, rows: Sequence[tuple[Any, ...]], places: Sequence[int] | None = None
) -> list[tuple[Any, ...] | None]:
    """Rows, or what is in these *places* of them, to the arrays that the ``unnest`` of *query* takes, each shorter where that
    says the same: to send a value costs more than all else that is done with it here. A column of nothing but None is left
    out, for ``unnest`` fills up with nulls; one of equal values is sent as one, where the statement fills up with it."""
    given = list(zip(*rows, strict=True))
    if places is not None:
        given = [given[place] for place in places]
    return [_shortest(column, fills=place in query.filled) for place, column in enumerate(given)]


def _shortest(column: tuple[Any, ...], *, fills: bool) -> tuple[Any, ...] | None:
    first = column[0]
    if (first is not None and not fills) or first != column[-1] or column.count(first) < len(column):
        return column
    return None if first is None else column[:1]
