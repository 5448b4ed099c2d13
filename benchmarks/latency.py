"""How long is it from calling `start` on an idle system until `result()` returns?

The workflow has one no-op step. Its worker is in the client's process, or in another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import asyncpg

from benchmarks.bench import Bench, every
from benchmarks.report import Table, milliseconds, percentile
from benchmarks.workflows import INPUT, pipeline
from durable import Durable
from tests.support.processes import Program

QUESTION = "Latency: milliseconds from start to result, one no-op step, idle system"
PAUSE = 0.02  # seconds before each sample: whatever the last one set in motion has come to rest
WARM_UP = 10
SAMPLES = 300

TABLE = "create table floor (id uuid primary key)"
COMMIT = "insert into floor (id) values ($1)"


async def measure(bench: Bench) -> Table:
    """Both places of the worker, beside the three round trips that a start to result is made of."""
    count = bench.size(SAMPLES, SAMPLES // 3) // bench.rounds
    contestants = {
        "start to result, worker in this process": _here,
        "start to result, worker in another process": _elsewhere,
        "floor: SELECT 1": _select,
        "floor: commit of one row": _commit,
        "floor: NOTIFY to LISTEN": _notify,
    }
    samples = await bench.in_turns({name: partial(act, bench, count) for name, act in contestants.items()})
    rows: list[tuple[str, ...]] = []
    for name, rounds in samples.items():
        pooled = [sample for one in rounds for sample in one]
        rows.append((name, milliseconds(percentile(pooled, 0.5)), milliseconds(percentile(pooled, 0.99))))
    return Table(
        QUESTION,
        ("", "p50 ms", "p99 ms"),
        rows,
        [
            f"{count * bench.rounds} samples each, {PAUSE * 1000:.0f} ms apart, pooled over {bench.rounds} round(s); uvloop.",
            "A start to result here is one commit for the start and one for the end; elsewhere it is these, the claim's, "
            "and two notifications.",
        ],
    )


async def _timed(count: int, act: Callable[[], Awaitable[object]]) -> list[float]:
    samples: list[float] = []
    async for number in every(PAUSE, count + WARM_UP):
        began = time.perf_counter()
        await act()
        if number >= WARM_UP:
            samples.append(time.perf_counter() - began)
    return samples


async def _here(bench: Bench, count: int) -> list[float]:
    async with bench.database() as dsn:
        return await _start_to_result(dsn, count, worker=True)


async def _elsewhere(bench: Bench, count: int) -> list[float]:
    async with bench.database() as dsn, await Program.start("benchmarks.worker", dsn) as worker:
        await worker.message("ready")
        return await _start_to_result(dsn, count, worker=False)


async def _start_to_result(dsn: str, count: int, *, worker: bool) -> list[float]:
    workflow = pipeline(1)
    async with Durable(dsn, workflows=[workflow], worker=worker) as engine:

        async def act() -> None:
            handle = await engine.start(workflow, INPUT)
            await handle.result(timeout=30)

        return await _timed(count, act)


async def _select(bench: Bench, count: int) -> list[float]:
    async with bench.database() as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            return await _timed(count, lambda: connection.fetch("select 1"))
        finally:
            await connection.close()


async def _commit(bench: Bench, count: int) -> list[float]:
    async with bench.database() as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(TABLE)
            return await _timed(count, lambda: connection.fetch(COMMIT, uuid4()))
        finally:
            await connection.close()


async def _notify(bench: Bench, count: int) -> list[float]:
    heard = asyncio.Event()
    async with bench.database() as dsn:
        speaker, ear = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        try:
            await ear.add_listener("floor", lambda *_: heard.set())

            async def act() -> None:
                heard.clear()
                await speaker.execute("notify floor")
                await heard.wait()

            return await _timed(count, act)
        finally:
            await asyncio.gather(speaker.close(), ear.close())
