"""Does what a storm has planned: to processes, to PostgreSQL, and to the network between them.

Owns: each deed, from its beginning to its end. It writes down whom it has frozen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.storm import plan
from tests.storm.history import Frozen
from tests.storm.plan import Deed
from tests.support.calls import AWAY

if TYPE_CHECKING:
    from tests.storm.driver import Post, Storm

HOLD_SECONDS = 3  # until the next record is sent
SLOW = 0.03  # seconds at most, at every statement of a slow time


class Doer:
    """Does the deeds of a *storm*."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._server = asyncio.Lock()  # whether PostgreSQL is being restarted

    async def befall(self, duration: float) -> None:
        """Do all that is planned, each in its time, and change the code meanwhile."""
        began = time.monotonic()
        rolls = [(share * duration, post) for share, post in zip(plan.ROLL, self._storm.posts, strict=True)]
        deeds = list(plan.deeds(self._storm.program.seed, duration, len(self._storm.posts)))
        async with asyncio.TaskGroup() as group:
            for at, post in rolls:
                group.create_task(self._roll(at, post))
            for deed in deeds:
                await asyncio.sleep(max(began + deed.at - time.monotonic(), 0.0))
                group.create_task(self._do(deed))
            await asyncio.sleep(max(began + duration - time.monotonic(), 0.0))
        # What lies in wait in the proxy strikes whatever comes; the rest is over.
        await asyncio.to_thread(self._storm.proxy.heal)
        await asyncio.to_thread(self._storm.proxy.accept)

    async def _roll(self, at: float, post: Post) -> None:
        await asyncio.sleep(at)
        post.rolled.set()

    async def _do(self, deed: Deed) -> None:
        act: dict[str, Callable[[Deed], Awaitable[None]]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "restart": self._restart,
            "terminate": self._terminate,
            "sever": self._sever,
            "half-open": self._half_open,
            "partition": self._partition,
            "late": self._late,
            "refuse": self._refuse,
            "lose": self._lose,
            "cut": self._cut,
            "slow": self._slow,
            "deaf": self._deaf,
        }
        self._storm.figures[deed.kind] += 1
        await act[deed.kind](deed)

    async def _kill(self, deed: Deed) -> None:
        if pid := self._storm.posts[deed.post].pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _freeze(self, deed: Deed) -> None:
        pid = self._storm.posts[deed.post].pid
        if not pid:
            return
        began, at = time.monotonic(), time.time()
        try:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(deed.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._storm.frozen.append(Frozen(pid, began, time.monotonic()))
        self._storm.frozen_at.append((pid, at, time.time()))

    async def _restart(self, deed: Deed) -> None:
        async with self._server:
            await self._storm.cluster.stop_immediately()
            await asyncio.sleep(deed.seconds)
            await self._storm.cluster.start_again()

    async def _terminate(self, deed: Deed) -> None:
        with contextlib.suppress(*AWAY):
            async with self._storm.direct() as connection:
                await connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid() and (pid * 7919) % 100 < $1",
                    100 * deed.share,
                )

    async def _sever(self, deed: Deed) -> None:
        self._storm.figures["connections cut"] += await asyncio.to_thread(self._storm.proxy.sever)

    async def _half_open(self, deed: Deed) -> None:
        self._storm.figures["connections frozen"] += await asyncio.to_thread(self._storm.proxy.half_open)
        await asyncio.sleep(deed.seconds)
        await asyncio.to_thread(self._storm.proxy.heal)

    async def _partition(self, deed: Deed) -> None:
        await asyncio.to_thread(self._storm.proxy.refuse)
        await self._half_open(deed)
        await asyncio.to_thread(self._storm.proxy.accept)

    async def _late(self, deed: Deed) -> None:
        hold = await asyncio.to_thread(self._storm.proxy.hold, "insert into durable.journal")
        try:
            await hold.wait(timeout=HOLD_SECONDS)
            await self._partition(deed)
        except (TimeoutError, ConnectionError):  # nobody has recorded anything, or it was cut
            pass
        finally:
            hold.release()

    async def _refuse(self, deed: Deed) -> None:
        await asyncio.to_thread(self._storm.proxy.refuse)
        await self._sever(deed)
        await asyncio.sleep(deed.seconds)
        await asyncio.to_thread(self._storm.proxy.accept)

    async def _lose(self, deed: Deed) -> None:
        await asyncio.to_thread(self._storm.proxy.cut_after_commit, "COMMIT", 1 + int(3 * deed.share))

    async def _cut(self, deed: Deed) -> None:
        await asyncio.to_thread(self._storm.proxy.cut_before, "COMMIT", 1 + int(3 * deed.share))

    async def _slow(self, deed: Deed) -> None:
        rng = random.Random(deed.at)
        self._storm.proxy.delay = lambda: rng.uniform(0, SLOW)
        await asyncio.sleep(deed.seconds)
        self._storm.proxy.delay = 0.0

    async def _deaf(self, deed: Deed) -> None:
        self._storm.proxy.drop_notifications = True
        await asyncio.sleep(deed.seconds)
        self._storm.proxy.drop_notifications = False
