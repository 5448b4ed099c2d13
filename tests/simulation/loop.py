"""An event loop in virtual time that runs several simulated processes, and can kill or freeze each of them.

What is scheduled belongs to the process in whose context it was scheduled. Of one process, callbacks run in their order, as
asyncio promises; which process is next is drawn by lot. A killed process runs nothing any more, not even a ``finally``.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("PROCESS", default="world")

TICK = 2e-6  # seconds that a callback takes


class Stuck(Exception):
    """Nothing is left that could ever happen."""


class SimLoop(asyncio.BaseEventLoop):
    """Time passes only when nobody has anything to do."""

    def __init__(self, rng: random.Random, limit: float) -> None:
        super().__init__()
        self._rng = rng
        self._now = 0.0
        self._limit = limit
        self._queues: dict[str, deque[events.Handle]] = {}  # of those that have something to do
        self._frozen: dict[str, deque[events.Handle]] = {}  # what comes to those is kept
        self._dead: set[str] = set()
        self.steps = 0
        self.quiet = False
        self.set_exception_handler(self._complain)
        self.complaints: list[str] = []
        self._hopeless: BaseException | None = None

    def time(self) -> float:
        return self._now

    # --- Processes ---

    def kill(self, process: str) -> None:
        self._dead.add(process)
        self._frozen.pop(process, None)
        self._queues.pop(process, None)

    def freeze(self, process: str) -> None:
        if process not in self._dead:
            self._frozen[process] = self._queues.pop(process, deque())

    def thaw(self, process: str) -> None:
        if kept := self._frozen.pop(process, None):
            self._queues[process] = kept

    # --- What asyncio asks of a loop ---

    def _call_soon(self, callback: Callable[..., object], args: tuple[Any, ...], context: Any) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def _enqueue(self, handle: events.Handle) -> None:
        process = handle._context.get(PROCESS, "world")
        queue = self._queues.get(process)
        if queue is not None:
            queue.append(handle)
        elif process in self._frozen:
            self._frozen[process].append(handle)
        elif process not in self._dead:
            self._queues[process] = deque((handle,))

    def _write_to_self(self) -> None:
        """There is one thread."""

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """It is passed over when it is due."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _run_once(self) -> None:
        if self._hopeless is not None:
            error, self._hopeless = self._hopeless, None
            raise error
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._enqueue(timer)
        if not self._queues:
            if not scheduled:
                raise Stuck("nothing is left to happen")
            self._now = max(self._now, scheduled[0]._when)
            if self._now > self._limit:
                raise Stuck(f"not over after {self._limit:.0f} seconds")
            return
        names = list(self._queues)
        name = names[0] if len(names) == 1 else names[int(self._rng.random() * len(names))]
        queue = self._queues[name]
        # A whole turn of one process, or a part of it.
        for _ in range(len(queue) if self._rng.random() < 0.7 else 1):
            handle = queue.popleft()
            self.steps += 1
            self._now += TICK
            if not handle._cancelled:
                handle._run()
            if self._queues.get(name) is not queue:
                return  # it was killed, or frozen, by what has run
        if not queue:
            del self._queues[name]

    def _complain(self, _loop: Any, context: dict[str, Any]) -> None:
        if not self.quiet and PROCESS.get() not in self._dead:
            error = context.get("exception")
            if isinstance(error, AssertionError):
                self._hopeless = error  # of the world itself: what came next would say the same
            else:
                self.complaints.append(f"{context.get('message')}: {error!r}")
