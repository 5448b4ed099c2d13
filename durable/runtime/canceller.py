"""Cancelling: on somebody's request, and of what is doomed because its parent has ended, or waits for it no more."""

from __future__ import annotations

import asyncio
from uuid import UUID

from durable.errors import StoreUnavailable
from durable.ids import new_token
from durable.model.status import Change, Status, stored_sources
from durable.runtime.herald import Herald
from durable.runtime.owned import Ended
from durable.store.connection import Link, Row
from durable.store.executions import Executions
from durable.store.queries import load

ROWS = 100
AT_ONCE = 4


class Canceller:
    """`cancel` is for everybody. Workers also run it as a task, which cancels what is doomed."""

    def __init__(self, executions: Executions, herald: Herald) -> None:
        self._executions = executions
        self._herald = herald
        self._sources = stored_sources(Change.CANCEL)
        self._doomed = asyncio.Event()

    async def cancel(self, execution_id: UUID, reason: str | None, *, compensate: bool) -> Row | None:
        """Cancel, or with *compensate* ask to undo, and tell whom it concerns. None when there is no such execution. Raises
        `asyncpg.DataError` for a reason that cannot be stored, and `StoreUnavailable`."""
        if compensate:
            acted = await self._executions.request_undo(execution_id, new_token(), reason or "", self._sources)
        else:
            acted = await self._executions.cancel(execution_id, new_token(), reason, self._sources)
        if acted is None:
            return None
        row, family = acted
        if row["changed"]:
            if row["claimed"]:
                self._herald.claim(execution_id)
            elif compensate:
                self._herald.ready(row["queue"])
            if not compensate:
                ended = Ended(Status.CANCELLED.value, reason=reason)
                self._herald.ended(execution_id, ended, row["watchers"])
        if family is not None:
            if family["parent_id"] is not None:
                self._herald.mail(family["parent_id"], family["parent_queue"], sure=False)
            if family["doomed"]:
                self._herald.doomed()
        return row

    def look(self) -> None:
        """Something may be doomed."""
        self._doomed.set()

    async def run(self, link: Link) -> None:
        """Cancel what is doomed until cancelled. Whoever does it twice does it once."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def end(row: Row) -> None:
            async with turn:
                await self.cancel(row["execution_id"], row["reason"], compensate=row["undo"])

        while True:
            self._doomed.clear()
            rows = await link.fetch_surely(load("child/doomed"), ROWS)
            if not rows:
                await self._doomed.wait()
                continue
            try:
                await asyncio.gather(*(end(row) for row in rows))
            except StoreUnavailable:
                continue  # what was cancelled is found cancelled
            await link.fetch_surely(load("child/spare"), [row["execution_id"] for row in rows])
