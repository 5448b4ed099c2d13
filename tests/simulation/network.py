"""asyncpg, as the engine uses it, over a simulated network to a simulated PostgreSQL.

Each statement travels, is run at the server, and its reply travels back. On the way it may be late, or the connection breaks:
before the statement has arrived, or after it was committed and before the reply was read. A half-open connection swallows
everything. A notification may be lost though its connection lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.simulation.loop import PROCESS, SimLoop
from tests.simulation.store import Row, Store, Tables, Violation

Context = contextvars.Context

IDLE_SECONDS = 10.0  # after which a transaction that does nothing is ended


@dataclass(frozen=True)
class Weather:
    """How bad the network is: probabilities of one statement each, and latencies in seconds."""

    late: float = 0.0
    request_lost: float = 0.0
    reply_lost: float = 0.0
    half_open: float = 0.0
    deaf: float = 0.0  # of one notification
    latency: float = 0.001


FAIR = Weather()


@dataclass
class Server:
    """One PostgreSQL with all its sessions."""

    loop: SimLoop
    rng: random.Random
    store: Store
    names: dict[str, str]
    weather: Weather = FAIR
    up_at: float = 0.0
    sessions: list[Session] = field(default_factory=list)
    holder: Session | None = None  # whose transaction is open: the others wait
    queue: list[tuple[Session, Callable[[], None]]] = field(default_factory=list)
    before: Tables | None = None  # to roll back to
    trace: Callable[[str, str], None] | None = None
    world: Context = field(default_factory=contextvars.copy_context)
    cut: int = 0
    parted: dict[str, float] = field(default_factory=dict)  # processes that nothing reaches, and until when

    def delay(self) -> float:
        late = self.rng.random() < self.weather.late
        return self.rng.uniform(0.05, 3.0) if late else self.rng.expovariate(1 / self.weather.latency) + 1e-5

    def later(
        self, delay: float, callback: Callable[..., None], *arguments: Any, context: Context | None = None
    ) -> None:
        self.loop.call_later(delay, callback, *arguments, context=self.world if context is None else context)

    def restart(self, seconds: float) -> None:
        """Crash, and be back after *seconds*. What was committed is there."""
        self.up_at = self.loop.time() + seconds
        for session in list(self.sessions):
            session.break_off("the server has crashed")

    def lose(self, process: str) -> None:
        """The connections of a process that was killed end at some time: what it has sent may still arrive."""
        for session in list(self.sessions):
            if session.process == process:
                self.later(self.rng.uniform(0.0, 0.3), session.break_off, "its process was killed")

    def part(self, process: str, seconds: float) -> None:
        """Swallow all that a process sends, and all that is sent to it."""
        self.parted[process] = self.loop.time() + seconds
        for session in self.sessions:
            if session.process == process:
                session.half_open = True

    async def connect(self, _dsn: str | None = None, *, timeout: float = 15.0, **_: Any) -> Session:
        await asyncio.sleep(self.delay())
        process = PROCESS.get()
        if self.loop.time() < self.parted.get(process, 0.0):
            await asyncio.sleep(timeout)
            raise TimeoutError("the simulated network is parted")
        if self.loop.time() < self.up_at:
            raise ConnectionRefusedError("the simulated server is down")
        session = Session(self)
        self.sessions.append(session)
        return session

    async def create_pool(self, _dsn: str | None = None, *, max_size: int, command_timeout: float, **_: Any) -> Pool:
        return Pool(self, max_size, command_timeout)

    # --- At the server ---

    def run_when_free(self, session: Session, work: Callable[[], None]) -> None:
        if self.holder in (None, session):
            work()
        else:
            self.queue.append((session, work))

    def begin(self, session: Session) -> None:
        self.holder, self.before = session, self.store.snapshot()
        self.later(IDLE_SECONDS, self._idle, session, self.before)

    def _idle(self, session: Session, before: Tables) -> None:
        if self.before is before:
            session.break_off("it was idle in a transaction")

    def end(self, session: Session, *, commit: bool) -> None:
        if self.holder is not session:
            return
        if not commit and self.before is not None:
            self.store.tables = self.before
        self.holder = self.before = None
        self.committed()
        queue, self.queue = self.queue, []
        for waiting, work in queue:
            self.run_when_free(waiting, work)

    def committed(self) -> None:
        """Something is durable: what must always hold is looked at, and who listens is notified."""
        self.store.check()
        notifications, self.store.notifications = self.store.notifications, []
        for channel, payload in notifications:
            for session in self.sessions:
                heard = session.listeners.get(channel)
                if heard is not None and self.rng.random() >= self.weather.deaf:
                    arguments = (heard, session, channel, payload)
                    self.later(self.delay(), session.hear, *arguments, context=session.context)


class Session:
    """A connection, as `asyncpg.Connection`, and its session at the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.process = PROCESS.get()
        self.context = contextvars.copy_context()
        self.listeners: dict[str, Callable[..., None]] = {}
        self._ended: list[Callable[[Any], None]] = []
        self._pending: dict[asyncio.Future[Any], None] = {}  # in their order
        self._closed = self._gone = False  # as its user sees it; as the server does
        self.half_open = False
        self.command_timeout: float | None = None

    # --- As asyncpg ---

    def is_closed(self) -> bool:
        return self._closed

    async def fetch(self, sql: str, *arguments: Any, timeout: float | None = None) -> list[Row]:
        name = self.server.names.get(sql)
        if name is None:
            raise Violation(f"the simulation knows no such statement: {sql[:80]}")
        return await self._ask(lambda: self.server.store.run(name, arguments), name, timeout)

    async def fetchrow(self, sql: str, *arguments: Any, timeout: float | None = None) -> Row | None:
        rows = await self.fetch(sql, *arguments, timeout=timeout)
        return rows[0] if rows else None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        await self._ask(lambda: self.server.begin(self), "begin", None)
        try:
            yield
        except BaseException:
            if not self._closed:
                await self._ask(lambda: self.server.end(self, commit=False), "rollback", None)
            raise
        await self._ask(lambda: self.server.end(self, commit=True), "commit", None)

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        await self._ask(lambda: self.listeners.__setitem__(channel, callback), "listen", None)

    def add_termination_listener(self, callback: Callable[[Any], None]) -> None:
        self._ended.append(callback)

    def terminate(self) -> None:
        self._close("it was terminated here")
        self.server.later(self.server.delay(), self._end_at_server)

    async def close(self, *, timeout: float | None = None) -> None:
        self.terminate()

    # --- On the way ---

    async def _ask(self, work: Callable[[], Any], name: str, timeout: float | None) -> Any:
        if self._closed:
            raise asyncpg.InterfaceError("connection is closed")
        server, rng, weather = self.server, self.server.rng, self.server.weather
        reply: asyncio.Future[Any] = server.loop.create_future()
        self._pending[reply] = None
        luck = rng.random()
        server.later(server.delay(), self._arrive, work, name, reply, luck, weather, contextvars.copy_context())
        try:
            async with asyncio.timeout(self.command_timeout if timeout is None else timeout):
                return await reply
        except TimeoutError:
            self.terminate()
            raise
        except asyncio.CancelledError:
            self.terminate()
            raise
        finally:
            del self._pending[reply]

    def _arrive(
        self,
        work: Callable[[], Any],
        name: str,
        reply: asyncio.Future[Any],
        luck: float,
        weather: Weather,
        asker: Context,
    ) -> None:
        server = self.server
        if self._gone or self.half_open:
            return
        if luck < weather.request_lost:
            self.break_off("it was lost on the way")
            return
        luck -= weather.request_lost
        if luck < weather.half_open:
            self.half_open = True
            if luck < weather.half_open / 2:
                return
        luck -= weather.half_open

        def run() -> None:
            if self._gone:
                return
            answer = work()
            if server.trace is not None:
                server.trace(self.process, f"{name} -> {answer if answer is not None else ''}")
            if server.holder is None:
                server.committed()
            if self.half_open:
                return
            if 0 <= luck < weather.reply_lost:
                self.break_off("the reply was lost")
                return
            server.later(server.delay(), _answer, reply, answer, context=asker)

        server.run_when_free(self, run)

    def hear(self, heard: Callable[..., None], *arguments: Any) -> None:
        if not self._closed and not self.half_open:
            heard(arguments[0], 0, *arguments[1:])

    def break_off(self, why: str) -> None:
        """The connection breaks: the server knows now, its user when that has travelled."""
        self.server.cut += 1
        self._end_at_server()
        self.server.later(self.server.delay(), self._close, why, context=self.context)

    def _end_at_server(self) -> None:
        if not self._gone:
            self._gone = True
            self.server.sessions.remove(self)
            self.server.end(self, commit=False)

    def _close(self, why: str) -> None:
        if self._closed:
            return
        self._closed = True
        for reply in self._pending:
            if not reply.done():
                reply.set_exception(asyncpg.ConnectionDoesNotExistError(why))
        for callback in self._ended:
            callback(self)


def _answer(reply: asyncio.Future[Any], answer: Any) -> None:
    if not reply.done():
        reply.set_result(answer)


class Pool:
    """As `asyncpg.Pool`."""

    def __init__(self, server: Server, size: int, command_timeout: float) -> None:
        self._server = server
        self._command_timeout = command_timeout
        self._free: list[Session] = []
        self._turn = asyncio.Semaphore(size)

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Session]:
        async with self._turn:
            session = self._free.pop() if self._free else None
            if session is None or session.is_closed():
                session = await self._server.connect()
                session.command_timeout = self._command_timeout
            try:
                yield session
            finally:
                self._free.append(session)

    def terminate(self) -> None:
        for session in self._free:
            session.terminate()
