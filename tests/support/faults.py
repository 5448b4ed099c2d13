"""What a test plants in the proxy's way: a cut or a hold, struck by the next statements that match.

Owns: matching, and telling a test (in any thread, on any loop) that it happened. The proxy does the deed.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable, Generator

Match = str | Callable[[str], bool]
"""A text that the SQL contains (case counts), or a function of the SQL; it runs in the proxy's thread."""


def matches(match: Match, sql: str) -> bool:
    """Whether *sql* contains the text, or satisfies the function."""
    return match in sql if isinstance(match, str) else match(sql)


class Signal:
    """An event that any thread may set and any loop may await; set once, for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._error: Exception | None = None
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()

    def is_set(self) -> bool:
        """Whether it was set without an error."""
        return self._set and self._error is None

    def set(self, error: Exception | None = None) -> None:
        """Wake everyone who waits, now and later; with *error*, they get it raised. Only the first call counts."""
        with self._lock:
            if self._set:
                return
            self._set, self._error = True, error
            for loop, waiter in self._waiters:
                loop.call_soon_threadsafe(_wake, waiter)

    async def wait(self) -> None:
        """Wait until it is set. Cancelling one wait does not touch the others."""
        waiter = asyncio.get_running_loop().create_future()
        entry = (asyncio.get_running_loop(), waiter)
        with self._lock:
            if not self._set:
                self._waiters.add(entry)
            else:
                waiter.set_result(None)
        try:
            await waiter
        finally:
            with self._lock:
                self._waiters.discard(entry)
        if self._error is not None:
            raise self._error


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Deed(enum.Enum):
    """What is done to a statement that matches."""

    CUT_BEFORE = enum.auto()
    CUT_AFTER = enum.auto()
    HOLD = enum.auto()
    HOLD_REPLY = enum.auto()


class Fault:
    """A fault lying in wait. `await fault` returns when it has struck for the first time."""

    def __init__(self, deed: Deed, match: Match, times: int = 1) -> None:
        if times < 1:
            raise ValueError(f"a fault strikes at least once, got times={times}")
        self.deed = deed
        self._match = match
        self._strikes = [Signal() for _ in range(times)]
        self._taken = 0

    def __await__(self) -> Generator[object, None, None]:
        return self.wait().__await__()

    @property
    def struck(self) -> int:
        """How often it has struck."""
        return sum(signal.is_set() for signal in self._strikes)

    async def wait(self, nth: int = 1, timeout: float = 30) -> None:
        """Wait until it has struck *nth* times. Raises TimeoutError after *timeout* seconds, and ConnectionError
        if the connection ended after the statement was chosen and before the fault could strike."""
        try:
            async with asyncio.timeout(timeout):
                await self._strikes[nth - 1].wait()
        except TimeoutError:
            raise TimeoutError(f"{self!r}: no strike number {nth} within {timeout} s") from None

    def take(self, executed: tuple[str, ...]) -> Signal | None:
        """For the proxy: choose this batch if it matches and strikes are left; the signal is set when it has struck."""
        if self._taken == len(self._strikes) or not any(matches(self._match, sql) for sql in executed):
            return None
        self._taken += 1
        return self._strikes[self._taken - 1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.deed.name.lower()}, {self._match!r}, struck {self.struck})"


class Hold(Fault):
    """One statement (or its answer) held until `release()`. `await hold` returns when it has arrived and is held.

    When the client hangs up meanwhile, the held statement still reaches the server after `release()`, as a packet
    would that was late. After `release()` of a hold that nothing has reached yet, nothing is held.
    """

    def __init__(self, deed: Deed, match: Match) -> None:
        super().__init__(deed, match)
        self.released = Signal()

    def release(self) -> None:
        """Let it go on. Any thread may call it, more than once."""
        self.released.set()
