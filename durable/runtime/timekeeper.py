"""Time: makes executions ready when they are due. One query tells when the next one is; until then the process sleeps.

The database's clock decides: this one only says when to ask. Asked too early, nothing fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from durable.model.status import Change, stored_sources
from durable.store.connection import Link
from durable.store.queries import load

FIRE_ROWS = 500  # a batch small enough not to delay what else is due


class Timekeeper:
    """Runs as a task. *on_ready(queues)* is called when something became ready, *on_posted()* when something waits to be
    delivered, *poll_seconds* says how long to sleep at
    most: timers that other processes set are found then, if nobody has told of them."""

    def __init__(
        self,
        link: Link,
        on_ready: Callable[[list[str]], None],
        on_posted: Callable[[], None],
        poll_seconds: Callable[[], float],
    ) -> None:
        self._link = link
        self._on_ready = on_ready
        self._on_posted = on_posted
        self._poll_seconds = poll_seconds
        self._look = asyncio.Event()
        self._next = 0.0  # on the loop's clock

    def consider(self, delay: float) -> None:
        """Some execution is due in *delay* seconds."""
        at = asyncio.get_running_loop().time() + delay
        if at < self._next:
            self._next = at
            self._look.set()

    def look(self) -> None:
        """Some execution may be due at any time: ask the database."""
        self.consider(0.0)

    async def run(self) -> None:
        """Keep time until cancelled."""
        loop = asyncio.get_running_loop()
        query, sources = load("wake/fire"), stored_sources(Change.WAKE)
        while True:
            self._look.clear()
            self._next = loop.time() + self._poll_seconds()
            (row,) = await self._link.fetch_surely(query, FIRE_ROWS, sources)
            if row["next_in"] is not None:
                self._next = min(self._next, loop.time() + max(row["next_in"], 0.0))
            if row["posted"]:
                self._on_posted()
            if row["fired"]:
                self._on_ready(row["queues"])
            if row["fired"] == FIRE_ROWS:
                continue
            while (remaining := self._next - loop.time()) > 0:
                self._look.clear()
                try:
                    async with asyncio.timeout(remaining):
                        await self._look.wait()
                except TimeoutError:
                    break
