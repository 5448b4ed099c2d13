"""A worker process that weighs itself: `python -m benchmarks.sleeper DSN COUNT resident|objects`.

It lets COUNT executions wait for a retry, then COUNT more, and says by how much it has grown with the second lot.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import tracemalloc
from collections.abc import Callable

import asyncpg
import uvloop

from benchmarks.process import resident
from benchmarks.workflows import INPUT, falters
from durable import Durable
from tests.support.report import say

WAITING = "select count(*) from durable.execution where status = 'waiting'"
SETTLING = 1.0  # seconds


def objects() -> int:
    """What Python has allocated since the first call, in bytes."""
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


async def main(dsn: str, count: int, weigh: Callable[[], int]) -> None:
    """Wait, weigh, wait, weigh."""
    connection = await asyncpg.connect(dsn)
    async with Durable(dsn, workflows=[falters]) as engine:
        weights: list[int] = []
        for waiting in (count, 2 * count):
            await engine.start_many(falters, [INPUT] * count)
            while await connection.fetchval(WAITING) < waiting:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0.1)
            await asyncio.sleep(SETTLING)
            gc.collect()
            weights.append(weigh())
        say("grown", bytes=weights[1] - weights[0])
    await connection.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), {"resident": resident, "objects": objects}[sys.argv[3]]))
