"""Time: makes executions ready when they are due. One query tells when the next one is; until then the process sleeps.

The database's clock decides: this one only says when to ask. Asked too early, nothing fires.
"""

from __future__ import annotations

from collections.abc import Callable

from durable.model.status import Change, stored_sources
from durable.runtime.alarm import Alarm
from durable.store.connection import Link
from durable.store.queries import load

FIRE_ROWS = 500  # a batch small enough not to delay what else is due


class Timekeeper:
    """Runs as a task. *on_ready(queues)* is called when something became ready, *on_posted()* when something waits to be
    delivered, *on_doomed()* when something is to be cancelled. *poll_seconds* says how long to sleep at most: timers that other
    processes set are found then, if nobody has told of them."""

    def __init__(
        self,
        link: Link,
        on_ready: Callable[[list[str]], None],
        on_posted: Callable[[], None],
        on_doomed: Callable[[], None],
        poll_seconds: Callable[[], float],
    ) -> None:
        self._link = link
        self._on_ready = on_ready
        self._on_posted = on_posted
        self._on_doomed = on_doomed
        self._poll_seconds = poll_seconds
        self._alarm = Alarm()

    def consider(self, delay: float) -> None:
        """Some execution is due in *delay* seconds."""
        self._alarm.consider(delay)

    def look(self) -> None:
        """Some execution may be due at any time: ask the database."""
        self.consider(0.0)

    async def run(self) -> None:
        """Keep time until cancelled."""
        query, sources = load("wake/fire"), stored_sources(Change.WAKE)
        while True:
            self._alarm.set(self._poll_seconds())
            (row,) = await self._link.fetch_surely(query, FIRE_ROWS, sources)
            if row["next_in"] is not None:
                self.consider(max(row["next_in"], 0.0))
            if row["posted"]:
                self._on_posted()
            if row["doomed"]:
                self._on_doomed()
            if row["fired"]:
                self._on_ready(row["queues"])
            if not (row["fired"] and row["more"]):  # of what others have taken whole, they take the rest
                await self._alarm.sleep()
