"""Absurd: durable tasks whose engine is stored procedures. Its schema comes with `absurdctl`."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from absurd_sdk import AsyncAbsurd, AsyncTaskContext

from benchmarks.peers import protocol
from benchmarks.peers.protocol import FAN, Meter, Options

ABOUT = {
    "title": "Absurd",
    "requires": ["absurd-sdk==0.5.1", "absurdctl==0.5.1", "psycopg[binary]==3.3.9", "uvloop==0.23.0"],
    "versions": ["absurd-sdk", "psycopg", "uvloop"],
    "configuration": "the asynchronous client; 4 workers in one loop, concurrency 50 each, polls every 20 ms (0.25 s by "
    "default), for latencies every 10 ms; results polled every 10 ms (50 ms, growing, by default); uvloop",
    "unfinished": "select exists (select from absurd.t_bench where state not in ('completed', 'failed', 'cancelled'))",
    "runs": {
        "no_step": "a task that calls no step",
        "one_step": "a task with one `ctx.step`",
        "three_steps": "a task with three `ctx.step`, one after the other",
        "start_one": "`spawn`",
        "start_fifty": "`spawn`, 50 tasks over 20 clients",
        "start_bulk": "its function `absurd.spawn_task` over `generate_series`, 5,000 in a statement; its client has none",
        "latency_here": "`spawn`, and `fetch_task_result` every 10 ms, one step",
        "latency_away": "`spawn`, and `fetch_task_result` every 10 ms, one step",
        "latency_start": "`spawn`, one step",
        "events": "`ctx.await_event`, `emit_event`",
        "fan_out": "a task with 1,000 `ctx.step`, one after the other: they share one connection",
        "four_no_step": "as one process",
        "four_one_step": "as one process",
        "memory": "`ctx.sleep_for` of a day",
    },
    "cannot": {},
    "counts": {"no_step": 6_000, "one_step": 3_000, "three_steps": 1_500, "start_fifty": 10_000, "fan_out": 3},
}
WORKERS, CONCURRENCY, CLIENTS, CHUNK = 4, 50, 20, 5_000
POLL, IDLE_POLL = 0.02, 0.01  # seconds
SPAWN = """
select count(*) from (
  select absurd.spawn_task('bench', 'noop', jsonb_build_object('n', n), '{}') from generate_series(%s::int, %s::int) as n) s
