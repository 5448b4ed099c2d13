"""Where the tests get their PostgreSQL: `DURABLE_TEST_DSN`, else a container, else an embedded one.

Owns: one cluster for each pytest process and its migrated template. `durable.testing.server` has what users share.
Refuses: touching any database of the given server but those it made, all called `durable_test_...`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from durable.embedded import EmbeddedPostgres
from durable.testing.server import (
    CONNECTIONS,
    DSN_VARIABLE,
    FAST,
    Server,
    embedded_server,
    remove,
    temporary_folder,
    with_database,
)

__all__ = ["Cluster", "DurableCluster", "remove", "shared_cluster", "temporary_folder", "with_database"]

Migrate = Callable[[str], Awaitable[object]]


class Cluster(Server):
    """A server that tests share, with a migrated template."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._template: str | None = None

    async def template(self, migrate: Migrate) -> str:
        """The name of a database that `migrate` has been through; made at the first call."""
        if self._template is None:
            name = await self.create(name="template")
            try:
                await migrate(with_database(self.dsn, name))
            except BaseException:
                await self.drop(name)
                raise
            self._template = name
        return self._template

    async def close(self) -> None:
        """Drop the template; everything else is gone already."""
        if self._template is not None:
            await self.drop(self._template)


class DurableCluster:
    """A private server that keeps its promises (fsync on), to be crashed by one test and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: EmbeddedPostgres | None = None
        self.dsn = ""

    async def start_again(self) -> None:
        """Start the server, with crash recovery if it needs any. The DSN stays the same."""
        if self._server is None:
            settings = {"max_connections": str(CONNECTIONS)}
            self._server = await EmbeddedPostgres.start(self._directory, settings=settings)
            self.dsn = self._server.dsn

    async def stop_immediately(self) -> None:
        """End the server as `pg_ctl stop -m immediate` does: no checkpoint, every connection broken."""
        await self._stop(immediate=True)

    async def stop(self) -> None:
        """End the server in good order."""
        await self._stop(immediate=False)

    async def _stop(self, *, immediate: bool) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(immediate=immediate)


@contextmanager
def shared_cluster() -> Iterator[Cluster]:
    """The cluster of this pytest process, from the first source that has one."""
    dsn = os.environ.get(DSN_VARIABLE)
    if dsn:
        source = nullcontext(dsn)
    elif _docker_answers():
        source = _container()
    else:
        source = embedded_server()
    with source as found:
        cluster = Cluster(found)
        try:
            yield cluster
        finally:
            asyncio.run(cluster.close())


def _docker_answers() -> bool:
    """Whether there is an engine. A docker command alone proves nothing."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, OSError):
        pass
    # The failed client has left its socket open, and pytest makes an error of that wherever it is noticed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return False


@contextmanager
def _container() -> Iterator[str]:
    try:
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        from testcontainers.postgres import PostgresContainer
    settings = " ".join(f"-c {name}={value}" for name, value in FAST.items())
    with PostgresContainer("postgres:18-alpine", driver=None).with_command(f"postgres {settings}") as container:
        yield container.get_connection_url()
