"""Transactions in which the bodies of transactional steps write, each on a connection of a pool.

These connections are the authors': they have the settings of the database, not those that keep our plans stable.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg

from durable.store.connection import AGAIN, LOST, REPLY_SECONDS, Pooled, Row, backoff, log_lost
from durable.store.queries import Query, load

# A process that freezes within a body must not keep for ever what the body has locked.
IDLE_SECONDS = 60
_IDLE = {"idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s"}
_LINGER = 60.0  # seconds after which a connection that nobody needs is closed
_PURPOSE = "transactions"


class Transactions:
    """At most *most* at once; who wants one more waits. Connections are opened when they are wanted."""

    def __init__(self, dsn: str, most: int) -> None:
        self._dsn = dsn
        self._most = most
        self._settings = _IDLE if isinstance(dsn, Pooled) else {}  # a pooler does not take them with the connection
        self._opened: asyncpg.Pool[Any] | None = None

    async def begin(self) -> Transaction:
        """A transaction that has begun, once a connection is free and PostgreSQL is there. If cancelled, there is none."""
        attempt = 0
        while True:
            try:
                return await self._begin(await self._pool())
            except LOST as error:
                attempt += 1
                log_lost(_PURPOSE, attempt, error)
                await asyncio.sleep(backoff(attempt))

    async def _pool(self) -> asyncpg.Pool[Any]:
        if self._opened is None:
            pooled = isinstance(self._dsn, Pooled)
            self._opened = asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._most,
                max_inactive_connection_lifetime=_LINGER,
                timeout=REPLY_SECONDS,
                statement_cache_size=0 if pooled else 100,
                server_settings={"application_name": f"durable {_PURPOSE}"} | ({} if pooled else _IDLE),
            )
        return await self._opened  # of none is one opened by this

    async def _begin(self, pool: asyncpg.Pool[Any]) -> Transaction:
        connection: Any = await pool.acquire()
        transaction = Transaction(pool, connection)
        try:
            await transaction.start(self._settings)
        except BaseException:
            await transaction.close()
            raise
        return transaction

    async def is_recorded(self, held_by: tuple[Any, ...], record: tuple[Any, ...]) -> bool | None:
        """Whether a record was committed, of a transaction that was lost; None when its claim is gone. Waits until PostgreSQL
        knows. *held_by* is for ``transaction/hold``, *record* for ``transaction/find``."""
        attempt = 0
        while True:
            transaction = await self.begin()
            try:
                if not await transaction.fetch(load("transaction/hold"), *held_by):
                    return None
                return (await transaction.fetch(load("transaction/find"), *record))[0]["found"]
            except (*LOST, *AGAIN) as error:
                attempt += 1
                log_lost(_PURPOSE, attempt, error)
                await asyncio.sleep(backoff(attempt))
            finally:
                await transaction.close()

    async def close(self) -> None:
        """Close all connections. Nothing is under way any more."""
        if self._opened is not None:
            self._opened.terminate()


class Transaction:
    """One transaction, which is rolled back if it is closed before it was committed."""

    def __init__(self, pool: asyncpg.Pool[Any], connection: Any) -> None:
        self.connection: Any = connection
        self._pool = pool
        self._transaction = connection.transaction(isolation="read_committed")
        self._open = False

    async def start(self, settings: dict[str, str]) -> None:
        """Begin, with *settings* that hold for it alone."""
        async with asyncio.timeout(REPLY_SECONDS):
            await self._transaction.start()
            self._open = True
            if settings:
                await self.fetch(load("database/settings"), [*settings], [*settings.values()])

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, and with it what was not committed."""
        try:
            return self.connection.is_closed()
        except asyncpg.InterfaceError:  # the pool has taken it back
            return True

    @property
    def is_open(self) -> bool:
        """Whether it is still what it was when it began: nobody else has ended it."""
        return not self.is_lost and self.connection.is_in_transaction()

    def drop(self) -> None:
        """End the connection: nobody knows what state it is in."""
        if not self.is_lost:
            self.connection.terminate()

    async def fetch(self, query: Query, *arguments: Any) -> list[Row]:
        """Run a statement. Raises what asyncpg raises."""
        return await self.connection.fetch(query.sql, *arguments, timeout=REPLY_SECONDS)

    async def commit(self) -> None:
        """Commit. Raises what asyncpg raises; the outcome is then unknown if it is one of `LOST`."""
        self._open = False
        async with asyncio.timeout(REPLY_SECONDS):
            await self._transaction.commit()

    async def close(self) -> None:
        """Give the connection back; what was not committed is rolled back. Never raises for a server that is gone."""
        try:
            if self._open and self.is_open:
                with contextlib.suppress(*LOST, asyncpg.PostgresError):
                    async with asyncio.timeout(REPLY_SECONDS):
                        await self._transaction.rollback()
        finally:
            if self.is_open:
                self.drop()
            with contextlib.suppress(*LOST, asyncpg.PostgresError):  # then the pool has ended the connection
                await self._pool.release(self.connection, timeout=REPLY_SECONDS)
