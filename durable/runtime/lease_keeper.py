"""Lease keeping: one lease for the whole worker, renewed from a thread of its own.

A step that blocks the event loop must not cost every execution of the process its claim; so renewal has its own thread, loop
and connection. It stops when the event loop has been silent for a minute: a process that hangs should lose its work.

Owns the lease and the news that comes with each renewal: which other workers' leases have lapsed, and whether other code has
come. What to do about that, and about a lease of its own that cannot be renewed, is the supervisor's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from uuid import UUID

from durable.store.connection import AGAIN, LOST, Link, log_lost
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

SILENCE_SECONDS_MAX = 60.0  # of the event loop, after which the lease is left to lapse
RENEWALS_PER_LEASE = 3
REPLIES_PER_LEASE = 6  # how often a reply can stay away before the lease lapses; a try that failed is repeated soon
RETRY_SECONDS = 0.2


class LeaseKeeper:
    """Keeps the lease of *worker_id*. The callbacks are called in *loop*.

    *on_lapsed* gets the workers whose leases have lapsed, but only after our own renewals have succeeded for a full lease:
    when PostgreSQL was away, everybody's lease has lapsed and nobody is dead. *on_declared_dead* tells that this worker was
    taken for dead: its claims are gone. *on_shapes* gets how many shapes are stored, at first and when that has changed.
    """

    def __init__(
        self,
        dsn: str,
        worker_id: UUID,
        lease: float,
        loop: asyncio.AbstractEventLoop,
        on_lapsed: Callable[[list[UUID]], None],
        on_declared_dead: Callable[[], None],
        on_shapes: Callable[[int], None],
    ) -> None:
        self.lease = lease
        self.valid_until = 0.0  # on the monotonic clock; counted from before the renewal was sent
        self._dsn = dsn
        self._worker_id = worker_id
        self._loop = loop
        self._on_lapsed = on_lapsed
        self._on_declared_dead = on_declared_dead
        self._on_shapes = on_shapes
        self._shapes: int | None = None
        self._loop_seen = time.monotonic()
        self._succeeding_since: float | None = None
        self._stop = threading.Event()
        self._registered = asyncio.Event()
        self._registered_once = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="durable-lease-keeper", daemon=True)

    async def start(self) -> None:
        """Returns when the worker is registered. Raises what keeps it from registering, other than an outage."""
        self._thread.start()
        await self._registered.wait()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Stop renewing. Does not give the lease up: `worker/remove` does."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 5)

    def holds(self, margin: float = 0.0) -> bool:
        """Whether the lease is good for *margin* more seconds."""
        return time.monotonic() + margin < self.valid_until

    # --- in the thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._keep(), debug=False)  # it blocks its loop on purpose, which debugging would report
        except BaseException as error:
            self._failure = error
            log.exception("the lease keeper has failed; this worker's lease will lapse")
            self._post(self._registered.set)

    async def _keep(self) -> None:
        link = Link(self._dsn, "lease keeper", self.lease / REPLIES_PER_LEASE)
        known = False
        attempt = 0
        try:
            while not self._stop.is_set():
                pause = self.lease / RENEWALS_PER_LEASE
                self._post(self._echo)
                try:
                    if not known:
                        known = await self._register(link)
                    elif time.monotonic() - self._loop_seen > SILENCE_SECONDS_MAX:
                        log.error("the event loop has been blocked for a minute: the lease is left to lapse")
                        self._succeeding_since = None
                    else:
                        known = await self._renew(link)
                        pause = pause if known else 0
                    attempt = 0
                except Exception as error:
                    # Once registered, whatever keeps it from renewing may pass, e.g. a server that is read-only until a
                    # failover is complete.
                    if not self._registered_once and not isinstance(error, (*LOST, *AGAIN)):
                        raise
                    attempt += 1
                    self._succeeding_since = None
                    log_lost("lease keeper", attempt, error)
                    pause = min(pause, RETRY_SECONDS)
                await self._pause(pause)
        finally:
            await link.close()

    async def _pause(self, seconds: float) -> None:
        # In a thread of its own, blocking is fine: nothing else runs on this loop.
        self._stop.wait(seconds)

    async def _register(self, link: Link) -> bool:
        sent = time.monotonic()
        await link.fetch(load("worker/register"), self._worker_id, self.lease, socket.gethostname(), os.getpid())
        self.valid_until = sent + self.lease
        self._succeeding_since = sent
        self._registered_once = True
        self._post(self._registered.set)
        return True

    async def _renew(self, link: Link) -> bool:
        sent = time.monotonic()
        (row,) = await link.fetch(load("worker/renew"), self._worker_id, self.lease)
        if not row["alive"]:
            self._succeeding_since = None
            self.valid_until = 0.0
            self._post(self._on_declared_dead)
            self._stop.set()
            return False
        self.valid_until = sent + self.lease
        if self._succeeding_since is None:
            self._succeeding_since = sent
        if row["shapes"] != self._shapes:
            self._shapes = shapes = row["shapes"]
            self._post(lambda: self._on_shapes(shapes))
        if row["lapsed"] and sent - self._succeeding_since >= self.lease:
            lapsed: list[UUID] = list(row["lapsed"])
            self._post(lambda: self._on_lapsed(lapsed))
        return True

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self._stop.set()  # the loop is closed: there is nobody left to keep a lease for

    # --- in the loop ---

    def _echo(self) -> None:
        self._loop_seen = time.monotonic()
