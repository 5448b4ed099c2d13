"""The upper bound: a bare group commit. What the throughput benchmark is compared with, and nothing to be copied.

It claims in batches and journals each step durably before the next begins, through statements over arrays. It has none of
what makes an engine: no leases, fences, retries, timers, limits, types or cancellation. What an engine loses against it is
the price of those.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg

SCHEMA = """
create schema bound;
create table bound.execution (
    execution_id uuid not null primary key default gen_random_uuid(),
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    owner uuid,
    priority int not null default 0,
    attempts int not null default 0,
    status smallint not null default 0,
    queue text not null,
    input jsonb,
    output jsonb
) with (fillfactor = 60);
create index on bound.execution (queue, priority, created_at) where status = 0;
create table bound.step (
    execution_id uuid not null,
    seq int not null,
    recorded_at timestamptz not null default now(),
    name text not null,
    output jsonb,
    primary key (execution_id, seq)
);
"""
FILL = "insert into bound.execution (queue, input) select 'default', '{\"x\": 1}' from generate_series(1, $1::int)"
# The rows are found by `any (array(...))`: joined, they would be looked for by scanning the whole table.
CLAIM = """
update bound.execution set status = 1, owner = $2, attempts = attempts + 1, started_at = now()
 where execution_id = any (array(
       select execution_id from bound.execution where queue = 'default' and status = 0
        order by priority, created_at limit $1::int for update skip locked))
returning execution_id, input::text
"""
RECORD = """
insert into bound.step (execution_id, seq, name, output)
select * from unnest($1::uuid[], $2::int[], $3::text[], $4::text[]::jsonb[]) on conflict do nothing
"""
FINISH = """
update bound.execution e set status = 2, output = g.output::jsonb, ended_at = now()
  from unnest($1::uuid[], $2::text[]) as g(execution_id, output)
 where e.execution_id = g.execution_id
"""
LEFT = "select count(*) from bound.execution where status <> 2"
RECORDED = "select count(*) from bound.step"
PLANS = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
WRITERS = 2


class Writer:
    """Collects writes; whoever is free flushes all that has come, so that load makes its own batches."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._records: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._ends: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._filled = asyncio.Event()

    def record(self, *row: Any) -> asyncio.Future[None]:
        """Write a step's result; the future is done when it is durable."""
        return self._add(self._records, row)

    def finish(self, *row: Any) -> asyncio.Future[None]:
        """Write an end, likewise."""
        return self._add(self._ends, row)

    def _add(self, waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]], row: Any) -> asyncio.Future[None]:
        done: asyncio.Future[None] = self._loop.create_future()
        waiting.append((row, done))
        self._filled.set()
        return done

    async def run(self, connection: asyncpg.Connection[Any]) -> None:
        """Flush over *connection* until cancelled."""
        record, finish = await connection.prepare(RECORD), await connection.prepare(FINISH)
        while True:
            await self._filled.wait()
            await asyncio.sleep(0)  # who is about to write may join
            self._filled.clear()
            records, self._records = self._records, []
            ends, self._ends = self._ends, []
            if records:
                await record.fetch(*zip(*(row for row, _ in records), strict=True))
            if ends:
                await finish.fetch(*zip(*(row for row, _ in ends), strict=True))
            for _, done in records + ends:
                done.set_result(None)


async def drain(dsn: str, steps: int, executions: int, concurrency: int) -> float:
    """Executions per second of *steps* steps each, every step durable before the next. *dsn*: an empty database."""
    async with _connected(dsn, WRITERS + 2) as (setup, claimer, *writing):
        await setup.execute(SCHEMA)
        await setup.fetch(FILL, executions)
        await setup.execute("analyze bound.execution")
        writer = Writer()
        tasks = [asyncio.create_task(writer.run(connection)) for connection in writing]
        began = await _work(writer, await claimer.prepare(CLAIM), steps, executions, concurrency)
        seconds = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await setup.fetchval(LEFT) == 0
        assert await setup.fetchval(RECORDED) == executions * steps
    return executions / seconds


async def _work(writer: Writer, claim: Any, steps: int, executions: int, concurrency: int) -> float:
    """Run all of them; returns when the first step began, which is when the engine's clock starts too."""
    running: set[asyncio.Task[None]] = set()
    room = asyncio.Event()

    async def step(number: int) -> dict[str, int]:
        return {"x": number}

    async def execute(execution_id: UUID, text: str) -> None:
        json.loads(text)
        for number in range(steps):
            await writer.record(execution_id, number, f"step_{number}", json.dumps(await step(number)))
        await writer.finish(execution_id, "1")

    def left(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if len(running) <= concurrency // 2:
            room.set()

    owner = uuid4()
    claimed, began = 0, 0.0
    while claimed < executions:
        rows = await claim.fetch(concurrency - len(running), owner)
        claimed += len(rows)
        began = began or time.perf_counter()
        for row in rows:
            task = asyncio.create_task(execute(*row))
            running.add(task)
            task.add_done_callback(left)
        room.clear()
        if len(running) > concurrency // 2:
            await room.wait()
    await asyncio.gather(*running)
    return began


@contextlib.asynccontextmanager
async def _connected(dsn: str, count: int) -> AsyncIterator[list[asyncpg.Connection[Any]]]:
    connections = [await asyncpg.connect(dsn, server_settings=PLANS) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            await connection.close()
