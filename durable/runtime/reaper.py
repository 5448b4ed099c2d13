"""Reaping: what dead workers held becomes ready again.

Every worker does it, without a leader: a lapsed worker is first declared dead, which keeps it from renewing, then its claims
are moved in small transactions, and when it holds nothing it is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from durable.store.connection import Link
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

REAP_ROWS = 500


class Reaper:
    """Runs as a task. *on_ready(queues)* is called when executions became ready, *on_dead* when a worker is dead, which
    may have known of timers that nobody else keeps, *on_lost(worker, executions)* when one has crashed."""

    def __init__(
        self,
        link: Link,
        on_ready: Callable[[Sequence[str]], None],
        on_dead: Callable[[], None],
        on_lost: Callable[[UUID, int], None],
    ) -> None:
        self._link = link
        self._on_ready = on_ready
        self._on_dead = on_dead
        self._on_lost = on_lost
        self._lapsed: dict[UUID, None] = {}
        self._orphans: dict[UUID, None] = {}
        self._wanted = asyncio.Event()

    def reap(self, lapsed: Iterable[UUID]) -> None:
        """Look after these workers, whose leases have lapsed."""
        self._lapsed.update(dict.fromkeys(lapsed))
        self._wanted.set()

    def reap_orphans(self, forgotten: Iterable[UUID]) -> None:
        """Look after the claims of these workers, which are forgotten already."""
        self._orphans.update(dict.fromkeys(forgotten))
        self._wanted.set()

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.reap_all()

    async def reap_all(self) -> None:
        """Reap whom it was told of."""
        while self._lapsed:
            await self._bury(self._lapsed.popitem()[0])
        while self._orphans:
            await self._move(self._orphans.popitem()[0], suspects_only=False, crashed=False)

    async def _bury(self, worker: UUID) -> None:
        buried = await self._link.fetch_surely(load("worker/bury"), worker)
        if not buried:
            return  # it has renewed its lease after all, or somebody else was faster
        self._on_dead()
        signed_off, suspects_only = buried[0]["signed_off"], buried[0]["suspects_in_flight"]
        moved = await self._move(worker, suspects_only=suspects_only, crashed=not signed_off)
        log.warning("worker %s is dead; %d executions of it are ready again", worker, moved)
        if buried[0]["first"] and not signed_off:
            self._on_lost(worker, moved)
        await self._link.fetch_surely(load("worker/remove"), worker)

    async def _move(self, worker: UUID, *, suspects_only: bool, crashed: bool) -> int:
        moved = 0
        while True:
            rows = await self._link.fetch_surely(load("claim/reap"), worker, suspects_only, REAP_ROWS, crashed)
            if rows:
                self._on_ready(sorted({row["queue"] for row in rows}))
            moved += len(rows)
            if not rows:  # a short page may be one of which some have ended meanwhile
                return moved
