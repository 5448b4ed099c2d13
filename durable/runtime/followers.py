"""Who follows which execution: readers in this process, and readers elsewhere that workers here are to tell of what is new.

A reader says every few seconds whom it follows, to all workers: whichever runs the execution, now or after a takeover, hears of
it. All of it is a hint; readers look by themselves now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from uuid import UUID

from durable.runtime.listener import FOLLOW, NEWS, Listener, channel_of

FOLLOW_EVERY = 10.0  # seconds
FORGET_AFTER = 25.0


class Followers:
    """The readers of one process, and what its workers know of others."""

    def __init__(self, process: UUID, listener: Listener) -> None:
        self._process = process
        self._listener = listener
        self._readers: dict[UUID, set[asyncio.Event]] = {}
        self._elsewhere: dict[UUID, dict[UUID, float]] = {}  # until when, on the loop's clock

    @contextlib.contextmanager
    def reading(self, execution_id: UUID) -> Generator[asyncio.Event]:
        """An event that is set when there may be something new of an execution."""
        news = asyncio.Event()
        self._readers.setdefault(execution_id, set()).add(news)
        try:
            yield news
        finally:
            self._readers[execution_id].discard(news)
            if not self._readers[execution_id]:
                del self._readers[execution_id]

    def ask(self, execution_id: UUID) -> None:
        """Tell the workers that we follow an execution. Repeat it every `FOLLOW_EVERY` seconds."""
        self._listener.send(FOLLOW, f"{execution_id.hex}{self._process.hex}")

    def asked(self, message: str) -> None:
        """A process says whom it follows."""
        execution_id, process = UUID(hex=message[:32]), UUID(hex=message[32:])
        if process != self._process:
            now = asyncio.get_running_loop().time()
            if len(self._elsewhere) > 10_000:
                self._elsewhere = {id: who for id, who in self._elsewhere.items() if max(who.values()) > now}
            self._elsewhere.setdefault(execution_id, {})[process] = now + FORGET_AFTER

    def moved(self, execution_id: UUID) -> None:
        """Something was recorded of an execution that runs here, or told by it."""
        if self._readers and execution_id in self._readers:
            self.told(execution_id)
        if self._elsewhere and (who := self._elsewhere.get(execution_id)) is not None:
            now = asyncio.get_running_loop().time()
            for process, until in list(who.items()):
                if until > now:
                    self._listener.send(channel_of(process), f"{NEWS}{execution_id.hex}")
                else:
                    del who[process]
            if not who:
                del self._elsewhere[execution_id]

    def told(self, execution_id: UUID) -> None:
        """There may be something new."""
        for news in self._readers.get(execution_id, ()):
            news.set()
