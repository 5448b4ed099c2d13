"""Where the figures of a running engine come from: what it has counted, and what the database says of all. Every exporter
reads them here, and none has others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from durable.errors import DurableError
from durable.model.status import FAILED
from durable.store.connection import Row
from durable.store.executions import Executions
from durable.store.group_commit import GroupCommit
from durable.telemetry.catalogue import Labels, Sample
from durable.telemetry.meter import OTHER, Meter

FRESH = 5.0  # seconds for which what the database has said is said again
ANSWER_SECONDS = 2.0
COUNTED_MAX = 10_000
WORKFLOWS_MAX = 100  # that are told apart in what is said of the database


class Figures:
    """The figures of one engine while it runs. *slots* are those of its worker: queue, how many, and how many are used."""

    def __init__(
        self,
        meter: Meter,
        commit: GroupCommit,
        executions: Executions,
        slots: Callable[[], Iterable[tuple[str, int, int]]],
    ) -> None:
        self.meter = meter
        self.loop = asyncio.get_running_loop()
        self.known: list[Sample] = []  # what the database has said last
        self._commit = commit
        self._executions = executions
        self._slots = slots
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    def here(self) -> Iterator[Sample]:
        """Those of this process, histograms apart. In any thread."""
        yield from self.meter.counters()
        rows, flushes = self._commit.written
        yield "durable_writes_total", (), rows
        yield "durable_flushes_total", (), flushes
        for queue, most, used in self._slots():
            yield "durable_slots", (("queue", queue),), most
            yield "durable_slots_used", (("queue", queue),), used

    async def ask(self) -> None:
        """Ask the database, unless it has said so a moment ago. On the engine's loop. If cancelled, what was known stays."""
        async with self._asking:
            if time.monotonic() - self._asked_at < FRESH:
                return
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    self.known = [("durable_up", (), 1.0), *await self._of_the_database()]
            except (TimeoutError, DurableError):
                self.known = [("durable_up", (), 0.0)]
            self._asked_at = time.monotonic()

    async def _of_the_database(self) -> list[Sample]:
        samples: list[Sample] = []
        for row in await self._executions.fetch("queue/list"):
            label: Labels = (("queue", row["queue"]),)
            samples += [
                ("durable_queue_ready", label, row["ready"]),
                ("durable_queue_held", label, row["held"]),
                ("durable_queue_running", label, row["running"]),
                ("durable_queue_oldest_seconds", label, max(row["oldest_seconds"] or 0.0, 0.0)),
                ("durable_queue_paused", label, int(row["paused"])),
            ]
        samples += _by_workflow(await self._executions.fetch("workflow/count", list(FAILED), COUNTED_MAX))
        workers = await self._executions.fetch("worker/list")
        samples.append(("durable_workers", (), sum(row["lease_in"] > 0 and not row["dead"] for row in workers)))
        samples.append(("durable_waiting", (), (await self._executions.fetch("wake/count"))[0]["n"]))
        return samples


def _by_workflow(rows: list[Row]) -> Iterator[Sample]:
    """Those with the most are told by name, the others together."""
    rest = rows[WORKFLOWS_MAX:]
    for row in rows[:WORKFLOWS_MAX]:
        yield from _of_workflow(row["workflow"], row["failed"], row["waiting"])
    if rest:
        failed = [sum(counts) for counts in zip(*(row["failed"] for row in rest), strict=True)]
        yield from _of_workflow(OTHER, failed, sum(row["waiting"] for row in rest))


def _of_workflow(workflow: str, failed: Iterable[int], waiting: int) -> Iterator[Sample]:
    for status, count in zip(FAILED, failed, strict=True):
        yield "durable_workflow_failed", (("workflow", workflow), ("status", status.value)), count
    yield "durable_workflow_waiting", (("workflow", workflow),), waiting
