"""How long after the `kill -9` of a worker does another one run the step that was in flight?

Both have the default settings, so most of it is the lease, which the dead worker has renewed some time before its end.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.bench import Bench
from benchmarks.report import Table, median
from benchmarks.workflows import INPUT, stays
from durable import Durable
from tests.support.processes import Program

QUESTION = "Recovery: seconds from the kill -9 of a worker until another one runs its step again"
SAMPLES = 3


async def measure(bench: Bench) -> Table:
    """Each sample has two new worker processes and a new database."""
    count = bench.size(SAMPLES, 1)
    # The kill strikes at different moments between two renewals of the lease.
    seconds = [await _sample(bench, settling=1.0 + number * 0.7) for number in range(count)]
    return Table(
        QUESTION,
        ("", "median s", "max s"),
        [("default lease", f"{median(seconds):.2f}", f"{max(seconds):.2f}")],
        [f"{count} sample(s); one execution in the middle of its step, a second worker idle."],
    )


async def _sample(bench: Bench, settling: float) -> float:
    async with (
        bench.database() as dsn,
        await Program.start("benchmarks.worker", dsn) as victim,
    ):
        await victim.message("ready")
        async with Durable(dsn, workflows=[stays], worker=False) as client:
            await client.start(stays, INPUT)
        await victim.message("begun")
        async with await Program.start("benchmarks.worker", dsn) as heir:
            await heir.message("ready")
            await asyncio.sleep(settling)
            began = time.perf_counter()
            victim.kill()
            await heir.message("begun", timeout=60)
            return time.perf_counter() - began
