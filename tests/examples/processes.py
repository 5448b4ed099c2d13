"""Programs of `examples`, as a reader would run them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(rb"http://127\.0\.0\.1:([1-9]\d*)")


async def run(*command: str, cwd: Path = ROOT, timeout: float = 60, **environment: str) -> tuple[int, str]:
    """Run a Python program to its end; its exit status and what it printed."""
    async with started(*command, cwd=cwd, **environment) as process, asyncio.timeout(timeout):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@asynccontextmanager
async def started(*command: str, cwd: Path = ROOT, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python program, killed at the end if it still runs. Its output is one pipe."""
    # The examples are imported from the repository, wherever the program runs.
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=cwd,
        env=surroundings,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Server:
    """A web server that listens at `url`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def kill(self) -> None:
        """SIGKILL: a crash."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def serving(*command: str, database: str) -> AsyncIterator[Server]:
    """A program that serves HTTP on a port that it prints. At the end it is asked to stop, and must."""
    lines: list[bytes] = []
    async with started(*command, DURABLE_DATABASE_URL=database) as process:
        async with asyncio.timeout(30):
            port = await _port(process, lines)
        rest = asyncio.create_task(_read(process, lines))
        yield Server(process, f"http://127.0.0.1:{port}")
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(30):
                await process.wait()
            # uvicorn drains, and then ends as a process would that had not caught the signal.
            assert process.returncode in (0, -signal.SIGTERM), b"".join(lines).decode()
        await rest
        assert b"Traceback" not in b"".join(lines), b"".join(lines).decode()


async def _port(process: asyncio.subprocess.Process, lines: list[bytes]) -> int:
    assert process.stdout is not None
    async for line in process.stdout:
        lines.append(line)
        if found := ADDRESS.search(line):
            return int(found[1])
    raise AssertionError(f"it ended without serving:\n{b''.join(lines).decode()}")


async def _read(process: asyncio.subprocess.Process, lines: list[bytes]) -> None:
    assert process.stdout is not None
    lines.extend([line async for line in process.stdout])
