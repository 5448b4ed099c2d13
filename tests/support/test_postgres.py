"""The test databases themselves: a fixture that quietly shares or loses data would make other tests lie."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.postgres import Cluster, DurableCluster, with_database


async def fetchval(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_has_an_empty_database_of_its_own(empty_database: str, turn: int) -> None:
    await execute(empty_database, "CREATE TABLE mine (turn int)")  # fails if the other turn's table is here


async def test_a_migrated_database_has_the_schema(database: str) -> None:
    assert await fetchval(database, "SELECT count(*) FROM pg_namespace WHERE nspname = 'durable'") == 1


async def test_the_template_is_made_once_and_copied(postgres_cluster: Cluster) -> None:
    cluster = Cluster(postgres_cluster.dsn)
    runs: list[str] = []

    async def migrate(dsn: str) -> None:
        runs.append(dsn)
        await execute(dsn, "CREATE TABLE migrated (number int)")

    try:
        for _ in range(2):
            async with cluster.database(await cluster.template(migrate)) as dsn:
                await execute(dsn, "INSERT INTO migrated VALUES (1)")
                assert await fetchval(dsn, "SELECT count(*) FROM migrated") == 1
        assert len(runs) == 1
    finally:
        await cluster.close()


async def test_a_database_is_dropped_under_whoever_is_still_connected(postgres_cluster: Cluster) -> None:
    async with postgres_cluster.database() as dsn:
        name = await fetchval(dsn, "SELECT current_database()")
        left_open = await asyncpg.connect(dsn)
    query = f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"
    assert await fetchval(postgres_cluster.dsn, query) == 0
    left_open.terminate()


async def test_a_durable_cluster_keeps_what_was_committed_before_a_crash(durable_cluster: DurableCluster) -> None:
    dsn = durable_cluster.dsn
    assert await fetchval(dsn, "SHOW fsync") == "on"
    await execute(dsn, "CREATE TABLE kept AS SELECT 1 AS value")
    await durable_cluster.stop_immediately()
    with pytest.raises(OSError):
        await fetchval(dsn, "SELECT 1")
    await durable_cluster.start_again()
    assert durable_cluster.dsn == dsn
    assert await fetchval(dsn, "SELECT value FROM kept") == 1


def test_another_database_of_a_dsn_keeps_everything_else() -> None:
    assert with_database("postgresql://u:p@h:1/a?host=/x&port=2", "b") == "postgresql://u:p@h:1/b?host=/x&port=2"
