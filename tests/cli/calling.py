"""Calls the command `durable` as it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).parent / "durable"
APP = "tests.cli.shop"


@dataclass(frozen=True)
class Said:
    """What a command has said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@contextlib.asynccontextmanager
async def calling(
    *words: str, dsn: str | None, cwd: Path = ROOT, terminal: int | None = None, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, running; killed at the end if it still does. *terminal* is what it takes its input from: its own."""
    # The command is installed from some checkout: what is tested is this one.
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "140", "PYTHONUNBUFFERED": "1", **environment}
    surroundings.pop("DURABLE_DATABASE_URL", None)
    if dsn is not None:
        surroundings["DURABLE_DATABASE_URL"] = dsn
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *words,
        cwd=cwd,
        env=surroundings,
        stdin=asyncio.subprocess.PIPE if terminal is None else terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=functools.partial(_prepare, terminal is not None),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _prepare(at_a_terminal: bool) -> None:
    # Whatever runs these tests in the background may have us ignore interrupts, and our children with us.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if at_a_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # keys like Ctrl-C reach whom it belongs to


class Caller:
    """Calls it on one database."""

    def __init__(self, dsn: str | None, cwd: Path = ROOT) -> None:
        self.dsn = dsn
        self.cwd = cwd

    async def __call__(self, *words: str, stdin: str = "", **environment: str) -> Said:
        async with (
            calling(*words, dsn=self.dsn, cwd=self.cwd, terminal=None, **environment) as process,
            asyncio.timeout(60),
        ):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        said = Said(process.returncode, out.decode(), err.decode())
        assert "Traceback (most recent call last)" not in said.err, said.err
        return said

    async def asked(self, *words: str, keys: Sequence[str]) -> Said:
        """Call it at a terminal, and press *keys*, some for each time that it asks."""
        ours, theirs = pty.openpty()
        try:
            async with (
                calling(*words, dsn=self.dsn, cwd=self.cwd, terminal=theirs) as process,
                asyncio.timeout(60),
            ):
                assert process.stderr is not None
                prompts = b""
                for pressed in keys:
                    prompts += await process.stderr.readuntil(b"[y/N] ")
                    os.write(ours, pressed.encode())
                out, err = await process.communicate()
        finally:
            os.close(ours)
            os.close(theirs)
        assert process.returncode is not None
        said = Said(process.returncode, out.decode(), (prompts + err).decode())
        assert "Traceback (most recent call last)" not in said.err, said.err
        return said
