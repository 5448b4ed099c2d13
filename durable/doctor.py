"""What is wrong with a database that durable runs on, and what cures it. It reads; `mend` changes what is safe to change.

Owns the list of checks, their limits, and the words for what they find. What SQL can ask is in ``sql/queries/doctor`` and
``sql/invariants``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from durable.model.status import Change, stored_sources
from durable.runtime.reaper import Reaper
from durable.store.connection import Connection, Link, Row
from durable.store.migrate import migrations
from durable.store.queries import load, sql_folder

log = logging.getLogger("durable.doctor")

Severity: TypeAlias = Literal["error", "warning", "note"]
IDS = 5  # examples in a finding
FIRE_ROWS = 500


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be. *check* names it, *cure* says what to do. *fixable*: `mend` does it. A note is
    no fault."""

    check: str
    severity: Severity
    what: str
    cure: str
    fixable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is wrong. Times are in seconds."""

    stuck: float = 300.0
    lapsed: float = 60.0
    overdue: float = 60.0
    undelivered: float = 60.0
    transaction: float = 300.0
    dead_rows: int = 10_000
    dead_share: float = 0.5
    index_bytes: int = 100_000_000
    index_bytes_a_row: float = 1_000.0
    notify_usage: float = 0.1
    connections: float = 0.9
    age: int = 1_500_000_000


@dataclass(frozen=True, slots=True)
class Examined:
    """What a check looks at."""

    connection: Connection
    limits: Limits

    async def fetch(self, name: str, *arguments: Any) -> list[Row]:
        """Ask one of the queries of ``sql/queries/doctor``."""
        return await self.connection.fetch(load(name).sql, *arguments)


Check: TypeAlias = Callable[[Examined], Awaitable[Sequence[Finding]]]


async def examine(dsn: str, limits: Limits | None = None) -> AsyncIterator[tuple[str, list[Finding]]]:
    """Each check by name, with what it has found. Raises what asyncpg raises when it cannot connect."""
    connection: Connection = await asyncpg.connect(dsn, server_settings={"application_name": "durable doctor"})
    try:
        examined = Examined(connection, limits or Limits())
        schema = list(await _schema(examined))
        yield "schema", schema
        if any(finding.severity == "error" for finding in schema):
            return  # the others would not find their tables
        for name, check in CHECKS.items():
            yield name, list(await check(examined))
    finally:
        await connection.close()


async def mend(dsn: str, findings: Sequence[Finding]) -> list[str]:
    """Do what the fixable ones of *findings* ask for; says what was done. Each is what a healthy worker, or autovacuum, would
    do."""
    wanted = {finding.check for finding in findings if finding.fixable}
    done: list[str] = []
    link = Link(dsn, "doctor")
    try:
        if "dead workers" in wanted:
            done.append(await _reap(link))
        if "overdue" in wanted:
            done.append(await _fire(link))
        if "bloat" in wanted:
            done += await _vacuum(link)
    finally:
        await link.close()
    return done


# --- The checks -----------------------------------------------------------------------------------------------------


async def _schema(examined: Examined) -> list[Finding]:
    newest = migrations()[-1].version
    exists = await examined.connection.fetchval(load("migration/exists").sql)
    version = await examined.connection.fetchval(load("migration/version").sql) if exists else 0
    if version < newest:
        what = (
            f"the schema is at version {version}, and this program knows {newest}" if exists else "there is no schema"
        )
        return [Finding("schema", "error", what, "Run `durable migrate`.")]
    if version > newest:
        what = f"the schema is at version {version}, newer than this program, which knows {newest}"
        return [Finding("schema", "error", what, "Install the version of durable that migrated it, or a newer one.")]
    return []


async def _invariants(examined: Examined) -> list[Finding]:
    found: list[Finding] = []
    for path in sorted((sql_folder() / "invariants").glob("*.sql")):
        rows = await examined.connection.fetch(path.read_text("utf-8"))
        if rows:
            first = ", ".join(f"{name} {value}" for name, value in rows[0].items())
            found.append(
                Finding(
                    "invariants",
                    "error",
                    f"{path.stem} is broken by {len(rows)} rows, the first: {first}",
                    "This is a fault of durable, or somebody wrote into its tables. Keep a dump and report it.",
                )
            )
    return found


async def _stuck(examined: Examined) -> list[Finding]:
    rows = await examined.fetch("doctor/stuck", examined.limits.stuck, IDS)
    return [
        Finding(
            "stuck",
            "error",
            f"of queue {row['queue']!r} {counted(row['executions'])} stood ready and untaken for "
            f"{duration(row['seconds'])}: {_some(row['ids'], row['executions'])}",
            f"Start a worker that serves it and has their code (`durable worker --queue {row['queue']}=10`), or more of them.",
        )
        for row in rows
    ]


async def _held(examined: Examined) -> list[Finding]:
    return [
        Finding(
            "held",
            "error",
            f"{counted(row['executions'])} of {row['workflow']!r} held: {row['reason']}: "
            f"{_some(row['ids'], row['executions'])}",
            "Deploy code that has what they expect; `durable check` tells before a deploy. Or cancel them.",
        )
        for row in await examined.fetch("doctor/held", IDS)
    ]


async def _dead_workers(examined: Examined) -> list[Finding]:
    return [
        Finding(
            "dead workers",
            "error" if row["claims"] else "warning",
            f"{_named(row)} has been silent for {duration(row['seconds'])}, and nobody has taken over its "
            f"{counted(row['claims'])}",
            "Any worker that runs does it. Start one, or run `durable doctor --fix`.",
            fixable=True,
        )
        for row in await examined.fetch("doctor/dead_workers", examined.limits.lapsed)
    ]


def _named(row: Row) -> str:
    if row["host"] is None:
        return f"an owner that is no worker ({row['worker_id']})"
    return f"worker {row['worker_id']} (process {row['pid']} on {row['host']})"


async def _overdue(examined: Examined) -> list[Finding]:
    return [
        Finding(
            "overdue",
            "error",
            f"{counted(row['executions'])} should have been woken, the first {duration(row['seconds'])} ago: "
            f"{_some(row['ids'], row['executions'])}",
            "Any worker that runs wakes them. Start one, or run `durable doctor --fix`.",
            fixable=True,
        )
        for row in await examined.fetch("doctor/overdue", examined.limits.overdue, IDS)
    ]


async def _suspects(examined: Examined) -> list[Finding]:
    return [
        Finding(
            "suspects",
            "warning",
            f"{counted(row['executions'])} in flight in up to {row['crashes']} crashes of workers: "
            f"{_some(row['ids'], row['executions'])}",
            "A step of theirs may kill its process: see `durable show` for where they stand, and the logs of the workers.",
        )
        for row in await examined.fetch("doctor/suspects", IDS)
    ]


async def _undelivered(examined: Examined) -> list[Finding]:
    told = {
        "refused": ("events could not be delivered", "This is a fault of durable: keep a dump and report it."),
        "emitted": ("events were emitted, and nobody has spread them", "Workers do that: start one."),
        "doomed": ("executions are to be cancelled, and are not", "Workers do that: start one, and see its log."),
    }
    return [
        Finding("undelivered", "error", f"{row['rows']} {told[row['kind']][0]}", told[row["kind"]][1])
        for row in await examined.fetch("doctor/undelivered", examined.limits.undelivered)
    ]


async def _transactions(examined: Examined) -> list[Finding]:
    return [
        Finding(
            "transactions",
            "warning",
            f"process {row['pid']} ({row['application'] or 'no name'}) has a transaction open for "
            f"{duration(row['seconds'])}, {row['state']}",
            f"End it, or the program: `select pg_terminate_backend({row['pid']})`. Until then dead rows cannot be removed.",
        )
        for row in await examined.fetch("doctor/transactions", examined.limits.transaction)
    ]


async def _bloat(examined: Examined) -> list[Finding]:
    limits = examined.limits
    return [
        Finding(
            "bloat",
            "warning",
            f"table {row['table_name']} has {row['dead']:,} dead rows beside {row['live']:,} live ones, "
            + (f"vacuumed at {row['vacuumed_at']:%Y-%m-%d %H:%M}" if row["vacuumed_at"] else "and was never vacuumed"),
            "See that autovacuum runs and no transaction stays open. `durable doctor --fix` vacuums it now.",
            fixable=True,
        )
        for row in await examined.fetch("doctor/bloat", limits.dead_rows, limits.dead_share)
    ]


async def _swollen(examined: Examined) -> list[Finding]:
    limits = examined.limits
    return [
        Finding(
            "indexes",
            "note",
            f"index {row['index_name']} has {row['bytes'] / 1e6:,.0f} MB for {row['rows']:,.0f} rows: "
            "many more had to be kept once",
            "It uses that space again. To give it back: "
            f"`reindex index concurrently durable.{row['index_name']}`, which locks nobody out.",
        )
        for row in await examined.fetch("doctor/swollen", limits.index_bytes, limits.index_bytes_a_row)
    ]


async def _server(examined: Examined) -> list[Finding]:
    (row,) = await examined.fetch("doctor/server")
    limits, found = examined.limits, list[Finding]()

    def add(severity: Severity, what: str, cure: str, check: str = "server") -> None:
        found.append(Finding(check, severity, what, cure))

    for name, lost in (
        ("fsync", "a crash of the system"),
        ("full_page_writes", "a crash of the system"),
        ("synchronous_commit", "a crash of PostgreSQL"),
    ):
        if row[name] == "off":
            add("error", f"{name} is off: {lost} may lose what was acknowledged", f"Set {name} = on.", "durability")
    if row["autovacuum"] == "off":
        add("error", "autovacuum is off: the tables will grow without end", "Set autovacuum = on.")
    if row["version"] < 150000:
        add("error", f"PostgreSQL {row['version'] // 10000} is too old", "Use PostgreSQL 15 or later.")
    if row["notify_usage"] > limits.notify_usage:
        what = f"the queue of notifications is {row['notify_usage']:.0%} full: at 100% every NOTIFY fails"
        add("error", what, "Some session listens inside an open transaction: end it.", "notifications")
    if row["connections"] > limits.connections * row["connections_max"]:
        what = f"{row['connections']} of {row['connections_max']} connections are used"
        add("warning", what, "Raise max_connections, put PgBouncer between, or start fewer processes.")
    if row["age_of_database"] > limits.age:
        add(
            "error",
            "the database comes near to the end of its transaction ids",
            "Run `vacuum freeze`, and see why not.",
        )
    for index in row["invalid_indexes"]:
        add("error", f"index {index} is invalid and not used", f"Run `reindex index concurrently durable.{index}`.")
    if row["older_workers"]:
        what = f"{row['older_workers']} workers were started before the latest migration, with the program of then"
        add("warning", what, "Restart them (`durable workers` shows which), so that all run one version.", "versions")
    if (row["sockets"] or "").endswith("/run") or "/durable-" in (row["sockets"] or ""):
        what = "this is an embedded PostgreSQL, made for development: no backups, no upgrades"
        add("note", what, "In production set DURABLE_DATABASE_URL to a database server.", "embedded")
    return found


CHECKS: dict[str, Check] = {
    "invariants": _invariants,
    "stuck": _stuck,
    "held": _held,
    "dead workers": _dead_workers,
    "overdue": _overdue,
    "suspects": _suspects,
    "undelivered": _undelivered,
    "transactions": _transactions,
    "bloat": _bloat,
    "indexes": _swollen,
    "server": _server,
}


# --- Mending --------------------------------------------------------------------------------------------------------


async def _reap(link: Link) -> str:
    """What a reaper of a worker does, once."""
    rows = await link.fetch(load("doctor/dead_workers"), 0.0)
    reaper = Reaper(link, lambda queues: None, lambda: None, lambda worker, count: None)
    lapsed: list[UUID] = [row["worker_id"] for row in rows if row["host"] is not None]
    reaper.reap(lapsed)
    reaper.reap_orphans(row["worker_id"] for row in rows if row["host"] is None)
    await reaper.reap_all()
    return f"took {len(rows)} dead workers off the list, and made {counted(sum(row['claims'] for row in rows))} ready again"


async def _fire(link: Link) -> str:
    woken = 0
    while True:
        (row,) = await link.fetch(load("wake/fire"), FIRE_ROWS, stored_sources(Change.WAKE))
        woken += row["fired"]
        if not (row["fired"] and row["more"]):
            return f"woke {counted(woken)}"


async def _vacuum(link: Link) -> list[str]:
    limits = Limits()
    done: list[str] = []
    for row in await link.fetch(load("doctor/bloat"), limits.dead_rows, limits.dead_share):
        ((statement,),) = await link.fetch(load("doctor/vacuum"), row["table_name"])
        await link.execute(statement)
        done.append(f"vacuumed {row['table_name']}")
    return done


# --- Words ----------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A duration for people: its two greatest units."""
    left, parts = round(max(seconds, 0.0)), list[str]()
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        if left >= size or (letter == "s" and not parts):
            parts.append(f"{left // size}{letter}")
            left %= size
    return " ".join(parts[:2])


def counted(executions: int) -> str:
    """So many executions, in words."""
    return f"{executions:,} execution{'' if executions == 1 else 's'}"


def _some(ids: Sequence[str], count: int) -> str:
    more = count - len(ids)
    return ", ".join(ids) + (f" and {more} more" if more > 0 else "")
