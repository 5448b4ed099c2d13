"""Delivers what was posted within other people's transactions, once those are committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from durable.store.connection import Link
from durable.store.queries import load

ROWS = 500


class Postman:
    """Runs as a task. *on_delivered(execution, queue)* is called for each message that an execution has got, with the queue in
    which that was made ready by it."""

    def __init__(self, link: Link, on_delivered: Callable[[UUID, str | None], None]) -> None:
        self._link = link
        self._on_delivered = on_delivered
        self._posted = asyncio.Event()

    def look(self) -> None:
        """Something was posted, and maybe not delivered."""
        self._posted.set()

    async def run(self) -> None:
        """Deliver until cancelled. What a lost reply hides was delivered all the same; its receivers find it by polling."""
        while True:
            self._posted.clear()
            rows = await self._link.fetch_surely(load("message/deliver_posted"), ROWS)
            for row in rows:
                if row["outcome"] == "sent":
                    self._on_delivered(row["execution_id"], row["queue"])
            if len(rows) < ROWS:
                await self._posted.wait()
