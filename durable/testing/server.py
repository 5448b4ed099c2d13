"""PostgreSQL for tests: a server, and a new database on it for each test.

Owns: a passing embedded server, and the databases that it makes, all called `durable_test_...`. Refuses: touching any other.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from durable.store.queries import load

DSN_VARIABLE = "DURABLE_TEST_DSN"
CONNECTIONS = 300
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": str(CONNECTIONS)}


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


class Server:
    """A server that tests share. `dsn` is that of its maintenance database; do not write there."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._prefix = f"durable_test_{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)

    async def create(self, template: str = "template0", *, name: str = "") -> str:
        """Make a copy of *template*, called *name* or by a number. Returns its name. Raises what asyncpg raises."""
        name = f"{self._prefix}_{name or next(self._numbers)}"
        await self._execute("database/create", name, template)
        return name

    async def drop(self, name: str) -> None:
        """Drop the database, whoever is still connected. Raises what asyncpg raises."""
        await self._execute("database/drop", name)

    @asynccontextmanager
    async def database(self, template: str = "template0") -> AsyncGenerator[str]:
        """The DSN of a new copy of *template*, which is dropped at the end, whoever is still connected."""
        name = await self.create(template)
        try:
            yield with_database(self.dsn, name)
        finally:
            await self.drop(name)

    async def _execute(self, query: str, *names: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(await connection.fetchval(load(query).sql, *names))
        finally:
            await connection.close()


def found_server() -> AbstractContextManager[str]:
    """The DSN of the server of the environment variable ``DURABLE_TEST_DSN``, else of an embedded one that ends with the
    context. Raises `ConfigurationError` when it cannot be started."""
    dsn = os.environ.get(DSN_VARIABLE)
    return nullcontext(dsn) if dsn else embedded_server()


@contextmanager
def embedded_server() -> Generator[str]:
    """The DSN of an embedded server in a temporary folder, as fast as one can be that need not survive a crash of the system.
    Call it where no event loop runs. Raises `ConfigurationError`."""
    from durable.embedded import EmbeddedPostgres  # only here: it is not for every system

    with temporary_folder() as folder:
        # The keeper lives in a thread of its own, so that the loop which starts it need not stay.
        server = asyncio.run(EmbeddedPostgres.start(folder, settings=FAST))
        try:
            yield server.dsn
        finally:
            asyncio.run(server.stop())


@contextmanager
def temporary_folder() -> Generator[Path]:
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
    from durable.embedded.folder import Folder

    folder = Folder(directory, {})
    shutil.rmtree(folder.socket_directory, ignore_errors=True)
    for link in (folder.data, folder.new):
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
