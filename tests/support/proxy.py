"""A TCP proxy before PostgreSQL that counts round trips and breaks them on demand, for asyncpg clients.

Owns: what a test sees and commands (`Proxy`), the port, and the thread. It sees message boundaries, so that it can
lose exactly the answer of a COMMIT. Refuses what `wire` refuses: the error is raised when the proxy is left.

    async with Proxy(dsn) as proxy:
        pool = await asyncpg.create_pool(proxy.dsn)
        lost = proxy.cut_after_commit("COMMIT")
        ...                                     # the statement commits, its answer never arrives
        await lost
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from tests.support import wire
from tests.support.faults import Deed, Fault, Hold, Match, Signal, matches
from tests.support.link import Link, RoundTrip

__all__ = ["Fault", "Hold", "Match", "Proxy", "RoundTrip"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Fault)

_GUARD_SECONDS = 30


class Proxy:
    """A proxy on *address*, of the loopback, before the server of *dsn* (TCP or unix socket), to be entered with `async with`.

    It runs on the loop that enters it, or with `own_thread=True` on a loop of its own, so that a test may block its
    loop without blocking the proxy. Every method may be called from any thread, and has taken effect when it
    returns. On another loop's thread a call waits for the proxy's loop, at most 30 s.
    """

    def __init__(self, dsn: str, *, own_thread: bool = False, address: str = "127.0.0.1") -> None:
        self.upstream = wire.Upstream.of(dsn)
        self.drop_notifications = False
        """While true, notifications from the server are dropped without a trace."""
        self.delay: float | Callable[[], float] = 0.0
        """Seconds before each batch of a client goes on (startup not); a function is asked for each batch."""
        self._thread = threading.Thread(target=self._run_thread, name="proxy", daemon=True) if own_thread else None
        self._stop = Signal()
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._address, self._port = address, 0
        self._guard: socket.socket
        self._listener: socket.socket | None = None
        self._links: dict[asyncio.Task[None], Link] = {}
        self._accepted = 0
        self._log: list[RoundTrip] = []
        self._faults: list[Fault] = []
        self._errors: list[Exception] = []

    # --- What happened --------------------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """The DSN for clients: same user, password, database and settings, by way of the proxy."""
        return self._call(lambda: self.upstream.through(self._port, self._address))

    @property
    def log(self) -> list[RoundTrip]:
        """Every round trip since the beginning or `reset()`, in order."""
        return self._call(self._log.copy)

    @property
    def statements(self) -> list[str]:
        """The SQL of every execution that reached the server: one entry for each durable round trip."""
        return [trip.sql for trip in self.log if trip.kind == "execute"]

    @property
    def preparations(self) -> list[str]:
        """The SQL of every round trip that only prepared ("" for one without any, such as Close)."""
        return [trip.sql for trip in self.log if trip.kind == "prepare"]

    @property
    def round_trips(self) -> Counter[int]:
        """Round trips of both kinds, by connection number."""
        return Counter(trip.connection for trip in self.log)

    @property
    def connections(self) -> int:
        """How many clients' connections are open."""
        return self._call(self._links.__len__)

    def count(self, match: Match) -> int:
        """How many executions match."""
        return sum(matches(match, sql) for sql in self.statements)

    def reset(self) -> None:
        """Forget what was counted. Connections keep their numbers, faults stay planted."""
        self._call(self._log.clear)

    # --- Faults ---------------------------------------------------------------------------------------------

    def cut_before(self, match: Match, times: int = 1) -> Fault:
        """Close the connection instead of sending the next *times* executions that match."""
        return self._plant(Fault(Deed.CUT_BEFORE, match, times))

    def cut_after_commit(self, match: Match, times: int = 1) -> Fault:
        """Send the next *times* executions that match, read the whole answer, and close both sides instead of
        delivering it. In autocommit the statement has committed by then; in a transaction match its COMMIT."""
        return self._plant(Fault(Deed.CUT_AFTER, match, times))

    def hold(self, match: Match) -> Hold:
        """Hold the next execution that matches before it reaches the server, until `release()`."""
        return self._plant(Hold(Deed.HOLD, match))

    def hold_reply(self, match: Match) -> Hold:
        """Send the next execution that matches, and hold its whole answer until `release()`."""
        return self._plant(Hold(Deed.HOLD_REPLY, match))

    def refuse(self) -> None:
        """Refuse new connections, as a server that is down does. Present ones go on."""
        self._call(self._refuse)

    def accept(self) -> None:
        """Accept new connections again, on the same port."""
        self._call(self._listen)

    def sever(self, match: Match | None = None) -> int:
        """Close all present connections, or only those that have executed a matching statement. Returns how many."""
        return self._call(self._each_link, match, Link.abort)

    def half_open(self, match: Match | None = None) -> int:
        """Stop forwarding on all present connections (or those that have executed a matching statement), sockets
        left open; new connections work. Returns how many. `heal()`, `sever()` and leaving the proxy end it."""
        return self._call(self._each_link, match, Link.freeze)

    def heal(self) -> None:
        """End `half_open()`: what was sent meanwhile goes on, late."""
        self._call(self._each_link, None, Link.thaw)

    # --- Life -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._thread is None:
            self._open()
        else:
            self._thread.start()
            await asyncio.wrap_future(self._ready)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            await self._close()
        else:
            self._stop.set()
            await asyncio.to_thread(self._thread.join)
        if self._errors and error is None:
            raise ExceptionGroup("the proxy failed", self._errors)

    def _run_thread(self) -> None:
        asyncio.run(self._serve_until_stopped())

    async def _serve_until_stopped(self) -> None:
        try:
            self._open()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        await self._stop.wait()
        await self._close()

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        # Bound and never listening: it keeps the port ours, and refused, while the listener is closed.
        self._guard = _bound_socket(self._address, 0)
        self._port = self._guard.getsockname()[1]
        self._listen()

    async def _close(self) -> None:
        self._refuse()
        self._guard.close()
        tasks = list(self._links)
        self._each_link(None, Link.abort)
        if tasks:
            await asyncio.wait(tasks)

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._loop is None:
            raise RuntimeError("the proxy is not running; enter it with `async with` first")
        if threading.get_ident() == self._thread_id or self._loop.is_closed():
            return function(*args, **kwargs)
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(function(*args, **kwargs))
            except BaseException as error:
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return answer.result(_GUARD_SECONDS)

    # --- On the proxy's loop --------------------------------------------------------------------------------

    def _plant(self, fault: F) -> F:
        self._call(self._faults.append, fault)
        return fault

    def _each_link(self, match: Match | None, deed: Callable[[Link], None]) -> int:
        chosen = [link for link in self._links.values() if match is None or link.has_executed(match)]
        for link in chosen:
            deed(link)
        return len(chosen)

    def _listen(self) -> None:
        if self._loop is not None and self._listener is None:
            self._listener = _bound_socket(self._address, self._port)
            self._listener.setblocking(False)
            self._listener.listen(128)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _refuse(self) -> None:
        if self._loop is not None and self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # the client left before its turn
            return
        self._accepted += 1
        link = Link(self, self._accepted, client)
        task = asyncio.create_task(link.run(), name=f"proxy connection {link.number}")
        link.task = task
        self._links[task] = link
        task.add_done_callback(self._link_ended)

    def _link_ended(self, task: asyncio.Task[None]) -> None:
        link = self._links.pop(task)
        link.close_unused_socket()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._errors.append(error)

    def record(self, trip: RoundTrip) -> None:
        """For a link, on the proxy's loop: this round trip goes to the server now."""
        self._log.append(trip)

    def fault_for(self, executed: tuple[str, ...]) -> tuple[Fault, Signal] | None:
        """For a link, on the proxy's loop: the fault that these statements strike, the oldest first."""
        for fault in self._faults:
            if (signal := fault.take(executed)) is not None:
                return fault, signal
        return None


def _bound_socket(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((address, port))
    return bound
