"""How many executions can be started in a second, one by one, by many at a time, and in bulk?

The client is no worker: each start is made ready, durable and announced when the call returns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import asyncpg

from benchmarks.bench import Bench
from benchmarks.report import Table, rate, ratio, spread
from benchmarks.workflows import INPUT, pipeline
from durable import Durable

QUESTION = "Start rate: executions started a second, by one client"
STARTERS = 50
BATCH = 500

TABLE = "create table floor (id uuid primary key, input json not null)"
ONE = "insert into floor (id, input) values ($1, $2)"
MANY = "insert into floor (id, input) select * from unnest($1::uuid[], $2::json[])"
TEXT = '{"x":1}'

Act = Callable[[], Awaitable[object]]


async def measure(bench: Bench) -> Table:
    """The engine's three ways to start, each beside the plainest insert of the same kind."""
    alone, crowd, bulk = bench.size(1_000, 300), bench.size(10_000, 2_000), bench.size(20_000, 5_000)
    ways = (
        ("one by one", "one-row commits, one by one", _engine_each, _floor_each, alone, 1),
        (
            f"{STARTERS} at a time",
            f"one-row commits, {STARTERS} connections",
            _engine_each,
            _floor_each,
            crowd,
            STARTERS,
        ),
        ("start_many", f"unnest inserts of {BATCH} rows", _engine_bulk, unnest_inserts, bulk, 1),
    )
    rows: list[tuple[str, ...]] = []
    for way, beside, engine, floor, count, starters in ways:
        rates = await bench.in_turns(
            {"engine": partial(engine, bench, count, starters), "floor": partial(floor, bench, count, starters)}
        )
        rows.append(
            (
                way,
                rate(rates["engine"]),
                spread(rates["engine"]),
                beside,
                rate(rates["floor"]),
                ratio(rates["engine"], rates["floor"]),
            )
        )
    return Table(
        QUESTION,
        ("start", "engine /s", "from - to", "floor", "floor /s", "engine / floor"),
        rows,
        [f"{alone:,}, {crowd:,} and {bulk:,} starts with a small input and a generated id; no worker runs; uvloop."],
    )


async def _rate(count: int, starters: int, acts: list[Act]) -> float:
    """Acts a second, *starters* of them at a time, each starter with an act of its own."""

    async def starter(act: Act) -> None:
        for _ in range(count // starters):
            await act()

    began = time.perf_counter()
    await asyncio.gather(*map(starter, acts))
    return count / (time.perf_counter() - began)


async def _engine_each(bench: Bench, count: int, starters: int) -> float:
    workflow = pipeline(1)
    async with bench.database() as dsn, Durable(dsn, workflows=[workflow], worker=False) as client:
        await client.start(workflow, INPUT)  # its connections are open and its statements prepared
        return await _rate(count, starters, [lambda: client.start(workflow, INPUT)] * starters)


async def _engine_bulk(bench: Bench, count: int, _starters: int) -> float:
    workflow = pipeline(1)
    async with bench.database() as dsn, Durable(dsn, workflows=[workflow], worker=False) as client:
        await client.start(workflow, INPUT)
        began = time.perf_counter()
        await client.start_many(workflow, [INPUT] * count)
        return count / (time.perf_counter() - began)


async def _floor_each(bench: Bench, count: int, starters: int) -> float:
    async with _floor(bench, starters) as connections:
        statements = [await connection.prepare(ONE) for connection in connections]
        acts: list[Act] = [lambda s=statement: s.fetch(uuid4(), TEXT) for statement in statements]
        return await _rate(count, starters, acts)


async def unnest_inserts(bench: Bench, count: int, _starters: int) -> float:
    """Rows a second that one connection inserts, 500 in a statement."""
    async with _floor(bench, 1) as (connection,):
        statement = await connection.prepare(MANY)
        began = time.perf_counter()
        for _ in range(count // BATCH):
            await statement.fetch([uuid4() for _ in range(BATCH)], [TEXT] * BATCH)
        return count / (time.perf_counter() - began)


@asynccontextmanager
async def _floor(bench: Bench, count: int) -> AsyncIterator[list[asyncpg.Connection[asyncpg.Record]]]:
    async with bench.database() as dsn:
        connections = await asyncio.gather(*(asyncpg.connect(dsn) for _ in range(count)))
        await connections[0].execute(TABLE)
        yield connections
        await asyncio.gather(*(connection.close() for connection in connections))
