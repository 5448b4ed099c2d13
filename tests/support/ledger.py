"""The test's side of the ledger (see `flows`): what bodies did, and the database beneath them, read past the engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from durable.ids import execution_uuid
from tests.support.flows import LEDGER


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    path: str
    what: str
    attempt: int
    pid: int


class Ledger:
    """Use as an async context manager; makes the tables if they are missing."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.connection: asyncpg.Connection[Any]

    async def __aenter__(self) -> Ledger:
        self.connection = await asyncpg.connect(self._dsn)
        await self.connection.execute(LEDGER)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def entries(self, execution: str, path: str | None = None) -> list[Entry]:
        """What the bodies of an execution did, in order."""
        rows = await self.connection.fetch(
            """
            select path, what, attempt, pid from public.ledger
             where execution = $1 and ($2::text is null or path = $2) order by id
            """,
            execution,
            path,
        )
        return [Entry(**row) for row in rows]

    async def whats(self, execution: str, path: str | None = None) -> list[str]:
        """Like `entries`, only what was done: ``["begin", "end"]``."""
        return [entry.what for entry in await self.entries(execution, path)]

    async def open_gate(self, name: str) -> None:
        """Let the bodies pass that wait there."""
        await self.connection.execute("insert into public.gate (name) values ($1) on conflict do nothing", name)

    async def journal(self, execution: str) -> list[asyncpg.Record]:
        """The records of an execution, in order."""
        return await self.connection.fetch(
            """
            select path, kind, attempt, worker_id, run_at, recorded_at from durable.journal
             where execution_id = $1 order by seq
            """,
            execution_uuid(execution),
        )

    async def crashes(self, execution: str) -> int | None:
        """The crashes counted against a claimed or ready execution; None when it is neither."""
        return await self.connection.fetchval(
            """
            select crashes from durable.claim where execution_id = $1
            union all select crashes from durable.ready where execution_id = $1
            """,
            execution_uuid(execution),
        )

    async def worker_id(self, pid: int) -> UUID | None:
        """The identity under which a process is registered; None when it is not."""
        return await self.connection.fetchval("select worker_id from durable.worker where pid = $1", pid)

    async def advance_clock(self, by: timedelta) -> None:
        """Move durable's clock on, in this database, for everybody."""
        await self.connection.execute(
            "create or replace function durable.clock() returns timestamptz language sql stable parallel safe "
            f"return statement_timestamp() + make_interval(secs => {by.total_seconds()})"
        )

    async def begun_after_their_record(self) -> list[asyncpg.Record]:
        """Bodies that began although their step's result had been recorded. There must be none. (Real time only.)"""
        return await self.connection.fetch(
            """
            select l.execution, l.path, l.at, j.recorded_at
              from durable.journal j
              join public.ledger l on durable.execution_id(l.execution) = j.execution_id and l.path = j.path
             where j.kind = 'completed' and l.what = 'begin' and l.at > j.recorded_at
            """
        )

    async def overlapping_bodies(self) -> list[asyncpg.Record]:
        """Runs of the same step of the same execution that were under way at the same time, and runs that never ended.
        There must be none where no process was killed or frozen."""
        return await self.connection.fetch(
            """
            with run as (
                select b.execution, b.path, b.id, b.at as began,
                       (select min(e.at) from public.ledger e
                         where e.execution = b.execution and e.path = b.path and e.pid = b.pid
                           and e.id > b.id and e.what <> 'begin') as ended
                  from public.ledger b
                 where b.what = 'begin'
            )
            select a.execution, a.path, a.began, a.ended, b.began as other_began
              from run a
              left join run b on b.execution = a.execution and b.path = a.path and b.id > a.id and b.began < a.ended
             where a.ended is null or b.id is not null
            """
        )
