"""What every benchmark needs: a server that keeps its promises, a fresh database, and a fair order of measuring.

Owns: the server of one run, and taking engine and floors in turns, so that a noisy minute falls on both alike.
Refuses: a server with softened durability of its own making. One that was given is taken as it is, and described.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from durable.embedded import EmbeddedPostgres
from tests.support.postgres import Cluster, temporary_folder

T = TypeVar("T")
Contestant = Callable[[], Awaitable[T]]

DSN_VARIABLE = "DURABLE_TEST_DSN"


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: its server, and how long it may take."""

    cluster: Cluster
    quick: bool
    rounds: int

    def size(self, whole: int, quick: int) -> int:
        """How many of something to measure with: *whole*, or *quick* when there is little time."""
        return quick if self.quick else whole

    def database(self) -> AbstractAsyncContextManager[str]:
        """The DSN of a new, empty database, dropped at the end."""
        return self.cluster.database()

    async def in_turns(self, contestants: Mapping[str, Contestant[T]]) -> dict[str, list[T]]:
        """Run each contestant once in every round, in the given order; what each has returned, round by round."""
        returned: dict[str, list[T]] = {name: [] for name in contestants}
        for _ in range(self.rounds):
            for name, contestant in contestants.items():
                gc.collect()  # one contestant's garbage is not the next one's cost
                returned[name].append(await contestant())
        return returned


@asynccontextmanager
async def server(dsn: str | None, **settings: str) -> AsyncIterator[Cluster]:
    """The server named by *dsn* or `DURABLE_TEST_DSN`, else a private one with *settings* and else PostgreSQL's defaults."""
    given = dsn or os.environ.get(DSN_VARIABLE)
    if given:
        yield Cluster(given)
        return
    with temporary_folder() as folder:
        async with await EmbeddedPostgres.start(folder, settings=settings) as postgres:
            yield Cluster(postgres.dsn)


async def every(seconds: float, count: int) -> AsyncIterator[int]:
    """Count to *count* with a pause before each number, so that each sample meets an idle system."""
    for number in range(count):
        await asyncio.sleep(seconds)
        yield number
