"""Migrations: bring the schema up to what this program knows, once, whoever comes first.

Owns the order (file names), the lock that makes one program wait for another, and the refusal of a schema that is newer
than the program.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg

from durable.errors import ConfigurationError, SchemaTooNew
from durable.store.queries import load, sql_folder

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LOCK = 0x64757261626C65  # "durable" in ASCII: advisory locks are numbers, this one is ours
_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, forward only."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All migrations that this program knows, oldest first."""
    return [
        Migration(int(found[1]), found[2], path.read_text("utf-8"))
        for path in sorted((sql_folder() / "migrations").iterdir())
        if (found := _FILE.match(path.name))
    ]


async def migrate(dsn: str) -> list[Migration]:
    """Apply what is missing, in one transaction; returns what was applied.

    Programs that start at the same time wait for each other. Raises `SchemaTooNew` when the database knows migrations
    that this program does not. If cancelled, all of it has happened or nothing.
    """
    connection = await asyncpg.connect(dsn)
    try:
        return await migrate_connection(connection)
    finally:
        await connection.close()


async def migrate_connection(connection: Connection) -> list[Migration]:
    """`migrate` over a connection that is there already; it must not be in a transaction."""
    known = migrations()
    newest = known[-1].version
    if await _version(connection) == newest:
        return []  # the usual start: no lock, no write
    # To see what others did while we waited for the lock.
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(load("migration/lock").sql, LOCK)
        version = await _version(connection)
        if version > newest:
            raise SchemaTooNew(
                f"the schema `durable` of this database is at version {version}, this program knows version {newest}. "
                "Install the version of durable that the other programs use, or a newer one."
            )
        missing = [migration for migration in known if migration.version > version]
        for migration in missing:
            await connection.execute(migration.sql)
            await connection.execute(load("migration/record").sql, migration.version, migration.name)
    return missing


async def _version(connection: Connection) -> int:
    if not await connection.fetchval(load("migration/exists").sql):
        return 0
    return await connection.fetchval(load("migration/version").sql)


def script(missing: Sequence[Migration]) -> str:
    """What `migrate` would run, as one SQL script, to be run in one transaction: ``psql --single-transaction``."""
    parts = [
        "-- To be run in one transaction: psql --single-transaction --set ON_ERROR_STOP=1",
        load("migration/lock").sql.replace("$1", str(LOCK)) + ";",
    ]
    record = load("migration/record").sql
    for migration in missing:
        values = record.replace("$1", str(migration.version)).replace("$2", f"'{migration.name}'")
        parts += [migration.sql.strip(), f"{values};"]
    return "\n\n".join(parts)


async def grant(dsn: str, role: str) -> list[str]:
    """Give *role* what an engine needs, and nothing else; returns the statements. Repeating it changes nothing. What later
    migrations of the same user make is granted as well. Raises `ConfigurationError` when there is no such role."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetchrow(load("migration/role").sql, role)
        if found is None:
            raise ConfigurationError(
                f"there is no role {role!r}. Make it first: create role {role} login password '...'"
            )
        if found["superuser"]:
            raise ConfigurationError(f"role {role!r} is a superuser: it may do everything anyway. Name another one.")
        statements = [row["statement"] for row in await connection.fetch(load("migration/grants").sql, role)]
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
        return statements
    finally:
        await connection.close()
