"""Cancelling: on somebody's request, and of what is doomed because its parent has ended, or waits for it no more."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from durable.ids import new_token
from durable.model.status import Change, Status, stored_sources
from durable.runtime.herald import Herald
from durable.runtime.owned import Ended
from durable.store.connection import Link, Row
from durable.store.executions import Executions, Note
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

ROWS = 100
AT_ONCE = 4
AGAIN_SECONDS = 15.0


class Canceller:
    """`cancel` is for everybody. Workers also run it as a task, which cancels what is doomed."""

    def __init__(self, executions: Executions, patient: Executions, herald: Herald) -> None:
        self._executions = executions
        self._patient = patient
        self._herald = herald
        self._sources = stored_sources(Change.CANCEL)
        self._doomed = asyncio.Event()

    async def cancel(
        self, execution_id: UUID, reason: str | None, *, compensate: bool, doomed: bool = False, by: str | None = None
    ) -> Row | None:
        """Cancel, or with *compensate* ask to undo, and tell whom it concerns. *by* is who asked for it, if it is not
        *doomed*. None when there is no such execution. Raises `asyncpg.DataError` for a reason that cannot be stored, and
        `StoreUnavailable`."""
        executions = self._patient if doomed else self._executions
        note = None if doomed else Note(by, compensate)
        if compensate:
            acted = await executions.request_undo(execution_id, new_token(), reason or "", self._sources, note)
        else:
            acted = await executions.cancel(execution_id, new_token(), reason, self._sources, note)
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
        """Cancel what is doomed until cancelled. Whoever does it twice does it once. What cannot be cancelled now, because
        somebody's transaction holds it, say, holds up nobody else."""
        loop = asyncio.get_running_loop()
        turn = asyncio.Semaphore(AT_ONCE)
        put_off: dict[UUID, float] = {}  # until when, on the loop's clock

        async def end(row: Row) -> None:
            id = row["execution_id"]
            async with turn:
                try:
                    await self.cancel(id, row["reason"], compensate=row["undo"], doomed=True)
                except Exception as error:
                    log.warning("execution %s could not be cancelled, and is tried again: %s", id, error)
                    put_off[id] = loop.time() + AGAIN_SECONDS
                else:
                    put_off.pop(id, None)
                    await link.fetch_surely(load("child/spare"), [id])

        while True:
            self._doomed.clear()
            rows = await link.fetch_surely(load("child/doomed"), ROWS + len(put_off))
            now = loop.time()
            if due := [row for row in rows if put_off.get(row["execution_id"], 0.0) <= now]:
                await asyncio.gather(*(end(row) for row in due))
                continue
            next_at = min((put_off[row["execution_id"]] for row in rows), default=None)
            try:
                async with asyncio.timeout_at(next_at):
                    await self._doomed.wait()
            except TimeoutError:
                pass
