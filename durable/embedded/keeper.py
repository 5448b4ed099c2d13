"""`EmbeddedPostgres`: what one process holds of an embedded PostgreSQL.

Owns: one thread that tries the lock of the folder, runs the server while it has it, and takes over when another
process loses it. Refuses: blocking the event loop, and signalling any process but the watcher it started.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from durable.embedded.folder import Folder
from durable.errors import ConfigurationError

_logger = logging.getLogger("durable")

_PATIENCE = 60.0  # seconds to wait for a server that another process has begun to start
_LINGER = 10.0  # seconds to wait for the processes of a server after the one that started it
_LOOK = 0.1  # seconds between two tries for the lock
_BACKOFF = 5.0  # the longest pause, in seconds, before a server that died is started again
_WATCHER = Path(__file__).with_name("watcher.py")


class EmbeddedPostgres:
    """A PostgreSQL in a folder, shared by all processes that were started with that folder.

    The first process runs the server (`owner` is true); it ends with its owner, also after a `kill -9`. Then another
    process that still holds an `EmbeddedPostgres` of the folder starts it again under the same `dsn`: its users see
    broken connections for less than a second, and nothing that was committed is lost.

    Make one with `start`. It is also an async context manager, which stops it at the end.
    """

    dsn: str
    """Where to connect, as asyncpg, psycopg and psql understand it. The same for as long as the folder stays put."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        """Use `start`."""
        self._folder = Folder(directory, settings)
        self._owner = False
        self._stop: bytes | None = None  # what to tell the watcher: b"" fast, b"q" immediate
        self._wake, self._waker = os.pipe()
        self._pipe_lock = threading.Lock()  # guards the two ends against a `stop` while the thread closes them
        self._log_start = 0
        self._lock: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: Future[None] = _uncancellable()
        self._ended: Future[None] = _uncancellable()
        self._thread = threading.Thread(target=self._run, name="durable-embedded-postgres", daemon=True)

    @classmethod
    async def start(cls, directory: Path = Path(".durable"), *, settings: dict[str, str] | None = None) -> Self:
        """Run the server of `directory`, or join the process that does, and return when it accepts connections.

        Args:
            directory: where the data is, and stays. Made if it is missing. Relative to the current folder.
            settings: PostgreSQL settings by name, as in `postgresql.conf`. Those of the owner count.

        Raises:
            ConfigurationError: no PostgreSQL was found, or it did not start; the message says why, with the cure.

        Cancelling it stops what it has begun, and waits for that.
        """
        self = cls(Path(directory), dict(settings or {}))
        _instances.add(self)
        self._thread.start()
        try:
            await asyncio.wrap_future(self._ready)
        except BaseException:
            await self.stop()
            raise
        _logger.info(
            "using an embedded PostgreSQL in %s, made for development; in production pass a DSN or set "
            "DURABLE_DATABASE_URL",
            self._folder.path,
        )
        return self

    @property
    def owner(self) -> bool:
        """Whether this process runs the server at the moment."""
        return self._owner

    async def stop(self, *, immediate: bool = False) -> None:
        """Stop the server if this process owns it, and stop waiting to take it over if not.

        Args:
            immediate: end the server as a crash would, without a checkpoint. The next start recovers.

        Returns when the server is gone. Calling it twice is allowed. If it is cancelled, the server stops all the same.
        """
        if self._stop is None:
            self._stop = b"q" if immediate else b""
            with self._pipe_lock:
                if not self._ended.done():
                    os.write(self._waker, b"!")
        await asyncio.wrap_future(self._ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Everything below runs in the thread.

    def _run(self) -> None:
        try:
            self._keep()
        except OSError as error:
            where = self._folder.path
            self._fail(ConfigurationError(f"an embedded PostgreSQL cannot run in {where}: {error}"))
        except BaseException as error:
            self._fail(error)
        finally:
            # A failed start leaves nothing behind; who waits for `stop` may use the folder again.
            with self._pipe_lock:
                os.close(self._wake)
                os.close(self._waker)
                self._ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if self._ready.done():
            _logger.error("the embedded PostgreSQL in %s is given up", self._folder.path, exc_info=error)
        else:
            self._ready.set_exception(error)

    def _keep(self) -> None:
        self._folder.create()
        began = time.monotonic()
        failures = 0
        while self._stop is None:
            self._lock = self._folder.try_lock()
            if self._lock is None:
                self._join(time.monotonic() - began)
                self._pause(_LOOK)
                continue
            try:
                served = self._serve()
            except (OSError, ConfigurationError) as error:
                # Before the first success the caller is told. A survivor may yet succeed: it goes on trying.
                if not self._ready.done():
                    raise
                served, reason = False, str(error)
            else:
                reason = "it ended by itself; its last words: " + self._last_words()
            if self._stop is None:
                failures = 0 if served else failures + 1
                _logger.warning("the embedded PostgreSQL in %s has to be started again: %s", self._folder.path, reason)
                self._pause(min(_LOOK * 2**failures, _BACKOFF))

    def _join(self, waited: float) -> None:
        """Another process has the lock: use its server once that answers."""
        if self._ready.done():
            return
        if self._folder.answers():
            self._announce()
        elif waited > _PATIENCE:
            raise ConfigurationError(
                f"another process holds {self._folder.path / 'lock'} but no PostgreSQL has answered there for "
                f"{_PATIENCE:.0f} seconds: see {self._folder.log}, end that process, or pass a DSN"
            )

    def _serve(self) -> bool:
        """Run the server until it ends, with the lock held. Says whether it ever accepted connections."""
        took_over = self._ready.done()
        try:
            process = self._launch(may_create=not took_over)
        finally:
            self._release()
        assert process.stdin is not None
        assert process.stdout is not None
        gone, pause, running = process.stdout.fileno(), 0.01, False
        try:
            while True:
                events = _poll([gone, self._wake], None if running else pause)
                if gone in events:
                    break
                if self._stop is not None:
                    self._end(process)
                    break
                if not running and self._folder.answers():
                    running = self._owner = True
                    self._announce()
                    if took_over:
                        _logger.info("this process now runs the embedded PostgreSQL in %s", self._folder.path)
                pause = min(pause * 1.5, 0.5)
        finally:
            self._owner = False
            self._process = None
            process.stdin.close()
            process.wait()
            # The helpers of a stopped initdb outlive it for a moment. Bounded, because without a parent-death signal
            # a server outlives a killed watcher.
            _poll([gone], _LINGER)
            process.stdout.close()
        if not self._ready.done() and self._stop is None:
            raise ConfigurationError(
                f"the embedded PostgreSQL in {self._folder.path} did not start: {self._last_words()}"
            )
        return running

    def _launch(self, *, may_create: bool) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        if getattr(sys, "frozen", False) or not sys.executable:
            raise ConfigurationError("the embedded PostgreSQL needs a Python interpreter to watch it: pass a DSN")
        plan: dict[str, Any] = {**self._folder.prepare(may_create=may_create), "lock": self._lock.fileno()}
        # Settings of the surrounding shell must not leak into the server. The locale keeps macOS single-threaded.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        with self._folder.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WATCHER), json.dumps(plan)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd="/",
                env={**environment, "LC_ALL": "C"},
                pass_fds=[plan["lock"]],
                start_new_session=True,  # a Ctrl-C in the terminal is for the application, which stops us in turn
            )
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            if self._stop:
                process.stdin.write(self._stop)
        except BrokenPipeError:
            return

    def _release(self) -> None:
        """Give up our hold on the lock; the watcher and the server keep theirs."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _announce(self) -> None:
        self.dsn = self._folder.dsn
        if not self._ready.done():
            self._ready.set_result(None)

    def _pause(self, seconds: float) -> None:
        _poll([self._wake], seconds)

    def _last_words(self) -> str:
        try:
            with self._folder.log.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return "\n".join(lines[-8:]) or f"none, see {self._folder.log}"

    def _forget(self) -> None:
        """In a forked child: let go of what must end with the parent."""
        files = [self._lock, *((self._process.stdin, self._process.stdout) if self._process else ())]
        for file in files:
            if file is not None:
                file.close()
        self._stop = b""
        if not self._ended.done():
            self._ended = _uncancellable()
            self._ended.set_result(None)


def _uncancellable() -> Future[None]:
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def _poll(descriptors: list[int], seconds: float | None) -> set[int]:
    """Which descriptors can be read. Not `select`, which fails in a process with more than a thousand files."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {found for found, _ in poll.poll(None if seconds is None else max(1, int(seconds * 1000)))}


def _forget_all() -> None:
    for instance in list(_instances):
        instance._forget()  # pyright: ignore[reportPrivateUsage]


_instances: weakref.WeakSet[EmbeddedPostgres] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_all)
