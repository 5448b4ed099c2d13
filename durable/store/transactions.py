"""Transactions in which the bodies of transactional steps write, each on a connection of a pool.

These connections are the authors': they have the settings of the database, not those that keep our plans stable.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from durable.errors import StoreUnavailable
from durable.store.connection import LOST, REPLY_SECONDS, Link, Row, backoff, log_lost
from durable.store.queries import Query, load

# A process that freezes within a body must not keep for ever what the body has locked.
SETTINGS = {"application_name": "durable transactions", "idle_in_transaction_session_timeout": "60s"}
_LINGER = 60.0  # seconds after which a connection that nobody needs is closed
_PURPOSE = "transactions"
# Whatever keeps us from a connection, e.g. a password that is being changed, may pass; nothing of the author's has happened.
_AWAY: tuple[type[BaseException], ...] = (*LOST, asyncpg.PostgresError)


class Transactions:
    """At most *most* at once; who wants one more waits. Connections are opened when they are wanted. *dsn* leads past any
    pooler: a body may hold its connection for long, and must not take it from what renews the lease."""

    def __init__(self, dsn: str, most: int) -> None:
        self._dsn = dsn
        self._most = most
        self._opened: asyncpg.Pool[Any] | None = None
        self._closed = False
        self._judge = Link(dsn, "judge of transactions")

    async def begin(self) -> Transaction:
        """A transaction that has begun, once a connection is free and PostgreSQL is there. Raises `StoreUnavailable` when the
        engine is closed. If cancelled, there is none."""
        attempt = 0
        while True:
            if self._closed:
                raise StoreUnavailable("the engine is closed: no transaction begins")
            try:
                return await self._begin(await self._pool())
            except _AWAY as error:
                attempt += 1
                log_lost(_PURPOSE, attempt, error)
                await asyncio.sleep(backoff(attempt))

    async def _pool(self) -> asyncpg.Pool[Any]:
        if self._opened is None:
            self._opened = asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._most,
                max_inactive_connection_lifetime=_LINGER,
                timeout=REPLY_SECONDS,
                server_settings=SETTINGS,
                target_session_attrs=SessionAttribute.read_write,  # a name that still leads to a server which was demoted
            )
        return await self._opened  # of none is one opened by this

    async def _begin(self, pool: asyncpg.Pool[Any]) -> Transaction:
        connection: Any = await pool.acquire()
        transaction = Transaction(pool, connection)
        try:
            await transaction.start()
        except BaseException:
            transaction.drop()
            await transaction.close()
            raise
        return transaction

    async def is_recorded(self, execution_id: UUID, token: UUID, seq: int) -> bool | None:
        """Whether a record was committed, of a transaction that was lost; None when its claim is gone. Waits until PostgreSQL
        knows."""
        if not await self._judge.fetch_surely(load("transaction/hold"), execution_id, token):
            return None
        return (await self._judge.fetch_surely(load("transaction/find"), execution_id, seq))[0]["found"]

    async def close(self) -> None:
        """Close all connections. What is under way is lost."""
        self._closed = True
        if self._opened is not None:
            self._opened.terminate()
        await self._judge.close()


class Transaction:
    """One transaction, which is rolled back if it is closed before it was committed."""

    def __init__(self, pool: asyncpg.Pool[Any], connection: Any) -> None:
        self.connection: Any = connection
        self._pool = pool
        self._transaction = connection.transaction(isolation="read_committed")

    async def start(self) -> None:
        """Begin. Raises what asyncpg raises."""
        async with asyncio.timeout(REPLY_SECONDS):
            await self._transaction.start()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, and with it what was not committed."""
        try:
            return self.connection.is_closed()
        except asyncpg.InterfaceError:  # the pool has taken it back
            return True

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended."""
        return not self.is_lost and self.connection.is_in_transaction()

    def drop(self) -> None:
        """End the connection: nobody knows what state it is in."""
        with contextlib.suppress(asyncpg.InterfaceError):
            self.connection.terminate()

    async def fetch(self, query: Query, *arguments: Any) -> list[Row]:
        """Run a statement. Raises what asyncpg raises."""
        return await self.connection.fetch(query.sql, *arguments, timeout=REPLY_SECONDS)

    async def commit(self) -> None:
        """Commit. Raises what asyncpg raises; the outcome is then unknown if it is one of `LOST`."""
        async with asyncio.timeout(REPLY_SECONDS):
            await self._transaction.commit()

    async def close(self) -> None:
        """Give the connection back; what was not committed is rolled back. Never raises for a server that is gone."""
        try:
            if self.is_open:
                with contextlib.suppress(*_AWAY):
                    async with asyncio.timeout(REPLY_SECONDS):
                        await self._transaction.rollback()
        finally:
            if self.is_open:
                self.drop()
            with contextlib.suppress(*_AWAY):  # then the pool has ended the connection
                await self._pool.release(self.connection, timeout=REPLY_SECONDS)
