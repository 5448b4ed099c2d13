"""Auditing: compares the claims that this worker believes it holds with those the database says it holds.

Both can be wrong for a while: a message that a claim was taken away may be lost, and so may the reply to a claim.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from uuid import UUID

from durable.runtime.owned import Interrupted, Owned
from durable.store.connection import Link
from durable.store.queries import load

AGE = 5.0  # seconds; a younger claim may be newer than the answer


class Auditor:
    """Runs as a task. *under_way* holds the tokens of claims that are being asked for. *reap_orphans* gets workers that are
    forgotten but have claims, *release* the claims of ours that nobody here knows."""

    def __init__(
        self,
        link: Link,
        worker_id: Callable[[], UUID],
        owned: Mapping[UUID, Owned],
        under_way: Set[UUID],
        reap_orphans: Callable[[Iterable[UUID]], None],
        release: Callable[[UUID, UUID], Awaitable[None]],
        poll_seconds: Callable[[], float],
    ) -> None:
        self._link = link
        self._worker_id = worker_id
        self._owned = owned
        self._under_way = under_way
        self._reap_orphans = reap_orphans
        self._release = release
        self._poll_seconds = poll_seconds
        self._strays: set[tuple[UUID, UUID]] = set()

    async def run(self) -> None:
        """Audit now and then until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds())
            await self._audit()

    async def _audit(self) -> None:
        worker_id, old = self._worker_id(), time.monotonic() - AGE
        rows = await self._link.fetch_surely(load("claim/audit"), worker_id)
        if worker_id != self._worker_id():
            return
        self._reap_orphans({row["owner"] for row in rows} - {worker_id})
        tokens: dict[UUID, UUID] = {row["execution_id"]: row["token"] for row in rows if row["owner"] == worker_id}
        for owned in list(self._owned.values()):
            if owned.claimed_at < old and tokens.get(owned.execution_id) != owned.token:
                owned.interrupt(Interrupted.CLAIM_LOST)
        for row in rows:
            owned = self._owned.get(row["execution_id"])
            if owned is not None and row["undo"] is not None:
                owned.ask_to_undo(row["undo"])
            if owned is not None:
                owned.paused = bool(row["paused"])
            if owned is not None and row["mail"] > owned.inbox.seen:
                await owned.fetch_mail(row["mail"])
        strays = {
            (execution_id, token)
            for execution_id, token in tokens.items()
            if execution_id not in self._owned and token not in self._under_way
        }
        for execution_id, token in strays & self._strays:  # twice in a row: not one that has just ended, or just begins
            await self._release(execution_id, token)
        self._strays = strays
