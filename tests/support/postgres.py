"""Where the tests get their PostgreSQL: `DURABLE_TEST_DSN`, else a container, else an embedded one.

Owns: one cluster for each pytest process, its migrated template, and a database of its own for each test.
Refuses: touching any database of the given server but those it made, all called `durable_test_...`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from durable.embedded import EmbeddedPostgres
from durable.embedded.folder import Folder

CONNECTIONS = 300
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": str(CONNECTIONS)}

Migrate = Callable[[str], Awaitable[object]]


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


class Cluster:
    """A server that tests share. `dsn` is that of its maintenance database; do not write there."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._prefix = f"durable_test_{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._template: str | None = None

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def template(self, migrate: Migrate) -> str:
        """The name of a database that `migrate` has been through; made at the first call."""
        if self._template is None:
            name = f"{self._prefix}_template"
            await self._execute(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
            await migrate(with_database(self.dsn, name))
            self._template = name
        return self._template

    @asynccontextmanager
    async def database(self, template: str = "template0") -> AsyncIterator[str]:
        """The DSN of a new copy of `template`, which is dropped at the end, whoever is still connected."""
        name = f"{self._prefix}_{next(self._numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield with_database(self.dsn, name)
        finally:
            await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def close(self) -> None:
        """Drop the template; everything else is gone already."""
        if self._template is not None:
            await self._execute(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")


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
    dsn = os.environ.get("DURABLE_TEST_DSN")
    if dsn:
        source = _given(dsn)
    elif _docker_answers():
        source = _container()
    else:
        source = _embedded()
    with source as found:
        cluster = Cluster(found)
        try:
            yield cluster
        finally:
            asyncio.run(cluster.close())


@contextmanager
def _given(dsn: str) -> Iterator[str]:
    yield dsn


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


@contextmanager
def _embedded() -> Iterator[str]:
    with temporary_folder() as folder:
        # The keeper lives in a thread of its own, so that the loop which starts it need not stay.
        server = asyncio.run(EmbeddedPostgres.start(folder, settings=FAST))
        try:
            yield server.dsn
        finally:
            asyncio.run(server.stop())


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for an embedded server that every account may enter, unlike those of pytest."""
    root = Path(tempfile.mkdtemp(prefix="durable-test-"))
    root.chmod(0o755)
    try:
        yield root / "pg"
    finally:
        remove(root / "pg")
        shutil.rmtree(root)


def remove(directory: Path) -> None:
    """Remove the folder of a stopped embedded server, with what it may have elsewhere."""
    folder = Folder(directory, {})
    shutil.rmtree(folder.socket_directory, ignore_errors=True)
    for link in (folder.data, folder.new):
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
