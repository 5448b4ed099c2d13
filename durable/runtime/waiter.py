"""Waiting for results: one waiter for the whole process, however many handles are awaited.

An execution that runs here tells its end directly. For any other, this process is written down on the execution's row, and
whoever ends it sends a message. A look at the table now and then makes up for messages that were lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from uuid import UUID

from durable.errors import EngineNotRunning, UnknownExecution
from durable.runtime.owned import Ended
from durable.store.connection import Link
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

ASK_ROWS = 1_000


class Waiter:
    """Runs as a task. *runs_here* tells whether an execution runs in this process."""

    def __init__(
        self,
        dsn: str,
        process: UUID,
        runs_here: Callable[[UUID], bool],
        poll_seconds: Callable[[], float],
    ) -> None:
        # That somebody waits need not survive a crash of PostgreSQL, and must not make the work wait for one more flush.
        self._link = Link(dsn, "waiter", more={"synchronous_commit": "off"})
        self._process = process
        self._runs_here = runs_here
        self._poll_seconds = poll_seconds
        self._futures: dict[UUID, asyncio.Future[Ended]] = {}
        self._users: dict[UUID, int] = {}
        self._unwatched: set[UUID] = set()
        self._told: set[UUID] = set()
        self._wake = asyncio.Event()
        self._over = False

    async def wait(self, execution_id: UUID) -> Ended:
        """How the execution ended, once it has. Raises `UnknownExecution`, and `EngineNotRunning` when the engine is closed
        meanwhile. Cancelling it changes nothing for others."""
        if self._over:
            raise EngineNotRunning("the engine is closed: nobody would tell of a result")
        future = self._futures.get(execution_id)
        if future is None:
            future = self._futures[execution_id] = asyncio.get_running_loop().create_future()
        self._users[execution_id] = self._users.get(execution_id, 0) + 1
        try:
            if not self._runs_here(execution_id):
                self.ask(execution_id)
            return await asyncio.shield(future)
        finally:
            self._users[execution_id] -= 1
            if not self._users[execution_id]:
                del self._users[execution_id]
                self._futures.pop(execution_id, None)
                future.cancel()

    def ended(self, execution_id: UUID, ended: Ended) -> None:
        """An execution has ended in this process."""
        future = self._futures.get(execution_id)
        if future is not None and not future.done():
            future.set_result(ended)

    def told(self, execution_id: UUID) -> None:
        """A message says that an execution has ended."""
        if execution_id in self._futures:
            self._told.add(execution_id)
            self._wake.set()

    def ask(self, execution_id: UUID) -> None:
        """An execution does not run here, or not any more: its end will have to be told."""
        future = self._futures.get(execution_id)
        if future is not None and not future.done():
            self._unwatched.add(execution_id)
            self._wake.set()

    def look(self) -> None:
        """Messages may have been missed."""
        for execution_id in self._futures:
            if not self._runs_here(execution_id):
                self.ask(execution_id)

    async def run(self) -> None:
        """Wait for all until cancelled; then nobody is left waiting."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        try:
            while True:
                waiting = bool(self._futures)
                # Counted from the last look, not from the last message: others' messages do not make up for a lost one.
                look_at = looked + self._poll_seconds()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(look_at if waiting else None):
                        await self._wake.wait()
                if not waiting or loop.time() >= look_at:
                    looked = loop.time()
                    if waiting:
                        self.look()
                self._wake.clear()
                await self._look_after(_some(self._unwatched), _some(self._told))
                if self._unwatched or self._told:
                    self._wake.set()
        finally:
            self._over = True  # whoever is told of it may ask for the next one at once
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(EngineNotRunning("the engine was closed while this result was waited for"))
            await self._link.close()

    async def _look_after(self, asked: set[UUID], told: set[UUID]) -> None:
        try:
            ended: set[UUID] = set()
            if asked:
                rows = await self._link.fetch_surely(load("execution/watch"), sorted(asked), self._process)
                ended = asked - {row["execution_id"] for row in rows}
                told |= ended
            if told:
                await self._fetch_results(told, ended)
        except Exception:  # whatever it is, those who wait go on waiting
            log.exception("results cannot be asked for")
            await asyncio.sleep(1)
            self._unwatched |= asked | told

    async def _fetch_results(self, told: set[UUID], unwatched: set[UUID]) -> None:
        rows = await self._link.fetch_surely(load("execution/results"), list(told))
        for row in rows:
            if row["ended"]:
                self.ended(row["execution_id"], Ended(row["status"], row["result"], row["error"], row["reason"]))
        # One that was retried between the two looks is watched anew. A mere message about one that goes on may be that of the
        # end before a retry.
        self._unwatched |= {row["execution_id"] for row in rows if not row["ended"]} & unwatched
        for execution_id in unwatched - {row["execution_id"] for row in rows}:
            future = self._futures.get(execution_id)
            if future is not None and not future.done():
                future.set_exception(UnknownExecution(f"there is no execution {execution_id}"))


def _some(ids: set[UUID]) -> set[UUID]:
    """Take up to a bounded number out of *ids*."""
    return {ids.pop() for _ in range(min(len(ids), ASK_ROWS))}
