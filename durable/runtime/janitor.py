"""Retention: deletes what has ended and was kept for long enough, a little at a time, so that nobody feels it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg

from durable.store.connection import AGAIN, LOST, Link, Named, backoff, log_lost
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

EVERY = 600.0  # seconds between two rounds, on the average
PAGE = 200  # executions that one statement is to delete: a few milliseconds of it
REPLY_SECONDS = 60.0  # for one that has very many children, which are deleted with it
IDS = 2_000
PAUSE_MAX = 1.0  # seconds between two pages at most: a page that has outlasted an outage took long


Place: TypeAlias = tuple[datetime | None, UUID | None]


@dataclass(frozen=True, slots=True)
class Policy:
    """How long executions of a workflow are kept that have ended so, in seconds."""

    workflow: str
    status: str
    seconds: float


class Janitor:
    """Runs as a task. Any number of them at once only share the work."""

    def __init__(self, dsn: str, policies: Sequence[Policy], keep_ids: float | None) -> None:
        self._link = Link(dsn, "janitor", REPLY_SECONDS)
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
            place: Place = (None, None)
            most = PAGE
            while True:
                began = time()
                row, most = await self._delete_page(policy, place, most, dry_run=dry_run)
                deleted += row["deleted"]
                if row["looked_at"] < most:
                    break
                place = (row["last_at"], row["last_id"])
                # Each goes with its children: of those with many, few are looked at.
                most = (
                    min(max(most * PAGE // row["deleted"], 1), PAGE) if row["deleted"] > PAGE else min(2 * most, PAGE)
                )
                await asyncio.sleep(min(time() - began, PAUSE_MAX))  # others get as much as we have taken
        while self._keep_ids is not None and not dry_run:
            began = time()
            (row,) = await self._link.fetch_surely(load("retention/forget"), self._keep_ids, IDS)
            forgotten += row["n"]
            if row["n"] < IDS:
                break
            await asyncio.sleep(min(time() - began, PAUSE_MAX))
        return deleted, forgotten

    async def _delete_page(self, policy: Policy, place: Place, most: int, *, dry_run: bool) -> tuple[Named, int]:
        """Look at the next few, at *most* so many, see ``retention/delete``; and say at how many at most it was. What takes too
        long is tried with fewer; a single one for which that is so is left, with a word to the log."""
        query, attempt = load("retention/delete"), 0
        skipped = False
        while True:
            arguments = (policy.workflow, policy.status, policy.seconds, *place, most, dry_run or skipped)
            try:
                (row,) = await self._link.fetch(query, *arguments)
            except asyncpg.QueryCanceledError:
                if skipped:
                    raise
                skipped, most = most == 1, max(most // 8, 1)
            except (*LOST, *AGAIN) as error:
                attempt += 1
                log_lost("janitor", attempt, error)
                await asyncio.sleep(backoff(attempt))
            else:
                if not skipped:
                    return row, most
                log.error(
                    "execution %s of %r could not be deleted within %.0f s, because of its many children or of a slow disk: "
                    "it is left, and tried again in the next round. If it stays, delete it by hand.",
                    row["last_id"],
                    policy.workflow,
                    REPLY_SECONDS * 0.9,
                )
                return {**row, "deleted": 0}, most

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()
