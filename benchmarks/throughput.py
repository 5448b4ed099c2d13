"""How many no-op executions does one worker process finish in a second, every step durable before the next?

All of them are started beforehand, by a client. The clock runs from the first step's beginning until the last end is
committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import asyncpg

from benchmarks import bound
from benchmarks.bench import Bench
from benchmarks.report import Table, rate, ratio, spread
from benchmarks.workflows import INPUT, Meter, pipeline
from durable import Durable
from durable.runtime.collector import patient_collector

QUESTION = "Throughput: executions a second, one worker process"
CONCURRENCY = 500
STEPS = (1, 3)
PLACES = "select exists (select from durable.ready) or exists (select from durable.claim)"
COMPLETED = "select count(*) from durable.ended where status = 'completed'"


async def measure(bench: Bench) -> Table:
    """Engine and bound, for each number of steps."""
    executions = bench.size(20_000, 3_000)
    rows: list[tuple[str, ...]] = []
    for steps in STEPS:
        rates = await bench.in_turns(
            {
                "engine": partial(_engine, bench, steps, executions),
                "bound": partial(_bound, bench, steps, executions),
            }
        )
        engine, floor = rates["engine"], rates["bound"]
        title = "one step" if steps == 1 else f"{steps} steps"
        rows.append((title, rate(engine), spread(engine), rate(floor), spread(floor), ratio(engine, floor)))
    return Table(
        QUESTION,
        ("no-op pipeline of", "engine /s", "from - to", "bound /s", "from - to", "engine / bound"),
        rows,
        [
            f"{executions:,} executions, started beforehand; queue concurrency {CONCURRENCY} in both; uvloop.",
            "The bound is a bare group commit without leases, retries, types or cancellation (`bound.py`).",
        ],
    )


async def _bound(bench: Bench, steps: int, executions: int) -> float:
    async with bench.database() as dsn:
        with patient_collector():
            return await bound.drain(dsn, steps, executions, CONCURRENCY)


async def _engine(bench: Bench, steps: int, executions: int) -> float:
    async with bench.database() as dsn:
        return (await drain(dsn, steps, executions)).rate


class Drained(NamedTuple):
    """How many executions a second, and how many seconds of a processor this process took for one."""

    rate: float
    processor: float


async def drain(
    dsn: str, steps: int, executions: int, say: Callable[[], None] | None = None, **options: Any
) -> Drained:
    """What the engine does with these *options*. *dsn*: an empty database. Each step calls *say*."""
    meter = Meter(executions)
    workflow = pipeline(steps, meter, say)
    async with Durable(dsn, workflows=[workflow], worker=False) as client:
        await client.start_many(workflow, [INPUT] * executions)
    connection = await asyncpg.connect(dsn)
    try:
        async with Durable(dsn, workflows=[workflow], queues={"default": CONCURRENCY}, **options):
            with patient_collector():  # as `Durable.run` has it
                await meter.all_called.wait()
                while await connection.fetchval(PLACES):  # noqa: ASYNC110 - no event tells it
                    await asyncio.sleep(0.001)
                seconds, processor = time.perf_counter() - meter.began, time.process_time() - meter.processor_began
        assert meter.count == executions
        assert await connection.fetchval(COMPLETED) == executions
    finally:
        await connection.close()
    return Drained(executions / seconds, processor / executions)
