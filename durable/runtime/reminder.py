"""Reminders of what people were asked and have not answered. Only a worker that was told whom to remind takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from durable.runtime.alarm import Alarm
from durable.runtime.hooks import call_within
from durable.store.connection import Link, Row
from durable.store.queries import load

ROWS = 10  # what was taken and not told of is lost with the worker
HOOK_SECONDS = 60.0  # one that hangs must not end all reminding

Remind: TypeAlias = Callable[[Row], Awaitable[None]]


class Reminder:
    """Runs as a task. *remind(row)* is awaited for each reminder that is due; what it raises is logged. One that was taken by
    a worker which dies is not repeated: the next one comes in its time."""

    def __init__(self, link: Link, remind: Remind, poll_seconds: Callable[[], float]) -> None:
        self._link = link
        self._remind = remind
        self._poll_seconds = poll_seconds
        self._alarm = Alarm()

    def consider(self, delay: float) -> None:
        """Something was asked of which somebody is to be reminded in *delay* seconds."""
        self._alarm.consider(delay)

    async def _remind_of(self, row: Row) -> None:
        what = f"on_reminder of {row['name']!r} of execution {row['execution_id']}"
        await call_within(HOOK_SECONDS, self._remind, row, what)

    async def run(self) -> None:
        """Remind until cancelled."""
        while True:
            rows = await self._link.fetch_surely(load("input/remind"), ROWS)
            await asyncio.gather(*(self._remind_of(row) for row in rows))
            if len(rows) == ROWS:
                continue
            self._alarm.set(self._poll_seconds())
            (due,) = await self._link.fetch_surely(load("input/next_reminder"))
            if due["due_in"] is not None:
                self.consider(max(due["due_in"], 0.0))
            await self._alarm.sleep()
