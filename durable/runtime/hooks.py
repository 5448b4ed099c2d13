"""Hooks: the application's own functions, told of what has happened. They can hold up nothing, and break nothing: each runs
in a task of its own, which is left behind if it heeds nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from durable.model.failure import Failure
from durable.model.status import Status

log = logging.getLogger("durable.runtime")

WAITING_MAX = 1_000
SECONDS = 60.0
AT_ONCE = 4
HEED_SECONDS = 1.0  # how long one that is cancelled may take to end

_left_behind: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references


class ExecutionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that has ended, or is held. `failure` is why it has failed, `reason` why it is held."""

    id: str
    workflow: str
    status: Status
    failure: Failure | None = None
    reason: str | None = None


class WorkerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was silent for longer than its lease. `executions` is how many it ran: they are ready again."""

    worker_id: UUID
    executions: int
    found_at: datetime


Hook = Callable[[Any], Awaitable[None]]


class Hooks:
    """Calls hooks by name, some at a time, each within a minute. What one raises is logged; if a thousand wait, further ones
    are dropped, which is logged, too. Used on the engine's loop alone."""

    def __init__(self, given: dict[str, Hook | None]) -> None:
        self._given = {name: hook for name, hook in given.items() if hook is not None}
        self._waiting: deque[tuple[str, Any]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def has(self, name: str) -> bool:
        """Whether anybody wants to be told."""
        return name in self._given

    def call(self, name: str, event: Any) -> None:
        """Tell of *event* soon."""
        if name not in self._given:
            return
        if len(self._waiting) >= WAITING_MAX:
            log.error("%s is not told of %r: a thousand calls of hooks wait already", name, event)
            return
        self._waiting.append((name, event))
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            name, event = self._waiting.popleft()
            task = asyncio.create_task(
                call_within(SECONDS, self._given[name], event, f"{name}({event!r})"), name=f"durable {name}"
            )
            self._running.add(task)
            task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._go_on()

    async def finish(self, seconds: float) -> None:
        """Let those that run or wait be called, for so long: at the end. Then they are cancelled."""
        try:
            async with asyncio.timeout(seconds):
                while self._running:
                    await asyncio.wait(self._running)
        except TimeoutError:
            log.warning(
                "%d hooks were not called any more, or not to their end", len(self._running) + len(self._waiting)
            )
        finally:
            self._waiting.clear()
            for task in self._running:
                task.cancel()
        if self._running:
            await asyncio.wait(self._running)


async def call_within(seconds: float, hook: Hook, event: Any, what: str) -> None:
    """Call a hook with *event*, and wait for it, but not longer than so. What it raises is logged, as *what* it is. When its
    time is over, or this is cancelled, it is cancelled, and left behind if it does not heed that."""
    task = asyncio.create_task(_contained(hook, event))
    _left_behind.add(task)
    task.add_done_callback(_left_behind.discard)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            log.error("%s has not returned within %g s, and is cancelled", what, seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=HEED_SECONDS)
            if not task.done():
                log.error("%s does not heed its cancellation, and is left to itself", what)
        elif task.cancelled():
            log.error("%s has failed: it was cancelled by itself, or by something that it awaited", what)
        elif (error := task.exception()) is not None:
            log.error("%s has failed", what, exc_info=error)


async def _contained(hook: Hook, event: Any) -> None:
    try:
        await hook(event)
    except SystemExit as left:  # as it is, it would end the loop
        raise RuntimeError(f"the hook called sys.exit({left.code!r})") from left
