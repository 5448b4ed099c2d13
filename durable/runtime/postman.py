"""Delivers what was posted within other people's transactions, once those are committed, and what was emitted to nobody in
particular, to those who wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from durable.store.connection import REFUSED, Link, Row
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

ROWS = 500
BYTES = 4 << 20
EMISSIONS = 100


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
            while (await self._link.fetch_surely(load("emission/spread"), EMISSIONS))[0]["looked_at"]:
                pass
            while rows := await self._deliver():
                for row in rows:
                    if row["outcome"] == "sent":
                        self._on_delivered(row["execution_id"], row["queue"])
            await self._posted.wait()

    async def _deliver(self) -> list[Row]:
        """Deliver what was posted first, as much as goes at once."""
        refused: Exception | None = None
        while True:
            for rows in (ROWS, 1):
                try:
                    return await self._link.fetch_surely(load("message/deliver_posted"), rows, BYTES)
                except REFUSED as error:
                    refused = error
            await self._set_aside(refused)

    async def _set_aside(self, error: Exception) -> None:
        """What was posted first is refused, and would hold up the rest for ever."""
        for row in await self._link.fetch_surely(load("message/refuse_posted"), str(error)):
            log.error(
                "what was posted to execution %s (%s) cannot be delivered, and is set aside as number %d in durable.posted: %s",
                row["execution_id"],
                row["topic"],
                row["post_id"],
                error,
            )
