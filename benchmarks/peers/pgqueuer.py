"""PgQueuer: a job queue that claims and completes in batches. It has no steps and keeps no results."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.peers import protocol
from benchmarks.peers.protocol import Meter, Options

ABOUT = {
    "title": "PgQueuer",
    "requires": ["pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"],
    "versions": ["pgqueuer", "asyncpg", "uvloop"],
    "configuration": "durable tables (its default), drain mode, 2 managers in one loop, batches of 250 (latency: one manager, "
    "continuous mode, batches of 10); asyncpg, uvloop",
    "unfinished": "select exists (select from pgqueuer)",
    "runs": {
        "no_step": "a job; completions are written in batches, so a crash runs again what was not flushed",
        "start_one": "`enqueue`, one connection",
        "start_fifty": "`enqueue`, 50 tasks over a pool of 20",
        "start_bulk": "`enqueue` of 500 jobs at a time",
        "latency_start": "`enqueue`, LISTEN/NOTIFY",
        "four_no_step": "as one process",
    },
    "cannot": {
        "one_step": "no steps",
        "three_steps": "no steps",
        "latency_here": "keeps no results",
        "latency_away": "keeps no results",
        "events": "no events",
        "fan_out": "no steps",
        "four_one_step": "no steps",
        "memory": "no sleeping inside a job",
    },
    "counts": {
        "no_step": 80_000,
        "start_one": 10_000,
        "start_fifty": 8_000,
        "start_bulk": 100_000,
        "four_no_step": 50_000,
    },
}
MANAGERS = 2
BATCH = 250
CHUNK = 500


async def setup(options: Options) -> None:
    """Make the tables."""
    connection = await asyncpg.connect(options.dsn)
    await Queries.from_asyncpg_connection(connection).install()
    await connection.close()


async def seed(options: Options) -> float:
    """Enqueue all of them in bulk."""
    connection = await asyncpg.connect(options.dsn)
    queries = Queries.from_asyncpg_connection(connection)
    began = time.perf_counter()
    for first in range(0, options.count, CHUNK):
        size = min(CHUNK, options.count - first)
        await queries.enqueue(["noop"] * size, [str(first + number).encode() for number in range(size)], [0] * size)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def work(options: Options) -> None:
    """Run what there is."""
    meter = Meter(options.count)
    protocol.await_gate(options)

    connections = [await asyncpg.connect(options.dsn) for _ in range(1 if options.idle else MANAGERS)]

    async def manage(connection: asyncpg.Connection) -> None:
        manager = PgQueuer.from_asyncpg_connection(connection)

        @manager.entrypoint("noop")
        async def noop(job: Job) -> None:
            if options.idle:
                protocol.body_began(int(job.payload or b"0"))
            meter.first()
            meter.last()

        if options.idle:
            await manager.run()
        else:
            await manager.run(batch_size=BATCH, mode=QueueExecutionMode.drain)

    managing = [asyncio.create_task(manage(connection)) for connection in connections]
    if options.idle:
        await asyncio.sleep(1)  # it does not tell when it listens
        protocol.at_work()
    await asyncio.gather(*managing)
    await asyncio.Event().wait()


async def each(options: Options) -> float:
    """Starts a second."""
    async with asyncpg.create_pool(options.dsn, min_size=min(options.starters, 20), max_size=20) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        if options.starters == 1:
            async with pool.acquire() as connection:
                alone = Queries.from_asyncpg_connection(connection)
                return await protocol.rate(options, lambda: alone.enqueue("noop", b"0"))
        return await protocol.rate(options, lambda: queries.enqueue("noop", b"0"))


async def latency(options: Options) -> dict[str, list[float]]:
    """When each was started; the worker tells when it began."""
    connection = await asyncpg.connect(options.dsn)
    queries = Queries.from_asyncpg_connection(connection)
    return await protocol.latencies(lambda number: queries.enqueue("noop", str(number).encode()), options.count)


ROLES = {role.__name__: role for role in (setup, seed, work, each, latency)}

if __name__ == "__main__":
    protocol.main(ROLES, uvloop.run)
