"""A database with a past: many finished executions, a backlog, sleepers, and claims of a living and of a dead worker.

Owns: making it with a few statements, and asking PostgreSQL what a query file costs in it. Nothing is changed by asking.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from durable.store.connection import Connection
from durable.store.queries import load
from tests.store.rows import QUEUE, SHAPE, Worker

WORKFLOWS = 5
TAGGED = 200

_ID = "lpad(to_hex(n), 32, '0')::uuid"
_AT = "timestamptz '2025-01-01' + n * interval '1 second'"
_EXECUTIONS = f"""
insert into durable.execution (execution_id, shape_id, started_by, created_at, due_at, ended_at, version, result_seq, priority,
                               status, workflow, queue, tags, input)
select {_ID}, {SHAPE}, gen_random_uuid(), {_AT}, {_AT}, case when $3 <> 'pending' then {_AT} end, 1,
       case when $3 <> 'pending' then 1 end, 0, case when $3 <> 'pending' and n % 10 = 0 then 'failed' else $3 end,
       'flow' || (n % {WORKFLOWS} + 1), '{QUEUE}', case when n <= {TAGGED} then '{{"rare": 1}}'::jsonb end, '{{}}'
  from generate_series($1::int, $2::int) as n
"""
_ENDED = """
insert into durable.ended (created_at, ended_at, execution_id, workflow, status)
select created_at, ended_at, execution_id, workflow, status
  from durable.execution
 where execution_id between lpad(to_hex($1::int), 32, '0')::uuid and lpad(to_hex($2::int), 32, '0')::uuid
"""
_JOURNAL = f"""
insert into durable.journal (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value)
select {_ID}, 1, 1, {_AT}, '{UUID(int=1)}', 0.5, 'completed', 'step', '{{}}' from generate_series($1::int, $2::int) as n
"""
_READY = f"""
insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue)
select {_ID}, {_AT}, {SHAPE}, 0, 0, false, '{QUEUE}' from generate_series($1::int, $2::int) as n
"""
_WAKE = f"""
insert into durable.wake (execution_id, due_at)
select {_ID}, durable.clock() + (n - $3::int) * interval '1 hour' from generate_series($1::int, $2::int) as n
"""
_INPUTS = f"""
insert into durable.input (execution_id, seq, requested_at, closed_at, operation, status, name, kind, workflow, path, request,
                           answer)
select {_ID}, 1, {_AT}, {_AT}, gen_random_uuid(), 'answered', 'why', 'text', 'flow1', 'step', '{{"type":"text","schema":{{}}}}',
       '""'
  from generate_series($1::int, $2::int) as n
"""
_ASKED = f"""
insert into durable.input (execution_id, seq, requested_at, remind_at, remind_every, name, kind, workflow, path, request)
select {_ID}, 1, {_AT}, {_AT}, interval '1 hour', 'why', 'text', 'flow1', 'step', '{{"type":"text","schema":{{}}}}'
  from generate_series($1::int, $2::int) as n
