"""Worker programs as child processes that a test talks with by messages and signals, never by sleeping.

Owns: starting `python -m <module>` in the repository's root, reading its messages (see `report.say`), keeping its
other output for the failure report, and making sure that neither it nor its children outlive the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]

_KEPT_LINES = 400

Message = dict[str, Any]


class ProgramEnded(Exception):
    """The program ended before it did what was asked of it. Shows its exit status and its output."""


class _Ears(asyncio.SubprocessProtocol):
    """Hears a process: its messages, its other output, the ends of its pipes, and its end.

    A protocol and not `asyncio.subprocess`, whose `wait()` goes on until the last child has let go of the pipes.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.unread: list[Message] = []
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.silent = {1: asyncio.Event(), 2: asyncio.Event()}
        self._partial = {1: b"", 2: b""}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *whole, self._partial[fd] = (self._partial[fd] + data).split(b"\n")
        for line in whole:
            self._keep(fd, line)
            if fd == 1 and line.startswith(b"@") and (message := _parsed(line[1:])) is not None:
                self.unread.append(message)
                self.news.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd not in self.silent:
            return
        if self._partial[fd]:
            self._keep(fd, self._partial[fd])
        self.silent[fd].set()
        self.news.set()

    def process_exited(self) -> None:
        self.ended.set()

    def _keep(self, fd: int, line: bytes) -> None:
        self.lines.append(f"{'out' if fd == 1 else 'err'}| {line.decode('utf-8', 'replace')}")


class Program:
    """A running child process: `async with await Program.start("tests.support.programs.x", dsn) as program`.

    Leaving the context kills it, with every process it started.
    """

    def __init__(self, title: str, transport: asyncio.SubprocessTransport, ears: _Ears) -> None:
        self._title = title
        self._transport = transport
        self._ears = ears

    @classmethod
    async def start(
        cls, module: str, *args: object, env: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> Self:
        """Start `python -m module *args` (as text) in the repository's root, *env* added to our environment."""
        transport, ears = await asyncio.get_running_loop().subprocess_exec(
            _Ears,
            python,
            "-m",
            module,
            *map(str, args),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own, so that its children can be ended with it
        )
        return cls(f"{module} (pid {transport.get_pid()})", transport, ears)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._transport.get_pid()

    @property
    def output(self) -> str:
        """Its last 400 lines, messages included, standard error marked `err|`."""
        return "\n".join(self._ears.lines)

    async def message(self, kind: str, timeout: float = 30, **fields: object) -> Message:
        """The first unread message of this *kind* with these *fields*; waits for it and takes it. Others stay.

        Raises TimeoutError after *timeout* seconds, and `ProgramEnded` when it ended without saying so; both show
        the output. A cancelled wait takes nothing.
        """
        wanted = {"kind": kind, **fields}
        try:
            async with asyncio.timeout(timeout):
                while (message := self._take(wanted)) is None and not self._ears.silent[1].is_set():
                    self._ears.news.clear()
                    await self._ears.news.wait()
                if message is not None:
                    return message
                await self._ears.ended.wait()
        except TimeoutError:
            raise TimeoutError(self._report(f"did not say {wanted} within {timeout} s")) from None
        raise ProgramEnded(self._report(f"ended without saying {wanted}"))

    async def wait(self, timeout: float = 30) -> int:
        """Wait for the end. Returns the exit status, negative for a signal. Raises TimeoutError with the output."""
        try:
            async with asyncio.timeout(timeout):
                await self._ears.ended.wait()
        except TimeoutError:
            raise TimeoutError(self._report(f"did not end within {timeout} s")) from None
        # Its last words; a child of its own that keeps the pipe open must not hold us up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._fall_silent()
        status = self._transport.get_returncode()
        assert status is not None
        return status

    def kill(self) -> None:
        """SIGKILL, to the process alone: a crash. Raises `ProgramEnded` if it has ended by itself."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: a polite request to end. Raises `ProgramEnded`."""
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGSTOP: freeze it, all threads. It stands still when this returns. Raises `ProgramEnded`."""
        self._signal(signal.SIGSTOP)
        try:
            # WNOWAIT: the exit status is the event loop's to collect.
            state = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            state = None
        if state is None or state.si_code != os.CLD_STOPPED:
            raise ProgramEnded(self._report("ended before it could be stopped"))

    def cont(self) -> None:
        """SIGCONT: let a stopped program go on. Raises `ProgramEnded`."""
        self._signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill_group()
        await self._ears.ended.wait()
        await self._fall_silent()
        self._transport.close()

    def _take(self, wanted: Message) -> Message | None:
        for message in self._ears.unread:
            if wanted.items() <= message.items():
                self._ears.unread.remove(message)
                return message
        return None

    async def _fall_silent(self) -> None:
        for silent in self._ears.silent.values():
            await silent.wait()

    def _kill_group(self) -> None:
        if self._transport.get_returncode() is not None and _exists(self.pid):
            return  # it was collected, so its number now belongs to a stranger, and nobody is left of its group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._transport.get_returncode() is not None:
            raise ProgramEnded(self._report(f"ended before {number.name}"))
        try:
            self._transport.send_signal(number)
        except ProcessLookupError:
            raise ProgramEnded(self._report(f"ended before {number.name}")) from None

    def _report(self, what: str) -> str:
        status = self._transport.get_returncode()
        state = "still running" if status is None else f"exit status {status}"
        return f"{self._title} {what}; {state}. Its output:\n{self.output or '(none)'}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _parsed(text: bytes) -> Message | None:
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "kind" in message else None
