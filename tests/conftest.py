"""Fixtures for every test that needs a PostgreSQL. A test that asks for none never starts one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings

from tests.support.postgres import Cluster, DurableCluster, shared_cluster, temporary_folder

settings.register_profile("tests", deadline=None)  # a busy machine is no fault
settings.load_profile("tests")


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """The server of this pytest process: given, in a container, or embedded. fsync may be off."""
    with shared_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def durable_server(postgres_cluster: Cluster) -> Cluster:
    """The fixtures of `durable.testing.plugin` need no second one."""
    return postgres_cluster


@pytest.fixture
async def database(postgres_cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of a migrated database that belongs to this test alone."""
    from durable.store.migrate import migrate

    async with postgres_cluster.database(await postgres_cluster.template(migrate)) as dsn:
        yield dsn


@pytest.fixture
async def empty_database(postgres_cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of a database without migrations that belongs to this test alone."""
    async with postgres_cluster.database() as dsn:
        yield dsn


@pytest.fixture
async def durable_cluster() -> AsyncIterator[DurableCluster]:
    """A running server of this test alone, with fsync on, to be crashed and started again. Not migrated."""
    with temporary_folder() as folder:
        cluster = DurableCluster(folder)
        await cluster.start_again()
        try:
            yield cluster
        finally:
            await cluster.stop()