"""
SLEEPING = "select count(*) from absurd.t_bench where state = 'sleeping'"


@asynccontextmanager
async def _client(options: Options, meter: Meter | None = None):
    client = AsyncAbsurd(options.dsn, queue_name="bench")

    @client.register_task("noop")
    async def noop(params: Any, ctx: AsyncTaskContext) -> Any:
        def first() -> None:
            if options.idle:
                protocol.body_began(params["n"])
            if meter is not None:
                meter.first()

        def last() -> None:
            if meter is not None:
                meter.last()

        async def step(number: int) -> Any:
            if number == 1:
                first()
            if number == options.steps:
                last()
            return params

        if not options.steps:
            first()
            last()
        for number in range(1, options.steps + 1):
            await ctx.step(f"step_{number}", lambda number=number: step(number))
        return params

    @client.register_task("hears")
    async def hears(params: Any, ctx: AsyncTaskContext) -> Any:
        await ctx.await_event(params["event"])
        return {"woke": time.perf_counter()}

    @client.register_task("fans")
    async def fans(params: Any, ctx: AsyncTaskContext) -> Any:
        async def step(number: int) -> int:
            return number

        for number in range(FAN):
            await ctx.step(f"step_{number}", lambda number=number: step(number))
        return params

    @client.register_task("dreams")
    async def dreams(params: Any, ctx: AsyncTaskContext) -> Any:
        await ctx.sleep_for("day", 86_400)
        return params

    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _worker(options: Options, meter: Meter | None = None):
    """A worker that runs beside what is inside."""
    async with _client(options, meter) as client:
        name = f"worker-{id(client)}"  # by default all of one process would have the same
        poll = POLL if meter and not options.idle else IDLE_POLL
        working = asyncio.create_task(client.start_worker(worker_id=name, concurrency=CONCURRENCY, poll_interval=poll))
        try:
            yield
        finally:
            client.stop_worker()
            await working


async def setup(options: Options) -> None:
    """Make the tables."""
    command = [str(Path(sys.executable).with_name("absurdctl")), "init", "--database", options.dsn]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
    async with _client(options) as client:
        await client.create_queue("bench")


async def seed(options: Options) -> float:
    """Spawn all of them in bulk."""
    connection = await psycopg.AsyncConnection.connect(options.dsn, autocommit=True)
    began = time.perf_counter()
    for first in range(0, options.count, CHUNK):
        await connection.execute(SPAWN, (first, min(first + CHUNK, options.count) - 1))
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def work(options: Options) -> None:
    """Run what there is."""
    meter = Meter(options.count)
    protocol.await_gate(options)

    async def one() -> None:
        async with _worker(options, meter):
            await asyncio.Event().wait()

    working = asyncio.gather(*(one() for _ in range(WORKERS)))
    await asyncio.sleep(0)
    if options.idle:
        await asyncio.sleep(0.5)
    protocol.at_work()
    await working


async def each(options: Options) -> float:
    """Starts a second."""
    clients = [AsyncAbsurd(options.dsn, queue_name="bench") for _ in range(min(options.starters, CLIENTS))]
    turns = itertools.cycle(clients)
    for client in clients:
        await client.list_queues()  # it is connected
    found = await protocol.rate(options, lambda: next(turns).spawn("noop", {"n": 0}, queue="bench"))
    for client in clients:
        await client.close()
    return found


async def _asleep(connection: psycopg.AsyncConnection[Any], count: int) -> None:
    """Wait until so many of them sleep."""
    while (await (await connection.execute(SLEEPING)).fetchone()) != (count,):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)


async def _result(client: AsyncAbsurd, task: str) -> Any:
    while True:
        found = await client.fetch_task_result(task)
        if found is not None and found.state not in ("pending", "running", "sleeping"):
            return found.result
        await asyncio.sleep(IDLE_POLL)


async def latency(options: Options) -> dict[str, list[float]]:
    """Start to result; the worker is here unless it is elsewhere already."""
    async with _client(options) as client:

        async def act(number: int) -> None:
            await _result(client, (await client.spawn("noop", {"n": number}))["task_id"])

        if options.idle:
            return await protocol.latencies(act, options.count)
        async with _worker(options):
            return await protocol.latencies(act, options.count)


async def events(options: Options) -> list[float]:
    """From emitting an event until the waiting task goes on, in the other process."""
    connection = await psycopg.AsyncConnection.connect(options.dsn, autocommit=True)
    async with _client(options) as client:

        async def sample(number: int) -> float:
            task = (await client.spawn("hears", {"event": f"go-{number}"}))["task_id"]
            await _asleep(connection, 1)
            await asyncio.sleep(protocol.PAUSE)
            began = time.perf_counter()  # the same clock in every process
            await client.emit_event(f"go-{number}", {})
            return (await _result(client, task))["woke"] - began

        return await protocol.wakings(options, sample)


async def fan_out(options: Options) -> float:
    """Steps a second inside executions of a thousand steps, one after the other."""
    async with _client(options) as client, _worker(options):
        began = time.perf_counter()
        for _ in range(options.count):
            await _result(client, (await client.spawn("fans", {}))["task_id"])
        return options.count * FAN / (time.perf_counter() - began)


async def memory(options: Options) -> float:
    """Bytes for each that sleeps: they are rows."""
    connection = await psycopg.AsyncConnection.connect(options.dsn, autocommit=True)
    async with _client(options) as client, _worker(options):

        async def sleep(total: int) -> None:
            for _ in range(options.count):
                await client.spawn("dreams", {})
            await _asleep(connection, total)

        return await protocol.grown(options, sleep)


ROLES = {role.__name__: role for role in (setup, seed, work, each, latency, events, fan_out, memory)}

if __name__ == "__main__":
    protocol.main(ROLES, uvloop.run)
