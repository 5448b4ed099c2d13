"""Hooks: the application's own functions, told of what has happened. They can hold up nothing, and break nothing."""

from __future__ import annotations

import asyncio
import logging
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
    are dropped, which is logged, too."""

    def __init__(self, given: dict[str, Hook | None]) -> None:
        self._given = {name: hook for name, hook in given.items() if hook is not None}
        self._waiting: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(WAITING_MAX)

    def has(self, name: str) -> bool:
        """Whether anybody wants to be told."""
        return name in self._given

    def call(self, name: str, event: Any) -> None:
        """Tell of *event* soon."""
        if name not in self._given:
            return
        try:
            self._waiting.put_nowait((name, event))
        except asyncio.QueueFull:
            log.error("%s is not told of %r: a thousand calls of hooks wait already", name, event)

    async def run(self) -> None:
        """Call until cancelled."""
        if self._given:
            await asyncio.gather(*(self._serve() for _ in range(AT_ONCE)))
        else:
            await asyncio.get_running_loop().create_future()

    async def _serve(self) -> None:
        while True:
            name, event = await self._waiting.get()
            try:
                async with asyncio.timeout(SECONDS):
                    await self._given[name](event)
            except Exception:
                log.exception("%s has failed for %r", name, event)
            finally:
                self._waiting.task_done()

    async def finish(self, seconds: float) -> None:
        """Let those that wait be called, for a moment: at the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._waiting.join()
        except TimeoutError:
            log.warning("some hooks were not called any more")
