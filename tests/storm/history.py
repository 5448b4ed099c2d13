"""What happened in a storm, written down by the database itself, past the engine, and read when all is over.

Owns: the triggers, and what they tell as values that a test may make up as well. The order of `Moment`s is that of a sequence:
where a transaction waits for another by a lock, it has the higher numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

TABLES = """
create table public.moment (
    id bigserial primary key, at timestamptz not null default clock_timestamp(), tx bigint not null, place text not null,
    op text not null, row jsonb not null
);
create function public.keep_moment() returns trigger language plpgsql as $$
begin
    insert into public.moment (tx, place, op, row)
    values (txid_current(), tg_table_name, tg_op, case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end);
    return null;
end
$$;
create function public.keep_record() returns trigger language plpgsql as $$
begin
    insert into public.moment (tx, place, op, row)
    select txid_current(), tg_table_name, tg_op, to_jsonb(a) - 'value' - 'error' from added a;
    return null;
end
$$;
create trigger moments after insert or delete on durable.claim for each row execute function public.keep_moment();
create trigger moments after insert on durable.permit for each row execute function public.keep_moment();
create trigger moments after insert on durable.message for each row execute function public.keep_moment();
create trigger moments after insert on durable.emission for each row execute function public.keep_moment();
create trigger moments after insert on durable.journal referencing new table as added
    for each statement execute function public.keep_record();
create table public.paid (
    execution_id uuid not null, path text not null, attempt int not null, tx bigint not null default txid_current()
);
create table public.slept (
    execution_id uuid not null, path text not null, attempt int not null, key text not null,
    at timestamptz not null default clock_timestamp(), tries int not null
);
"""
SLEPT = "insert into public.slept (execution_id, path, attempt, key, tries) values ($1, $2, $3, $4, $5)"
MOMENTS = "select id, tx, place, op, row from public.moment order by id"
# A wait ends by its time when it expires (unless it is taken back), a sleep when the body goes on behind it.
TIMERS = """
select due.execution_id::text as execution, due.path, 'sleep ' || due.key as what, due.run_at, s.at
  from public.slept s
  join public.recorded due using (execution_id, path, key)
 where due.kind = 'waiting'
union all
select due.execution_id::text, due.path, 'attempt ' || due.attempt + 1, due.run_at, c.at
  from public.call c
  join public.recorded due on due.execution_id = c.execution_id and due.path = c.path and due.attempt = c.attempt - 1
 where due.kind = 'failed' and due.run_at is not null
union all
select due.execution_id::text, due.path, 'timeout of ' || due.key, due.run_at, over.recorded_at
  from public.recorded over
  join public.recorded due using (execution_id, path, key, attempt)
 where over.kind = 'expired' and due.kind = 'waiting' and due.run_at is not null
   and over.error ->> 'message' not like '%taken back%'
"""


@dataclass(frozen=True)
class Moment:
    """A claim that was made or given up, or something that was written. `tx` is the transaction."""

    id: int
    tx: int
    place: str  # claim, journal, message, emission, permit
    op: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Body:
    """A run of a body in a process, by the clock that all processes share. `ended` is when it ended, or its process died."""

    execution: str
    path: str
    attempt: int
    pid: int
    began: float
    ended: float


@dataclass(frozen=True)
class Timer:
    """Something that was to happen at `due`, or later, and happened `at`."""

    execution: str
    path: str
    what: str
    due: float
    at: float


@dataclass(frozen=True)
class Frozen:
    """A process that stood still, by the clock that all processes share."""

    pid: int
    began: float
    ended: float


@dataclass(frozen=True)
class Paid:
    """What the body of a transactional step has written. `tx` is the transaction."""

    execution: str
    path: str
    attempt: int
    tx: int


@dataclass(frozen=True)
class Acked:
    """A call that returned: a start, event, input or emission, and to what."""

    kind: str
    execution: str
    name: str


@dataclass
class History:
    """All of it."""

    moments: list[Moment] = field(default_factory=list[Moment])
    bodies: list[Body] = field(default_factory=list[Body])
    timers: list[Timer] = field(default_factory=list[Timer])
    paid: list[Paid] = field(default_factory=list[Paid])
    frozen: list[Frozen] = field(default_factory=list[Frozen])
    acked: list[Acked] = field(default_factory=list[Acked])
    started: set[str] = field(default_factory=set[str])
    instants: list[float] = field(default_factory=list[float])
    scheduled_at: float | None = None


async def watch(connection: asyncpg.Connection[Any]) -> None:
    """Keep what happens from now on."""
    await connection.execute(TABLES)


async def read(connection: asyncpg.Connection[Any]) -> History:
    """What the database has kept; the rest is for the driver to add."""
    history = History()
    for row in await connection.fetch(MOMENTS):
        history.moments.append(Moment(row["id"], row["tx"], row["place"], row["op"], json.loads(row["row"])))
    for row in await connection.fetch(TIMERS):
        due, at = row["run_at"].timestamp(), row["at"].timestamp()
        history.timers.append(Timer(row["execution"], row["path"], row["what"], due, at))
    for row in await connection.fetch("select execution_id::text, path, attempt, tx from public.paid"):
        history.paid.append(Paid(*row))
    history.started = {
        row["execution_id"].hex for row in await connection.fetch("select execution_id from durable.execution")
    }
    rows = await connection.fetch(
        "select (tags ->> 'durable.scheduled_for')::timestamptz as instant from durable.execution"
        " where tags ? 'durable.scheduled_for' order by 1"
    )
    history.instants = [row["instant"].timestamp() for row in rows]
    (created_at,) = await connection.fetchrow("select created_at from durable.schedule")
    history.scheduled_at = created_at.timestamp()
    return history


def read_bodies(file: Path, deaths: dict[int, float]) -> list[Body]:
    """The runs in a file of bodies; one that has not ended did so with its process, if that is dead."""
    lines: Sequence[Any] = [json.loads(line) for line in file.read_text().splitlines()]
    open_ones: dict[tuple[str, str, int, int], list[float]] = {}
    bodies: list[Body] = []
    for what, execution, path, attempt, pid, at in lines:
        key = (execution, path, attempt, pid)
        if what == "begin":
            open_ones.setdefault(key, []).append(at)
        else:
            bodies.append(Body(*key, open_ones[key].pop(0), at))
    for key, begun in open_ones.items():
        bodies += (Body(*key, at, deaths.get(key[3], float("inf"))) for at in begun)
    return bodies
