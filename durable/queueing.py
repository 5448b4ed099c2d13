"""The calls about queues, and the workers that serve them."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from durable.model.names import check_name
from durable.parts import Calls
from durable.queues import Rate
from durable.request import check_queue_name


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as it stands now. `ready` could run, `running` does, `held` waits for other code; `oldest_ready_at` is since
    when the one that has waited longest is ready. The limits are those that hold for all workers; None is none."""

    name: str
    ready: int
    running: int
    held: int
    oldest_ready_at: datetime | None
    global_concurrency: int | None
    rate: Rate | None
    per_key: int | None
    max_depth: int | None
    keyed: bool
    paused: bool
    paused_at: datetime | None
    pause_reason: str | None
    paused_by: str | None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the database knows it. `lease_in` is how many seconds its lease holds; a negative one has lapsed, and what
    the worker runs is taken over."""

    id: UUID
    host: str
    pid: int
    started_at: datetime
    lease_in: float
    dead: bool
    signed_off: bool
    running: int


class Queueing(Calls):
    """Asks after queues and workers, pauses queues."""

    async def list_queues(self) -> list[QueueView]:
        """All queues that something is in, that a workflow names, or that were declared or paused, by name. Counts what is in
        them: not a call for every request. Raises `StoreUnavailable`."""
        rows = await self.parts().executions.fetch("queue/list")
        return [
            QueueView(
                name=row["queue"],
                rate=None
                if row["rate_limit"] is None
                else Rate(row["rate_limit"], timedelta(seconds=row["rate_seconds"])),
                **{name: row[name] for name in QueueView.__struct_fields__ if name not in ("name", "rate")},
            )
            for row in rows
        ]

    async def pause_queue(self, name: str, reason: str | None = None, *, by: str | None = None) -> bool:
        """Have nothing of a queue taken up any more, by any worker; what runs goes on. *by* says who wants so.

        True when this call paused it, False when it was paused. Raises `UsageError`, `StoreUnavailable`. If cancelled, it may
        be paused.
        """
        return await self._pause(name, True, reason, by)

    async def resume_queue(self, name: str) -> bool:
        """Have a queue that was paused go on. True when this call did it. Otherwise like `pause_queue`."""
        return await self._pause(name, False, None, None)

    async def _pause(self, name: str, paused: bool, reason: str | None, by: str | None) -> bool:
        parts = self.parts()
        check_queue_name(name)
        for text, what in ((reason, "a reason"), (by, "the name of who pauses")):
            if text is not None:
                check_name(text, what)
        rows = await parts.executions.fetch("queue/pause", name, paused, reason, by)
        parts.herald.queues_changed()
        if not paused:
            parts.herald.ready(name)
        return bool(rows[0]["changed"])

    async def list_workers(self) -> list[WorkerView]:
        """The workers of this database, the oldest first. Raises `StoreUnavailable`."""
        rows = await self.parts().executions.fetch("worker/list")
        return [
            WorkerView(
                id=row["worker_id"], **{name: row[name] for name in WorkerView.__struct_fields__ if name != "id"}
            )
            for row in rows
        ]
