"""How long is it from what wakes an execution until its body goes on?

An event, sent from another process to an execution that sleeps until it comes; and many timers that are due in one minute.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

from benchmarks.bench import Bench, every
from benchmarks.report import Table, milliseconds, percentile
from benchmarks.workflows import hears, wakes
from durable import Durable, Status
from tests.support.processes import Program

QUESTION = "Waking: milliseconds from the event, or the time, until the body's next line"
PAUSE = 0.02
WARM_UP = 10
SAMPLES = 300
TIMERS = 10_000
MINUTE = 60.0
AHEAD = 40.0  # seconds in which all of them have gone to sleep


async def measure(bench: Bench) -> Table:
    """Events on an idle system, in every round; the timers once."""
    count = bench.size(SAMPLES, SAMPLES // 3) // bench.rounds
    events = [sample for _ in range(bench.rounds) for sample in await _events(bench, count)]
    timers, early = await _timers(bench, bench.size(TIMERS, TIMERS // 10), bench.size(1, 10))
    rows = [
        (
            "send_event, from another process",
            milliseconds(percentile(events, 0.5)),
            milliseconds(percentile(events, 0.99)),
            "",
        ),
        (
            "timers due in one minute",
            milliseconds(percentile(timers, 0.5)),
            milliseconds(percentile(timers, 0.99)),
            f"{early}",
        ),
    ]
    return Table(
        QUESTION,
        ("", "p50 ms", "p99 ms", "early"),
        rows,
        [
            f"{len(events)} events, one at a time on an idle system; {len(timers):,} timers at random instants; "
            "one worker process, uvloop.",
            "An event is a commit by the sender, a notification, the claim's commit and reading the journal.",
        ],
    )


async def _events(bench: Bench, count: int) -> list[float]:
    samples: list[float] = []
    async with bench.database() as dsn, await Program.start("benchmarks.worker", dsn) as worker:
        await worker.message("ready")
        async with Durable(dsn, workflows=[hears], worker=False) as engine:
            async for number in every(PAUSE, count + WARM_UP):
                handle = await engine.start(hears, {})
                while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.005)
                await asyncio.sleep(PAUSE)
                began = time.perf_counter()  # the same clock in every process
                await handle.send_event("go")
                woke = (await handle.result(timeout=30))["woke"]
                if number >= WARM_UP:
                    samples.append(woke - began)
    return samples


async def _timers(bench: Bench, count: int, faster: int) -> tuple[list[float], int]:
    rng = random.Random(7)
    async with bench.database() as dsn, await Program.start("benchmarks.worker", dsn) as worker:
        await worker.message("ready")
        async with Durable(dsn, workflows=[wakes], worker=False) as engine:
            first = datetime.now(UTC) + timedelta(seconds=AHEAD / faster)
            due = [first + timedelta(seconds=rng.uniform(0, MINUTE / faster)) for _ in range(count)]
            handles = await engine.start_many(wakes, [{"at": when.isoformat()} for when in due])
            results = [await handle.result(timeout=300) for handle in handles]
    late = [result["woke"] - when.timestamp() for result, when in zip(results, due, strict=True)]
    return late, sum(lateness < 0 for lateness in late)
