"""This worker's standing: who it is, whether its lease holds, and what that means for the claims it has made.

Owns identity and lapse. A lapse (the lease could not be renewed in time, or this worker was declared dead) begins a new
epoch: claims made in an earlier one are not used any more, whoever still hears of them. Only `watch` ends a lapse.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from durable.ids import new_token
from durable.runtime.lease_keeper import LeaseKeeper

log = logging.getLogger("durable.runtime")

MARGIN = 0.2  # of the lease: with less left of it, nothing new begins and what runs is stopped
LOOK_SECONDS = 0.05  # between looks at a lease that another thread renews


class Standing:
    """*on_lapse* is called when everything has to be stopped, *on_return* is awaited when work may go on, *on_lapsed_peers*
    gets the workers whose leases have lapsed, *on_shapes* how many shapes are stored."""

    def __init__(
        self,
        dsn: str,
        lease: float,
        on_lapse: Callable[[], None],
        on_return: Callable[[], Awaitable[None]],
        on_lapsed_peers: Callable[[list[UUID]], None],
        on_shapes: Callable[[int], None],
    ) -> None:
        self._dsn = dsn
        self._lease = lease
        self._margin = lease * MARGIN
        self._on_lapse = on_lapse
        self._on_return = on_return
        self._on_lapsed_peers = on_lapsed_peers
        self._on_shapes = on_shapes
        self._dead = False
        self._news = asyncio.Event()
        self.lapsed = False
        self.epoch = 0
        self.worker_id = new_token()
        self._keeper = self._new_keeper()

    @property
    def well(self) -> bool:
        """Whether something new may begin here."""
        return not self.lapsed and time.monotonic() + self._margin < self._keeper.valid_until

    @property
    def holds(self) -> bool:
        """Whether our claims are still ours alone."""
        return not self.lapsed and self._keeper.holds()

    async def start(self) -> None:
        """Register. Raises what keeps this worker from it, other than an outage."""
        await self._keeper.start()

    async def stop(self) -> None:
        """Renew no more."""
        await self._keeper.stop()

    async def watch(self) -> None:
        """Watch the lease until cancelled."""
        while True:
            if self.well:
                self._news.clear()
                try:
                    async with asyncio.timeout(self._keeper.valid_until - self._margin - time.monotonic()):
                        await self._news.wait()
                except TimeoutError:
                    pass
                continue
            self._lapse()
            while not self._keeper.holds(self._margin):
                if self._dead:
                    await self._be_reborn()
                await asyncio.sleep(LOOK_SECONDS)
            epoch = self.epoch
            await self._on_return()
            if epoch == self.epoch and not self._dead:
                self.lapsed = False
                log.info("the lease holds again: work goes on")

    def _lapse(self) -> None:
        if not self.lapsed:
            log.warning("the lease could not be renewed in time: steps are stopped until it can")
        self.lapsed = True
        self.epoch += 1
        self._on_lapse()

    def _declared_dead(self) -> None:
        """We were frozen past the lease, and taken for dead: whatever we hold is others' by now."""
        log.warning("this worker was taken for dead; it stops what it runs and goes on under a new identity")
        self._dead = True
        self._lapse()
        self._news.set()

    async def _be_reborn(self) -> None:
        await self._keeper.stop()
        self.worker_id = new_token()
        self._keeper = self._new_keeper()
        try:
            await self._keeper.start()
            self._dead = False
        except Exception:
            log.exception("this worker cannot register under a new identity; it tries again")
            await asyncio.sleep(1)

    def _new_keeper(self) -> LeaseKeeper:
        return LeaseKeeper(
            self._dsn,
            self.worker_id,
            self._lease,
            asyncio.get_running_loop(),
            self._on_lapsed_peers,
            self._declared_dead,
            self._on_shapes,
        )
