"""Procrastinate: a job queue that fetches one job at a time. It has no steps and keeps no results."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import uvloop
from procrastinate import App, PsycopgConnector

from benchmarks.peers import protocol
from benchmarks.peers.protocol import Meter, Options

ABOUT = {
    "title": "Procrastinate",
    "requires": ["procrastinate==3.10.0", "psycopg[binary]==3.3.9", "uvloop==0.23.0"],
    "versions": ["procrastinate", "psycopg", "uvloop"],
    "configuration": "pool of 10, worker concurrency 20, LISTEN/NOTIFY, uvloop",
    "unfinished": "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
    "runs": {
        "no_step": "a task",
        "start_one": "`defer_async`",
        "start_fifty": "`defer_async`, 50 tasks over the pool",
        "start_bulk": "`batch_defer_async` of 500 at a time",
        "latency_start": "`defer_async`, LISTEN/NOTIFY",
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
    "counts": {"no_step": 3_000, "four_no_step": 3_000, "start_fifty": 6_000, "start_bulk": 40_000},
}
CONCURRENCY = 20
CONNECTIONS = 10
CHUNK = 500


@asynccontextmanager
async def _opened(options: Options, meter: Meter | None = None):
    connector = PsycopgConnector(conninfo=options.dsn, min_size=CONNECTIONS, max_size=CONNECTIONS)
    app = App(connector=connector)

    @app.task(name="noop")
    async def noop(n: int) -> None:
        if options.idle:
            protocol.body_began(n)
        if meter is not None:
            meter.first()
            meter.last()

    async with app.open_async():
        yield app, noop


async def setup(options: Options) -> None:
    """Make the tables."""
    async with _opened(options) as (app, _):
        await app.schema_manager.apply_schema_async()


async def seed(options: Options) -> float:
    """Defer all of them in bulk."""
    async with _opened(options) as (_, noop):
        began = time.perf_counter()
        for first in range(0, options.count, CHUNK):
            await noop.batch_defer_async(*({"n": n} for n in range(first, min(first + CHUNK, options.count))))
        return time.perf_counter() - began


async def work(options: Options) -> None:
    """Run what there is."""
    meter = Meter(options.count)
    protocol.await_gate(options)
    async with _opened(options, meter) as (app, _):
        protocol.at_work()
        await app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)


async def each(options: Options) -> float:
    """Starts a second."""
    async with _opened(options) as (_, noop):
        return await protocol.rate(options, lambda: noop.defer_async(n=0))


async def latency(options: Options) -> dict[str, list[float]]:
    """When each was started; the worker tells when it began."""
    async with _opened(options) as (_, noop):
        return await protocol.latencies(lambda number: noop.defer_async(n=number), options.count)


ROLES = {role.__name__: role for role in (setup, seed, work, each, latency)}

if __name__ == "__main__":
    protocol.main(ROLES, uvloop.run)