"""
_MESSAGES = f"""
insert into durable.message (execution_id, number, consumed_by, sent_at, topic, once, payload)
select {_ID}, 1, 1, {_AT}, 'event:go', 'once', '{{}}' from generate_series($1::int, $2::int) as n
"""
_KEPT = f"""
insert into durable.kept (execution_id, ended_at, workflow)
select {_ID}, durable.clock(), 'flow1' from generate_series($1::int, $2::int) as n
"""
_TABLES = "select relname from pg_class where relnamespace = 'durable'::regnamespace and relkind = 'r'"
_SHAPES = """
insert into durable.shape (shape_id, workflow, version, tree, queue, priority, first_seen_at, last_seen_at)
select 6 + n, 'flow' || n, 1, '{}', 'default', 0, now(), now() from generate_series(1, $1::int) as n
"""


@dataclass
class Past:
    """What stands in the database, by numbers."""

    finished: list[UUID]
    ready: list[UUID]
    worker: Worker
    claims: list[tuple[UUID, UUID]]
    dead: Worker


SCANS = ("Index Scan", "Index Only Scan", "Heap Scan", "Seq Scan")  # of tables


@dataclass(frozen=True)
class Cost:
    """What one run of a statement took: buffers hit or read, rows that scans met (also those they threw away), rows that
    all its parts met together, and the tables that were scanned from end to end."""

    buffers: int
    rows: int
    work: int
    scanned: frozenset[str]


async def unattended(connection: Connection) -> None:
    """Let nobody vacuum or analyze an empty migrated database from now on."""
    for (table,) in await connection.fetch(_TABLES):
        await connection.execute(f"alter table durable.{table} set (autovacuum_enabled = false)")


async def make(connection: Connection, *, finished: int, backlog: int, sleeping: int, claimed: int = 200) -> Past:
    """Fill an empty database that is `unattended`. Of the sleepers 50 are due."""
    end = finished + backlog + sleeping
    await connection.execute("set synchronous_commit = off")
    await connection.execute(_SHAPES, WORKFLOWS)
    await finish(connection, 1, finished)
    await connection.execute(_EXECUTIONS, finished + 1, end, "pending")
    await connection.execute(_READY, finished + 1, finished + backlog)
    await connection.execute(_WAKE, finished + backlog + 1, end, finished + backlog + 50)
    await connection.execute(_INPUTS, 1, finished)
    await connection.execute(_MESSAGES, 1, finished)
    await connection.execute(_KEPT, end + 1, end + finished)
    await connection.execute(_ASKED, finished + backlog + 1, end)
    worker, dead = Worker(), Worker()
    await worker.register(connection)
    await dead.register(connection, -1.0)
    claims = await worker.born(connection, claimed)
    await dead.born(connection, claimed)
    ids = [id_of(number) for number in range(1, end + 1)]
    return Past(ids[:finished], ids[finished : finished + backlog], worker, claims, dead)


async def finish(connection: Connection, first: int, last: int) -> None:
    """Make executions of these numbers that have finished, each with a record."""
    await connection.execute("set synchronous_commit = off")
    await connection.execute(_EXECUTIONS, first, last, "completed")
    await connection.execute(_ENDED, first, last)
    await connection.execute(_JOURNAL, first, last)


def id_of(number: int) -> UUID:
    """The id of one that was made."""
    return UUID(int=number)


async def plan(connection: Connection, names: Iterable[str]) -> None:
    """Have query files, and the functions they call, planned as the database is now, as a worker does that connects early:
    `cost` uses these plans from then on."""
    for name in names:
        nothing = ", ".join(["null"] * len(load(name).parameters))
        await connection.execute(_prepare(name))
        transaction = connection.transaction()
        await transaction.start()
        with contextlib.suppress(asyncpg.PostgresError):  # at nulls; it was planned before
            await connection.execute(f'explain (analyze) execute "{name}"{f"({nothing})" if nothing else ""}')
        await transaction.rollback()


async def forget_plans(connection: Connection) -> None:
    """Have everything planned anew, as a worker does that connects now."""
    for (name,) in await connection.fetch("select name from pg_prepared_statements where from_sql"):
        await connection.execute(f'deallocate "{name}"')
    await connection.execute("discard plans")


def _prepare(name: str) -> str:
    query = load(name)
    types = ", ".join(type for _, type in query.parameters)
    return f'prepare "{name}"{f"({types})" if types else ""} as {query.sql}'


async def cost(connection: Connection, name: str, *arguments: object) -> Cost:
    """What a query file costs here, with the plan of a prepared statement: that of now, if there is none. Rolled back."""
    given = ", ".join(
        literal(argument, type) for argument, (_, type) in zip(arguments, load(name).parameters, strict=True)
    )
    planned = await connection.fetchval("select count(*) from pg_prepared_statements where name = $1", name)
    transaction = connection.transaction()
    await transaction.start()
    try:
        if not planned:
            await connection.execute(_prepare(name))
        explained = f'explain (analyze, buffers, format json) execute "{name}"{f"({given})" if given else ""}'
        (plan,) = json.loads(await connection.fetchval(explained))
    finally:
        await transaction.rollback()
        if not planned:
            await connection.execute(f'deallocate "{name}"')
    nodes = list(_nodes(plan["Plan"]))
    top = plan["Plan"]
    return Cost(
        buffers=top.get("Shared Hit Blocks", 0) + top.get("Shared Read Blocks", 0),
        rows=sum(_rows_met(node) for node in nodes if node["Node Type"].endswith(SCANS)),
        work=sum(_rows_met(node) for node in nodes),
        scanned=frozenset(node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"),
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows_met(node: dict[str, Any]) -> int:
    removed = sum(rows for what, rows in node.items() if what.startswith("Rows Removed by"))
    return round((node["Actual Rows"] + removed) * node["Actual Loops"])


def literal(value: object, type: str) -> str:
    """A value as SQL text of a type."""
    if isinstance(value, list):
        return f"array[{', '.join(literal(item, type.removesuffix('[]')) for item in value)}]::{type}"
    text = "null" if value is None else "'" + str(value).replace("'", "''") + "'"
    return f"{text}::{type}"
