"""A primary and its hot standby, to be crashed and promoted by one test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from durable.embedded.binaries import account_for, find_binaries

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
max_connections = 200
wal_level = replica
max_wal_senders = 5
hot_standby = on
synchronous_commit = on
synchronous_standby_names = '{standbys}'
"""
STREAMING = "select count(*) from pg_stat_replication where state = 'streaming'"
ACCESS = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Pair:
    """`dsn` names both servers, and leads to whichever is the primary."""

    def __init__(self, folder: Path, *, synchronous: bool) -> None:
        self._folder = folder
        self._synchronous = synchronous
        self._account = account_for(folder)
        self._binaries = find_binaries(None, self._account)
        self._relay: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.ports = [free_port(), free_port()]
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.dsn = f"postgresql://durable@{hosts}/postgres?target_session_attrs=primary"

    async def start(self) -> None:
        """Make both and wait until what is committed is on both."""
        if self._account is not None:
            os.chown(self._folder, self._account.uid, self._account.gid)
        await self._run("initdb", "--no-sync", "--auth=trust", "--username=durable", "-D", "primary")
        self._configure("primary", self.ports[0], "*" if self._synchronous else "")
        (self._folder / "primary" / "pg_hba.conf").write_text(ACCESS)
        self._relay = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        relay = self._relay.sockets[0].getsockname()[1]
        # Without its standby a synchronous primary would not even commit what starting it writes.
        await self._start("primary")
        await self._run(*("pg_basebackup", "-h", "127.0.0.1", "-p", str(relay), "-U", "durable"), "-R", "-D", "standby")
        self._configure("standby", self.ports[1], "")
        await self._start("standby")
        connection = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(30):
                while not await connection.fetchval(STREAMING):  # noqa: ASYNC110 - a server says so
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()

    def part(self) -> None:
        """Cut the standby off from the primary."""
        assert self._relay is not None
        self._relay.close()
        for writer in self._writers:
            writer.transport.abort()

    async def crash_primary(self) -> None:
        """Kill the primary: as if its host had lost power."""
        pid = int((self._folder / "primary" / "postmaster.pid").read_text().split()[0])
        for victim in [*_children(pid), pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    async def promote(self) -> None:
        """Make the standby the primary."""
        await self._run("pg_ctl", "promote", "-w", "-D", "standby")

    async def stop(self) -> None:
        """End what runs."""
        if self._relay is not None:
            self.part()
        for name in ("primary", "standby"):
            with contextlib.suppress(AssertionError):
                await self._run("pg_ctl", "stop", "-m", "immediate", "-D", name)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up = await asyncio.open_connection("127.0.0.1", self.ports[0])
        self._writers += [writer, up[1]]

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(pump(reader, up[1]), pump(up[0], writer))

    def _configure(self, name: str, port: int, standbys: str) -> None:
        with (self._folder / name / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(port=port, standbys=standbys))

    async def _start(self, name: str) -> None:
        await self._run("pg_ctl", "start", "-w", "-l", f"{name}.log", "-D", name)

    async def _run(self, program: str, *arguments: str) -> None:
        options = {} if self._account is None else self._account.options()
        process = await asyncio.create_subprocess_exec(
            str(self._binaries / program),
            *arguments,
            cwd=self._folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self._folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # what pg_ctl starts would hold a pipe open
            stderr=asyncio.subprocess.DEVNULL,
            **options,
        )
        assert await process.wait() == 0, f"{program} {' '.join(arguments)} failed in {self._folder}"


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


@contextlib.asynccontextmanager
async def pair(*, synchronous: bool) -> AsyncIterator[Pair]:
    """A primary and a standby that end with the context."""
    folder = Path(tempfile.mkdtemp(prefix="durable-pair-"))
    os.chmod(folder, 0o755)
    servers = Pair(folder, synchronous=synchronous)
    try:
        await servers.start()
        yield servers
    finally:
        await servers.stop()
        shutil.rmtree(folder, ignore_errors=True)
