"""A PgBouncer in transaction mode before a test's database, if the machine has one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
SERVERS = 8  # server connections: fewer than the clients that want one, so that they are lent about

CONFIGURATION = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 500
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextlib.asynccontextmanager
async def pooled(dsn: str) -> AsyncIterator[str]:
    """The DSN of *dsn*'s database through a PgBouncer that ends with the context."""
    assert PROGRAM is not None
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = urlsplit(dsn).path.removeprefix("/")
    file = folder / "ini"
    file.write_text(CONFIGURATION.format(server=_server(dsn), port=port, folder=folder, servers=SERVERS))
    command = [PROGRAM, str(file)]
    if os.geteuid() == 0:  # which PgBouncer refuses; whoever owns the socket may use it
        user = _owner(dsn)
        for path in (folder, file):
            os.chown(path, user.pw_uid, user.pw_gid)
        command += ["-u", user.pw_name]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    address = f"postgresql://durable@127.0.0.1:{port}/{name}"
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await (await asyncpg.connect(address, statement_cache_size=0)).close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        yield address
    finally:
        process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _owner(dsn: str) -> pwd.struct_passwd:
    directory = parse_qs(urlsplit(dsn).query).get("host", [""])[0]
    owner = os.stat(directory).st_uid if directory.startswith("/") else 0
    return pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")


def _server(dsn: str) -> str:
    """How PgBouncer reaches the server of *dsn*."""
    parts = urlsplit(dsn)
    given = {name: values[0] for name, values in parse_qs(parts.query).items()}
    words = {
        "host": given.get("host") or parts.hostname,
        "port": given.get("port") or parts.port or 5432,
        "user": unquote(parts.username or given.get("user", "")),
        "password": unquote(parts.password or given.get("password", "")),
    }
    return " ".join(f"{name}='{value}'" for name, value in words.items() if value)
