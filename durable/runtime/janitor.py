"""Retention: deletes what has ended and was kept for long enough, a little at a time, so that nobody feels it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from durable.store.connection import Link, Row
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

EVERY = 600.0  # seconds between two rounds, on the average
PAGE = 200  # executions that one statement looks at: a few milliseconds of it
IDS = 2_000
PAUSE_MAX = 1.0  # seconds between two pages at most: a page that has outlasted an outage took long


@dataclass(frozen=True, slots=True)
class Policy:
    """How long executions of a workflow are kept that have ended so, in seconds."""

    workflow: str
    status: str
    seconds: float


async def delete_page(
    link: Link, policy: Policy, place: tuple[datetime | None, UUID | None], *, dry_run: bool = False
) -> Row:
    """Look at the next few, see ``retention/delete``."""
    arguments = (policy.workflow, policy.status, policy.seconds, *place, PAGE, dry_run)
    return (await link.fetch_surely(load("retention/delete"), *arguments))[0]


class Janitor:
    """Runs as a task. Any number of them at once only share the work."""

    def __init__(self, dsn: str, policies: Sequence[Policy], keep_ids: float | None) -> None:
        self._link = Link(dsn, "janitor")
        self._policies = policies
        self._keep_ids = keep_ids

    async def run(self) -> None:
        """Delete now and then, until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY * random.uniform(0.1, 1.9))
                deleted, _ = await self.tidy()
                if deleted:
                    log.info("%d executions that were kept for long enough are deleted", deleted)
        finally:
            await self._link.close()

    async def tidy(self, *, dry_run: bool = False) -> tuple[int, int]:
        """One round: how many executions were deleted, or with *dry_run* would be, and how many ids were forgotten."""
        deleted = forgotten = 0
        time = asyncio.get_running_loop().time
        for policy in self._policies:
            place: tuple[datetime | None, UUID | None] = (None, None)
            while True:
                began = time()
                row = await delete_page(self._link, policy, place, dry_run=dry_run)
                deleted += row["deleted"]
                if row["looked_at"] < PAGE:
                    break
                place = (row["last_at"], row["last_id"])
                await asyncio.sleep(min(time() - began, PAUSE_MAX))  # others get as much as we have taken
        while self._keep_ids is not None and not dry_run:
            began = time()
            (row,) = await self._link.fetch_surely(load("retention/forget"), self._keep_ids, IDS)
            forgotten += row["n"]
            if row["n"] < IDS:
                break
            await asyncio.sleep(min(time() - began, PAUSE_MAX))
        return deleted, forgotten

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()
