"""Every call of a body, with what was durable when it began, and every record ever made: by these the laws are judged.

Both are kept in the test's database, past the engine: a call by the worker that makes it, before the body goes on; a record
by a trigger, so that those which a loop takes away later are known as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from durable import Context
from durable.engine.journal import Record
from durable.ids import execution_uuid
from durable.model.definition import Definition
from durable.testing.laws import faults_of_call

TABLES = """
create table public.call (
    id bigserial primary key, execution_id uuid not null, path text not null, attempt int not null, pid int not null,
    durable int[] not null, at timestamptz not null default clock_timestamp(), tries int not null
);
create table public.recorded (like durable.journal);
create function public.keep() returns trigger language plpgsql as $$
begin
    insert into public.recorded select * from added;
    return null;
end
$$;
create trigger keep after insert on durable.journal referencing new table as added
    for each statement execute function public.keep();
"""
CALL = """
insert into public.call (execution_id, path, attempt, pid, tries, durable)
values ($1, $2, $3, $4, $5, array(select seq from durable.journal where execution_id = $1))
"""
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that ends while it is given back to its pool
    asyncpg.OperatorInterventionError,
)
"""What a connection raises to a server that is away, that ends, or that ends this connection."""
LAST_SECONDS = 1  # for a call to be written down that is cancelled
AGAIN = 0.05  # seconds until PostgreSQL is asked again that was away


class CallLog:
    """In a worker: `log` is to be awaited at the beginning of each body."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool[Any] | None = None

    @contextlib.asynccontextmanager
    async def connected(self, dsn: str) -> AsyncGenerator[None]:
        """For the time of the bodies."""
        async with asyncpg.create_pool(dsn, min_size=0, max_size=4) as self._pool:
            yield

    async def log(self, here: Context) -> None:
        """Write the call down, as soon as PostgreSQL is there. If cancelled, it has been written all the same when this
        raises, unless PostgreSQL is away."""
        await self.write(CALL, execution_uuid(here.execution_id), here.path, here.attempt, os.getpid())

    async def write(self, statement: str, *row: object) -> None:
        """The same for any statement. Its last parameter is how often it was tried."""
        assert self._pool is not None
        for tries in itertools.count(1):
            writing = asyncio.ensure_future(self._pool.execute(statement, *row, tries))
            try:
                await asyncio.shield(writing)
                return
            except asyncio.CancelledError:
                with contextlib.suppress(*AWAY):
                    await asyncio.wait_for(writing, LAST_SECONDS)
                raise
            except AWAY:
                await asyncio.sleep(AGAIN)


@dataclass(frozen=True)
class Call:
    """A body that began, and the numbers of the records that were durable then, `at` seconds since 1970, at the last of so
    many `tries` to write it down."""

    path: str
    attempt: int
    pid: int
    durable: frozenset[int]
    at: float = 0.0
    tries: int = 1


@dataclass(frozen=True)
class Traces:
    """What one execution has left: `records` are those of its journal, `ever` all that were ever made. `calls` are those that
    are judged, of `all_calls`, where not all are."""

    records: list[Record]
    ever: list[Record]
    calls: list[Call]
    all_calls: Sequence[Call] = ()

    def faults(self, definition: Definition, *, until_death: bool = True) -> Iterator[str]:
        """Which laws were broken, but for those of the end. *until_death*: that no process has lost what it ran and got it
        back, so that none has run the same twice."""
        numbers = Counter(record.seq for record in self.ever)
        yield from (f"record {seq} was made {times} times" for seq, times in numbers.items() if times > 1)
        said = Counter(
            (record.path, record.kind, record.key, record.attempt if _is_of_its_attempt(record) else 0)
            for record in self.ever
            if record.kind != "tried"  # a call may fail several times
        )
        yield from (f"{what} was recorded {times} times" for what, times in said.items() if times > 1)
        if until_death:
            yield from (
                f"{what} ran {times} times in one process" for what, times in self._together().items() if times > 1
            )
        for call in self.calls:
            known = [record for record in self.ever if record.seq in call.durable]
            here: Any = call  # a context as far as laws look at it
            yield from faults_of_call(definition, known, here)

    def _together(self) -> Counter[tuple[str, int, int]]:
        waiting = {
            record.path for record in self.ever if record.key is not None
        }  # their bodies run again when they wake
        return Counter((call.path, call.attempt, call.pid) for call in self.calls if call.path not in waiting)

    @property
    def repeats(self) -> int:
        """Calls beyond the first of the same attempt."""
        return len(self.calls) - len({(call.path, call.attempt) for call in self.calls})


async def watch_calls(connection: asyncpg.Connection[Any]) -> None:
    """Make the tables, and keep each record from now on."""
    await connection.execute(TABLES)


async def read_traces(connection: asyncpg.Connection[Any], ids: Sequence[UUID]) -> dict[UUID, Traces]:
    """What these executions have left."""
    traces = {execution_id: Traces([], [], []) for execution_id in ids}
    for table in ("durable.journal", "public.recorded"):
        rows = await connection.fetch(
            f"""
            select execution_id, seq, path, kind, attempt, value, error, run_at is not null as again, seconds, target, data_seq,
                   key
              from {table} where execution_id = any ($1) order by execution_id, seq
            """,
            ids,
        )
        for row in rows:
            record = _record(row)
            found = traces[row["execution_id"]]
            (found.records if table == "durable.journal" else found.ever).append(record)
    rows = await connection.fetch("select * from public.call where execution_id = any ($1) order by id", ids)
    for row in rows:
        call = Call(
            row["path"], row["attempt"], row["pid"], frozenset(row["durable"]), row["at"].timestamp(), row["tries"]
        )
        traces[row["execution_id"]].calls.append(call)
    return traces


def _is_of_its_attempt(record: Record) -> bool:
    """Answers are kept in later attempts. What has got none is asked again, and children that have failed are begun again."""
    return record.key is None or record.kind in ("waiting", "expired")


def _record(row: asyncpg.Record) -> Record:
    record = Record(row["seq"], row["path"], row["kind"], row["attempt"], row["value"], row["error"])
    delay = 0.0 if row["again"] else None
    return msgspec.structs.replace(
        record, delay=delay, seconds=row["seconds"], target=row["target"], data_seq=row["data_seq"], key=row["key"]
    )
