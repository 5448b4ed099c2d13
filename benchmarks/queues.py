"""What do the limits of a queue cost, with one worker and with four? The same no-op executions run through queues without
limits, with limits that are never reached, and with one that always is.

Workers are processes with the default settings, ready before the clock runs: the queue is paused until then.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from benchmarks.bench import Bench
from benchmarks.report import Table, rate, ratio, spread
from benchmarks.throughput import COMPLETED, PLACES
from benchmarks.workflows import pipeline
from durable import Durable, Queue, Rate, seconds
from tests.support.processes import Program

QUESTION = "Limited queues: executions a second through one queue, one worker process and four"
QUEUE = "default"
FAR = 1_000_000  # a limit that is never reached
KEYS = 100
AT_ONCE = 20
WORKERS = (1, 4)
QUEUES = {
    "no limits": Queue(concurrency=0),
    "global concurrency, out of reach": Queue(concurrency=0, global_concurrency=FAR),
    "rate, out of reach": Queue(concurrency=0, rate=Rate(FAR, per=seconds(1))),
    f"{KEYS} keys that take turns": Queue(concurrency=0, key=lambda data: data["x"]),
    f"global concurrency of {AT_ONCE}": Queue(concurrency=0, global_concurrency=AT_ONCE),
}
IN_A_HURRY = ("no limits", f"global concurrency of {AT_ONCE}")


async def measure(bench: Bench) -> Table:
    """Each queue with each number of workers, in turns."""
    executions = bench.size(5_000, 500)
    queues = {title: QUEUES[title] for title in (IN_A_HURRY if bench.quick else QUEUES)}
    rates = await bench.in_turns(
        {
            f"{title}/{workers}": partial(_run, bench, queue, workers, executions)
            for title, queue in queues.items()
            for workers in WORKERS
        }
    )
    rows: list[tuple[str, ...]] = []
    for title in queues:
        one, four = (rates[f"{title}/{workers}"] for workers in WORKERS)
        free_one, free_four = (rates[f"no limits/{workers}"] for workers in WORKERS)
        rows.append(
            (title, rate(one), spread(one), ratio(one, free_one), rate(four), spread(four), ratio(four, free_four))
        )
    return Table(
        QUESTION,
        ("queue", "one /s", "from - to", "to no limits", "four /s", "from - to", "to no limits"),
        rows,
        [
            f"{executions:,} executions of one no-op step, started beforehand; workers with the default settings and uvloop.",
            f"With a concurrency of {AT_ONCE} something is always ready that must wait: each end is told to all workers.",
        ],
    )


async def _run(bench: Bench, queue: Queue, workers: int, executions: int) -> float:
    workflow = pipeline(1)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(bench.database())
        client = Durable(dsn, workflows=[workflow], worker=False, queues={QUEUE: queue})
        await stack.enter_async_context(client)
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        await client.pause_queue(QUEUE)
        await client.start_many(workflow, [{"x": number % KEYS} for number in range(executions)])
        for _ in range(workers):
            program = await stack.enter_async_context(await Program.start("benchmarks.worker", dsn))
            await program.message("ready")
        began = time.perf_counter()
        await client.resume_queue(QUEUE)
        while await connection.fetchval(PLACES):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        assert await connection.fetchval(COMPLETED) == executions
    return executions / took
