"""Claiming: fills free slots with ready executions, as many as there are slots and no more.

It looks when it is nudged: by a notification, a freed slot while more is waiting, a timer that fired; and by itself now and
then, because nudges are hints.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from durable.ids import new_token
from durable.store.claims import Claimable, Past, Want, find_taken, read_pasts, take, take_plain
from durable.store.connection import AGAIN, LOST, Link, Row, backoff, log_lost
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

GAP = 0.004  # seconds between two claims while few slots are free: one row a claim would cost more than the work
QUARTER = 4
AT_ONCE = 128  # rows that one claim asks for in a queue at most: while it begins them, PostgreSQL finds it the next
RATE_GAP = 0.02  # seconds between two looks at a queue whose rate is used up


@dataclass(slots=True)
class Lane:
    """A queue as this worker sees it. `backlog` is true while the last claim found as much as it asked for; `held`, until we
    have looked whether there is something that a plain claim leaves alone: held executions that this worker can go on with,
    suspects, paused ones. `limited`: how much of it may run is granted to all workers together; then `others` is whether
    something was ready in it, for whatever worker, and `timer` when its rate allows more."""

    name: str
    concurrency: int
    in_flight: int = 0
    backlog: bool = True
    held: bool = True
    limited: bool = False
    others: bool = True
    timer: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        """Slots that nothing runs in."""
        return self.concurrency - self.in_flight

    @property
    def is_nearly_full(self) -> bool:
        """Whether it pays to wait a moment until more slots are free."""
        return self.free < min(self.concurrency / QUARTER, AT_ONCE / 2)


_NOTHING = Past()


class Claimer:
    """Runs as a task. *on_claimed(epoch, token, row, past)* starts an execution; the slot is taken before it is called."""

    def __init__(
        self,
        dsn: str,
        lanes: dict[str, Lane],
        claimable: Claimable,
        identity: Callable[[], tuple[UUID, int] | None],
        suspects: Callable[[], int],
        on_claimed: Callable[[int, UUID, Row, Past], None],
        under_way: set[UUID],
        poll_seconds: Callable[[], float],
    ) -> None:
        self._link = Link(dsn, "claimer")
        self._lanes = lanes
        self._claimable = claimable
        self._identity = identity
        self._suspects = suspects
        self._on_claimed = on_claimed
        self._under_way = under_way
        self._poll_seconds = poll_seconds
        self._nudged = asyncio.Event()
        self._limits_changed = True
        self.keyed: frozenset[str] = frozenset()  # the queues in which keys take turns
        self._claimed_at = 0.0
        self._stopping = False

    def nudge(self, queue: str | None = None, *, held: bool = False) -> None:
        """Something may be ready in *queue*, or in any. *held*: it may be such as is held."""
        if queue is None:
            for lane in self._lanes.values():
                lane.backlog = True
                lane.held |= held
        elif queue in self._lanes:
            self._lanes[queue].backlog = True
        else:
            return
        self._nudged.set()

    def learn(self, claimable: Claimable) -> None:
        """More may be claimed here."""
        self._claimable = claimable
        self.nudge(held=True)

    def limits_changed(self) -> None:
        """Limits of queues may be others than we know."""
        self._limits_changed = True
        self.nudge()

    def slot_freed(self, lane: Lane) -> None:
        """A slot is free: worth a look while more is waiting."""
        if lane.backlog:
            self._nudged.set()

    def stop(self) -> None:
        """Claim no more. A claim under way is still delivered; `run` returns after it."""
        self._stopping = True
        self._nudged.set()

    async def run(self) -> None:
        """Claim until `stop`."""
        loop = asyncio.get_running_loop()
        # Counted from the last look at all queues: nudges for a busy one must not put off the poll for the others.
        poll_at = loop.time() + self._poll_seconds()
        try:
            while not self._stopping:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(poll_at):
                        await self._nudged.wait()
                if loop.time() >= poll_at:  # of one that is always nudged, no wait is long enough to time out
                    self.nudge(held=True)
                    self._limits_changed = True
                    poll_at = loop.time() + self._poll_seconds()
                self._nudged.clear()
                if self._limits_changed:
                    await self._read_limits()
                wants = self._wants()
                if wants and all(self._lanes[queue].is_nearly_full for queue in wants):
                    await asyncio.sleep(self._claimed_at + GAP - loop.time())
                    wants = self._wants()
                if wants and not self._stopping:
                    await self._claim(wants)
                    self._claimed_at = loop.time()
        finally:
            await self._link.close()

    async def _read_limits(self) -> None:
        self._limits_changed = False
        rows = await self._link.fetch_surely(load("queue/limits"))
        limited = {row["queue"] for row in rows if row["limited"]}
        self.keyed = frozenset(row["queue"] for row in rows if row["keyed"])
        for lane in self._lanes.values():
            lane.limited = lane.name in limited

    def _wants(self) -> dict[str, Want]:
        return {
            lane.name: Want(min(lane.free, AT_ONCE), lane.held)
            for lane in self._lanes.values()
            if lane.backlog and lane.free > 0
        }

    async def _claim(self, wants: dict[str, Want]) -> None:
        identity, token = self._identity(), new_token()
        if identity is None:
            return  # the lease is gone; its return nudges
        # The slots are held from now on, so that a local start meanwhile does not overfill the queue.
        for queue, want in wants.items():
            self._lanes[queue].in_flight += want.count
            self._lanes[queue].held = False
        self._under_way.add(token)
        found: list[Row] = []
        pasts: dict[UUID, Past] = {}
        try:
            found, pasts = await self._take(identity, token, wants)
        finally:
            rows = [row for row in found if not row["parked"]]
            met, taken = _by_queue(found), _by_queue(rows)
            self._settle(wants, found, met, taken)
            if any(row["crashes"] for row in rows):
                # At once: whether another suspect may be claimed is known when this one has begun.
                self._begin(identity[1], token, rows, pasts)
            else:
                # If there is more, it is asked for first, and PostgreSQL looks for it while these begin.
                asyncio.get_running_loop().call_soon(self._begin, identity[1], token, rows, pasts)
        # What was put aside has used up what was granted: then the limits have said nothing.
        parked = {row["queue"] for row in found if row["parked"]}
        short = [
            queue
            for queue, want in wants.items()
            if self._lanes[queue].limited and queue not in parked and taken[queue] < want.count
        ]
        blocked = await self._look_again(short) if short else set[str]()
        if any(lane.backlog and lane.free > 0 and lane.name not in blocked for lane in self._lanes.values()):
            self._nudged.set()

    def _begin(self, epoch: int, token: UUID, rows: list[Row], pasts: dict[UUID, Past]) -> None:
        """Take up what was claimed."""
        for row in rows:
            try:
                self._on_claimed(epoch, token, row, pasts.get(row["execution_id"], _NOTHING))
            except Exception:
                # Its claim is given back by the audit; its slot, and the rest, must not be lost with it.
                log.exception("execution %s could not be taken up", row["execution_id"])
                self._lanes[row["queue"]].in_flight -= 1
        self._under_way.discard(token)

    def _settle(self, wants: dict[str, Want], found: list[Row], met: Counter[str], taken: Counter[str]) -> None:
        """Give back the slots that nothing was taken for, and know whether there is more. *found* are, by queue *met*, those
        *taken*, and those that were put aside."""
        for row in found:
            self._lanes[row["queue"]].held |= row["held_by"] is not None  # there may be more
        for queue, want in wants.items():
            lane = self._lanes[queue]
            lane.in_flight -= want.count - taken[queue]
            # A nudge that came meanwhile may speak of rows that the claim did not see: it keeps its word.
            if not self._nudged.is_set():
                lane.backlog = met[queue] >= want.count or lane.held or (lane.limited and met[queue] > taken[queue])

    async def _look_again(self, queues: list[str]) -> set[str]:
        """Find out whether more is ready in *queues* than their limits allow now: those of them in which it is. Such a queue
        waits for a slot of another worker, or for time: both nudge."""
        try:
            claimable = self._claimable
            rows = await self._link.fetch(load("queue/next"), queues, claimable.shapes, claimable.known, claimable.own)
        except (*LOST, *AGAIN) as error:
            log_lost("claimer", 1, error)
            rows = []  # the poll finds out
        except Exception:
            log.exception("what else is ready could not be found out")
            rows = []
        blocked: set[str] = set()
        for row in rows:
            lane = self._lanes[row["queue"]]
            lane.others = row["others"]
            lane.held |= row["held"]
            if row["more"] or row["held"]:
                lane.backlog = True
                blocked.add(lane.name)
                if row["next_in"] is not None:
                    self._look_at(lane, row["next_in"])
        return blocked

    def _look_at(self, lane: Lane, delay: float) -> None:
        """Look at a queue again in *delay* seconds, or when it is to be looked at already, if that is sooner."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(delay, RATE_GAP) + GAP
        if lane.timer is not None and not lane.timer.cancelled():
            if loop.time() < lane.timer.when() <= when:
                return
            lane.timer.cancel()
        lane.timer = loop.call_at(when, self.nudge, lane.name)

    async def _take(
        self, identity: tuple[UUID, int], token: UUID, wants: dict[str, Want]
    ) -> tuple[list[Row], dict[UUID, Past]]:
        """Claim what is ready, with its past. Nothing, if anything is not certain: what was claimed all the same is given
        back by the audit, and must not begin without its journal."""
        attempt = 0
        while self._identity() == identity:
            try:
                rows = await self._rows(identity[0], token, wants, again=attempt > 0)
                return rows, await read_pasts(self._link, [row for row in rows if not row["parked"]])
            except (*LOST, *AGAIN) as error:
                attempt += 1
                log_lost("claimer", attempt, error)
                await asyncio.sleep(backoff(attempt))
            except Exception:
                log.exception("claiming failed")
                await asyncio.sleep(1)
                break
        return [], {}

    async def _rows(self, owner: UUID, token: UUID, wants: dict[str, Want], *, again: bool) -> list[Row]:
        """Claim, by the plain statement if that will do. *again*: an earlier try may have claimed under this token."""
        lanes = [self._lanes[queue] for queue in wants]
        if again and (found := await find_taken(self._link, owner, token)):
            self._look_closer(lanes)  # what else that reply has said is not known
            return found
        given = (self._link, owner, token, wants, self._claimable, self._suspects())
        if any(lane.limited for lane in lanes) or any(want.held for want in wants.values()):
            return await take(*given)
        plain = await take_plain(*given)
        if plain.special:
            self._look_closer(lanes)
        if plain.limited:  # since we looked
            self.limits_changed()
        return plain.rows

    def _look_closer(self, lanes: list[Lane]) -> None:
        """Have the next claim of these be one that takes what is special, too."""
        for lane in lanes:
            lane.held = True


def _by_queue(rows: list[Row]) -> Counter[str]:
    return Counter(row["queue"] for row in rows)
