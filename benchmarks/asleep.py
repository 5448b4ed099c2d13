"""What do a hundred thousand sleeping executions cost a worker that starts: time, and memory?"""

from __future__ import annotations

import asyncio
import time

import asyncpg

from benchmarks.bench import Bench
from benchmarks.process import resident
from benchmarks.report import Table
from benchmarks.workflows import dreams
from durable import Durable
from tests.support.processes import Program

QUESTION = "Asleep: a worker process that starts while executions sleep"
SLEEPERS = 100_000
SETTLING = 3.0  # seconds
ASLEEP = "select count(*) from durable.execution where status = 'waiting'"


async def measure(bench: Bench) -> Table:
    """The same process with nobody asleep, and with all."""
    count = bench.size(SLEEPERS, SLEEPERS // 20)
    rows: list[tuple[str, ...]] = []
    for sleepers in (0, count):
        async with bench.database() as dsn:
            await _put_to_sleep(dsn, sleepers)
            seconds, resident = await _started(dsn)
        rows.append((f"{sleepers:,} executions asleep", f"{seconds:.2f}", f"{resident / 2**20:.1f}"))
    return Table(
        QUESTION,
        ("", "start s", "memory MiB"),
        rows,
        [
            f"From the start of the process until it is ready; resident memory {SETTLING:.0f} s later. They sleep for a day."
        ],
    )


async def _put_to_sleep(dsn: str, count: int) -> None:
    async with Durable(dsn, workflows=[dreams], queues={"default": 500}) as engine:
        for _ in range(0, count, 5_000):
            await engine.start_many(dreams, [{}] * min(5_000, count))
        connection = await asyncpg.connect(dsn)
        while await connection.fetchval(ASLEEP) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.5)
        await connection.close()


async def _started(dsn: str) -> tuple[float, int]:
    began = time.perf_counter()
    async with await Program.start("benchmarks.worker", dsn) as worker:
        await worker.message("ready", timeout=60)
        seconds = time.perf_counter() - began
        await asyncio.sleep(SETTLING)
        return seconds, resident(worker.pid)
