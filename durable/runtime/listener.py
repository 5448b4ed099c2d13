"""Notifications: one connection per process that listens, and sends what the process has to tell.

A notification is a hint, never the truth. What is sent goes outside every writing transaction and is coalesced: at once
when nothing was sent just now, else a few milliseconds later together with what came meanwhile. After every connect
comes `on_connect`, for whoever must look at the tables themselves; a ping to oneself finds connections that are dead
without saying so, and notifications that are dropped on the way.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

from durable.store.connection import LOST, Connection, backoff, connect, log_lost
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

READY = "durable_ready"  # payload: the names of queues in which something became ready, or one of:
TIMER = "*"  # some execution was put to sleep by a process that keeps no time
QUEUES = "!"  # limits of queues were changed
HELD = "?"  # some execution was held by a process whose code cannot go on with it

TOLD = "durable_told"  # payload: ids of executions whose owner is to ask: cancelled, to be undone, or with mail

GAP = 0.005  # seconds between two sends
PING_EVERY = 15.0  # seconds
PONG_WITHIN = 5.0
# A notification is a hint, and is lost in a crash anyway: it does not wait for the disk. Nothing else is sent here.
UNFLUSHED = {"synchronous_commit": "off"}

PAYLOAD_BYTES_MAX = 7_900  # PostgreSQL allows 8,000

OUTBOX_MAX = 10_000  # hints kept while there is no connection; whoever misses one finds out by looking

SCHEDULES = "durable_schedules"  # payload: of no meaning; a schedule was changed

FOLLOW = "durable_follow"  # payload: the id of an execution and that of a process that follows it

ENDED, NEWS, PING = "e", "n", "p"  # what a message to one process is about: its first letter


def channel_of(process: UUID) -> str:
    """The channel on which one process is told something."""
    return f"durable_{process.hex}"


class Listener:
    """Runs as a task. *on_message(channel, payload)* and *on_connect()* are called in the loop and must not block."""

    def __init__(
        self,
        dsn: str,
        process: UUID,
        channels: list[str],
        on_message: Callable[[str, str], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._dsn = dsn
        self.own = channel_of(process)
        self._channels = [self.own, *channels]
        self._on_message = on_message
        self._on_connect = on_connect
        self._outbox: dict[str, dict[str, None]] = {}
        self._filled = asyncio.Event()
        self._pings = itertools.count(1)
        self._awaited: str | None = None
        self._ping_at = 0.0
        self.healthy = False

    def send(self, channel: str, message: str) -> None:
        """Tell *channel* something soon; lost when the connection is. *message* must not contain a comma."""
        self._outbox.setdefault(channel, {})[message] = None
        self._filled.set()

    async def flush(self) -> None:
        """Let what is to be told go out, for a moment: the last news before closing."""
        deadline = asyncio.get_running_loop().time() + 1.0
        while self._outbox and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - bounded, and only at the end
            await asyncio.sleep(GAP)

    async def run(self) -> None:
        """Listen until cancelled, through any number of lost connections."""
        attempt = 0
        while True:
            connection: Connection | None = None
            try:
                connection = await connect(self._dsn, "listener", more=UNFLUSHED)
                connection.add_termination_listener(lambda _: self._filled.set())  # an idle listener must notice
                for channel in self._channels:
                    await connection.add_listener(channel, self._received)
                self._on_connect()  # after LISTEN: what was written before it is found by looking
                await self._converse(connection)
            except Exception as error:  # whatever it is, e.g. a password that is being changed, it may pass
                attempt = 1 if self.healthy else attempt + 1
                if not isinstance(error, LOST) and attempt == 1:
                    log.exception("listening failed")
                log_lost("listener", attempt, error)
                if sum(map(len, self._outbox.values())) > OUTBOX_MAX:
                    self._outbox.clear()
                await asyncio.sleep(backoff(attempt))
            finally:
                self.healthy = False
                if connection is not None:
                    connection.terminate()

    async def _converse(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time
        self._awaited = None
        self._ping_at = now()
        while True:
            if connection.is_closed():
                raise ConnectionError("the connection was closed")
            if now() >= self._ping_at:
                if self._awaited is not None:
                    raise ConnectionError("the connection delivers no notifications")
                self._awaited = f"{PING}{next(self._pings)}"
                self._ping_at = now() + PONG_WITHIN
                self.send(self.own, self._awaited)
            await self._flush(connection)
            await asyncio.sleep(GAP)
            if not self._outbox and not connection.is_closed():
                await self._idle(self._ping_at - now())

    async def _idle(self, seconds: float) -> None:
        self._filled.clear()
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._filled.wait()
        except TimeoutError:
            pass

    async def _flush(self, connection: Connection) -> None:
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, {}
        channels: list[str] = []
        payloads: list[str] = []
        for channel, messages in outbox.items():
            for payload in _packed(messages):
                channels.append(channel)
                payloads.append(payload)
        try:
            await connection.fetch(load("notify/send").sql, channels, payloads, timeout=PONG_WITHIN)
        except LOST:
            for channel, messages in outbox.items():  # to be told after the reconnect: twice does no harm
                self._outbox.setdefault(channel, {}).update(messages)
            raise

    def _received(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        for message in str(payload).split(","):
            if channel == self.own and message.startswith(PING):
                if message == self._awaited:
                    self._awaited = None
                    self._ping_at = asyncio.get_running_loop().time() + PING_EVERY
                    self.healthy = True
            else:
                self._on_message(channel, message)


def _packed(messages: Iterable[str]) -> Iterator[str]:
    """Messages joined by commas into payloads that PostgreSQL accepts."""
    payload: list[str] = []
    size = 0
    for message in messages:
        length = len(message.encode()) + 1
        if payload and size + length > PAYLOAD_BYTES_MAX:
            yield ",".join(payload)
            payload, size = [], 0
        payload.append(message)
        size += length
    yield ",".join(payload)
