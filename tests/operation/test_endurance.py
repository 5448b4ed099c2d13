"""Half an hour of every kind of load: as fast at the end as at the beginning, and nothing has grown.

A machine has moods, so the speed of a floor is measured beside it, second by second. The load does not follow it one to one:
where commits take four times as long, many executions share them. So how it follows is found from all the minutes, and what
is left is compared. What happened is printed, minute by minute. ENDURANCE_MINUTES is how long it goes on (30; 6 at least).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from durable import Durable, Workflow
from tests.support.postgres import DurableCluster
from tests.support.processes import Program
from tests.support.programs import mixed

MINUTES = int(os.environ.get("ENDURANCE_MINUTES", "30"))
LIVES = 100  # executions that the client has in flight, as fast as they go
SLEEPERS = 100  # executions in flight beside them that sleep most of their time, and must not set the pace
PROBES = 20  # commits of the floor in each of its turns
SPAN = max(MINUTES // 6, 1)  # minutes at the beginning, after the first, and at the end, that are compared
FIRST = 2  # minutes that are not compared: nothing is old enough to be deleted
HOT = ("ready", "claim", "wake", "message")
SIZES = "select coalesce(sum(pg_total_relation_size(('durable.' || name)::regclass)), 0)::int8 from unnest($1::text[]) as name"

pytestmark = [pytest.mark.stress, pytest.mark.timeout(MINUTES * 60 + 300)]


@dataclass
class Minute:
    """What one minute has shown: executions ended, commits a second of the floor, and bytes."""

    ended: int
    floor: float
    hot: int
    memory: int

    @property
    def relative(self) -> float:
        return self.ended / self.floor


QUICK = (mixed.pipeline, mixed.pipeline, mixed.flaky, mixed.hears, mixed.calls)


async def live(engine: Durable, rng: random.Random, workflows: Sequence[Workflow[Any, Any]], ended: list[int]) -> None:
    """Start one after the other and await them, for ever."""
    while True:
        workflow = rng.choice(workflows)
        handle = await engine.start(workflow, {"n": rng.random()})
        if workflow is mixed.hears:
            await handle.send_event("go", 1)
        await handle.result(120)
        ended[0] += 1


async def probe(dsn: str, taken: list[float]) -> None:
    """Measure, now and then, what a commit takes."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("create table public.floor (n int)")
        while True:
            began = time.perf_counter()
            for number in range(PROBES):
                await connection.execute("insert into public.floor values ($1)", number)
            taken.append((time.perf_counter() - began) / PROBES)
            await connection.execute("truncate public.floor")
            await asyncio.sleep(1)
    finally:
        connection.terminate()


async def clean(engine: Durable) -> None:
    """Delete what was kept for long enough, as the janitors of the workers do now and then: it has to keep pace."""
    while True:
        await engine.cleanup()
        await asyncio.sleep(5)


@contextlib.asynccontextmanager
async def old_snapshot(dsn: str, begin: float, seconds: float) -> object:
    """From *begin* on, hold back what vacuum may remove, for *seconds*."""

    async def hold() -> None:
        await asyncio.sleep(begin)
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("begin isolation level repeatable read")
            await connection.fetchval("select count(*) from durable.worker")
            await asyncio.sleep(seconds)
        finally:
            connection.terminate()

    task = asyncio.create_task(hold())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def corrected(minutes: Sequence[Minute], first: Sequence[Minute], last: Sequence[Minute]) -> tuple[float, float]:
    """How fast the *last* minutes were compared with the *first*, but for what follows from the speed of the floor; and by
    which power of it the load follows, as *minutes* show it: from 0, not at all, to 1, one to one."""
    slope = statistics.linear_regression(
        [math.log(m.floor) for m in minutes], [math.log(m.ended) for m in minutes]
    ).slope
    power = min(max(slope, 0.0), 1.0)

    def left(of: Sequence[Minute]) -> float:
        return statistics.mean(math.log(m.ended) - power * math.log(m.floor) for m in of)

    return math.exp(left(last) - left(first)), power


@pytest.mark.parametrize("held", [False, True], ids=["", "with a transaction open for a third of the time"])
async def test_it_is_as_fast_at_the_end_as_at_the_beginning_and_nothing_has_grown(
    durable_cluster: DurableCluster, held: bool
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, {MINUTES} minutes, transaction held: {held}")
    minutes: list[Minute] = []
    ended, taken = [0], list[float]()
    async with contextlib.AsyncExitStack() as stack:
        dsn = durable_cluster.dsn
        engine = await stack.enter_async_context(Durable(dsn, workflows=mixed.ALL, worker=False))
        worker = await stack.enter_async_context(await Program.start("tests.support.programs.mixed", dsn))
        await worker.message("ready")
        if held:
            third = MINUTES * 60 / 3
            await stack.enter_async_context(old_snapshot(dsn, third, min(third, 600.0)))
        connection = await asyncpg.connect(dsn)
        rng = random.Random(seed)
        tasks = [asyncio.create_task(live(engine, rng, QUICK, ended)) for _ in range(LIVES)]
        tasks += [asyncio.create_task(live(engine, rng, [mixed.sleeps], ended)) for _ in range(SLEEPERS)]
        tasks += [asyncio.create_task(probe(dsn, taken)), asyncio.create_task(clean(engine))]
        for number in range(MINUTES):
            before, taken[:] = ended[0], []
            await asyncio.wait(tasks, timeout=60, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
            hot = await connection.fetchval(SIZES, list(HOT))
            minutes.append(Minute(ended[0] - before, len(taken) / sum(taken), hot, resident(worker.pid)))
            m = minutes[-1]
            print(
                f"minute {number + 1:2}: {m.ended / 60:7.1f}/s, floor {m.floor:6.0f} commits/s, relative {m.relative:6.2f}, "
                f"hot tables {m.hot / 1e6:6.1f} MB, worker {m.memory / 1e6:6.1f} MB",
                flush=True,
            )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()
    first, last = minutes[FIRST : FIRST + SPAN], minutes[-SPAN:]
    plain, divided = (sum(map(of, last)) / sum(map(of, first)) for of in (lambda m: m.ended, lambda m: m.relative))
    # A transaction that is open slows everything down, and for a while after its end there is much to be cleaned up.
    comparable = minutes[FIRST : MINUTES // 3] + minutes[-SPAN:] if held else minutes[FIRST:]
    change, power = corrected(comparable, first, last)
    print(
        f"the last {SPAN} minutes are {plain:.3f} of the first, {divided:.3f} divided by the floor, "
        f"{change:.3f} corrected by its power {power:.2f}"
    )
    assert change > 0.9
    assert last[-1].memory < max(m.memory for m in first) * 1.2
    # Of what cannot be vacuumed for a while the tables keep the space, and use it again.
    assert (
        last[-1].hot
        < (max(m.hot for m in minutes[: 2 * MINUTES // 3 + 1]) if held else max(m.hot for m in first)) * 1.5
    )
