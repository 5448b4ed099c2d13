"""Migrations: once, whoever comes first; all or nothing; and never back."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import pytest

from durable import Durable, SchemaTooNew
from durable.store import migrate as module
from durable.store.migrate import Migration, migrate, migrations
from tests.support.proxy import Proxy

GUARD = 30
PROGRAM = """
import asyncio, sys
from durable.store.migrate import migrate
print(len(asyncio.run(migrate(sys.argv[1]))))
"""


async def fetchval(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def has_schema(dsn: str) -> bool:
    return bool(await fetchval(dsn, "select exists (select from pg_namespace where nspname = 'durable')"))


async def lock_awaited(dsn: str) -> None:
    """Return when somebody in this database waits for a lock."""
    waits = """select exists (select from pg_locks l join pg_stat_activity a using (pid)
                               where not l.granted and a.datname = current_database())"""
    async with asyncio.timeout(GUARD):
        while not await fetchval(dsn, waits):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)


async def applied(dsn: str) -> object:
    return await fetchval(dsn, "select array_agg(version order by version) from durable.migration")


async def test_two_programs_at_once_migrate_an_empty_database_once(empty_database: str) -> None:
    programs = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, empty_database, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    outputs = await asyncio.wait_for(asyncio.gather(*(program.communicate() for program in programs)), GUARD)
    assert [program.returncode for program in programs] == [0, 0]
    assert sorted(int(out) for out, _ in outputs) == [0, len(migrations())]
    assert await applied(empty_database) == [migration.version for migration in migrations()]


async def test_many_at_once_apply_every_migration_once(empty_database: str) -> None:
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(10)))
    assert sorted(map(len, done)) == [0] * 9 + [len(migrations())]


async def test_a_second_migration_does_nothing_and_takes_no_lock(database: str) -> None:
    async with Proxy(database) as proxy:
        assert await migrate(proxy.dsn) == []
        assert proxy.count("pg_advisory_xact_lock") == 0
        assert proxy.count("insert") == 0


async def test_the_versions_follow_each_other_without_gaps() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


async def test_a_newer_schema_is_refused_with_what_to_do(database: str) -> None:
    await fetchval(database, "insert into durable.migration values (9999, 'from_the_future', now()) returning 1")
    with pytest.raises(SchemaTooNew, match=rf"at version 9999.*knows version {len(migrations())}.*[Ii]nstall"):
        await migrate(database)
    with pytest.raises(SchemaTooNew):
        async with Durable(database, worker=False):
            pass


async def test_a_migration_that_fails_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [*migrations(), Migration(len(migrations()) + 1, "broken", "create table durable.half (n int); select 1/0")]
    monkeypatch.setattr(module, "migrations", lambda: known)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_database)
    assert not await has_schema(empty_database)


async def test_a_failed_upgrade_leaves_the_schema_as_it_was(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [*migrations(), Migration(len(migrations()) + 1, "broken", "create table durable.half (n int); select 1/0")]
    monkeypatch.setattr(module, "migrations", lambda: known)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database)
    assert await applied(database) == [migration.version for migration in migrations()]
    assert await fetchval(database, "select to_regclass('durable.half')") is None


@pytest.mark.parametrize("part", ["create table durable.execution (", "insert into durable.migration", "COMMIT;"])
async def test_a_migration_cancelled_in_the_middle_leaves_all_or_nothing(empty_database: str, part: str) -> None:
    async with Proxy(empty_database) as proxy:
        held = proxy.hold(part)
        migrating = asyncio.create_task(migrate(proxy.dsn))
        await held
        migrating.cancel()
        # Closing the connection waits for the reply: let it go on as soon as the task has been told.
        await asyncio.sleep(0)
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(migrating, GUARD)
    if await has_schema(empty_database):
        assert await applied(empty_database) == [migration.version for migration in migrations()]
    assert len(await migrate(empty_database)) in (0, len(migrations()))
    assert await migrate(empty_database) == []


@pytest.mark.parametrize("part", ["create table durable.execution (", "COMMIT;"])
async def test_a_connection_lost_in_the_middle_leaves_all_or_nothing(empty_database: str, part: str) -> None:
    async with Proxy(empty_database) as proxy:
        cut = proxy.cut_after_commit(part)
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
            await migrate(proxy.dsn)
        assert cut.struck == 1
    expected = 0 if part == "COMMIT;" else len(migrations())
    assert len(await migrate(empty_database)) == expected


async def test_a_program_that_waits_for_another_goes_on_when_that_one_dies(empty_database: str) -> None:
    async with Proxy(empty_database) as proxy:
        held = proxy.hold("create table durable.execution (")
        dying = asyncio.create_task(migrate(proxy.dsn))
        await held
        waiting = asyncio.create_task(migrate(empty_database))
        await lock_awaited(empty_database)
        proxy.sever()
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
            await dying
        assert len(await asyncio.wait_for(waiting, GUARD)) == len(migrations())


async def test_a_program_that_waited_for_another_finds_the_work_done(empty_database: str) -> None:
    async with Proxy(empty_database) as proxy:
        held = proxy.hold("COMMIT;")
        first = asyncio.create_task(migrate(proxy.dsn))
        await held
        second = asyncio.create_task(migrate(empty_database))
        await lock_awaited(empty_database)
        held.release()
        assert len(await asyncio.wait_for(first, GUARD)) == len(migrations())
        assert await asyncio.wait_for(second, GUARD) == []
