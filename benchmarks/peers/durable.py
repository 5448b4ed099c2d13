"""durable itself, in the form of a peer, so that it is measured by the same code."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import uvloop

import durable
from benchmarks.announcing import Announcing
from benchmarks.peers import protocol
from benchmarks.peers.protocol import FAN, Meter, Options
from benchmarks.workflows import dreams, hears
from durable import Durable, Status, Workflow, hours

ABOUT = {
    "title": "durable",
    "requires": [],
    "versions": ["durable", "asyncpg", "uvloop"],
    "configuration": "default settings, queue concurrency 500, `Durable.run`, uvloop",
    "unfinished": "select exists (select from durable.ready) or exists (select from durable.claim)",
    "runs": {
        "no_step": "a code-first workflow that calls nothing: its result is its only record",
        "one_step": "a pipeline of one step",
        "three_steps": "a pipeline of three steps, each recorded before the next begins",
        "start_one": "`start`",
        "start_fifty": "`start`, 50 tasks",
        "start_bulk": "`start_many`",
        "latency_here": "`start` and `handle.result()`, one step",
        "latency_away": "`start` and `handle.result()`, one step",
        "latency_start": "`start`, one step",
        "events": "`wait_for_event`, `send_event`",
        "fan_out": "a foreach of 1,000 items, concurrency 50",
        "four_no_step": "as one process",
        "four_one_step": "as one process",
        "memory": "`durable.sleep` of a day, inside a step",
    },
    "cannot": {},
    "counts": {
        "no_step": 80_000,
        "one_step": 80_000,
        "three_steps": 48_000,
        "start_one": 10_000,
        "start_fifty": 30_000,
        "start_bulk": 60_000,
        "fan_out": 20,
        "four_no_step": 30_000,
        "four_one_step": 30_000,
    },
}
Data = dict[str, Any]
WAITING = "select count(*) from durable.execution where status = 'waiting'"
CONCURRENCY = {"default": 500}


def _workflow(options: Options) -> Workflow[Data, Data]:
    """What throughput is measured with. An idle worker's first step tells when it began."""
    meter = Meter(options.count)

    def first(data: Data) -> None:
        if options.idle:
            protocol.body_began(data["n"])
        meter.first()

    if not options.steps:

        @durable.workflow("noop_0")
        async def nothing(data: Data) -> Data:
            first(data)
            meter.last()
            return data

        return nothing
    workflow = Workflow[Data, Data](f"noop_{options.steps}")

    def add(number: int) -> None:
        @workflow.step(name=f"step_{number}")
        async def noop(data: Data) -> Data:
            if number == 1:
                first(data)
            if number == options.steps:
                meter.last()
            return data

    for number in range(1, options.steps + 1):
        add(number)
    return workflow


fans = Workflow[Data, Data]("fans")
items = fans.foreach("items", items=lambda data: list(range(FAN)), concurrency=50)


@items.step
async def noop(data: Data, item: int, index: int) -> int:
    """One of a thousand."""
    return item


async def setup(options: Options) -> None:
    """Make the tables."""
    async with Durable(options.dsn, workflows=[_workflow(options)], worker=False):
        pass


async def seed(options: Options) -> float:
    """Start all of them in bulk."""
    workflow = _workflow(options)
    async with Durable(options.dsn, workflows=[workflow], worker=False) as client:
        await client.start(workflow, {"n": 0}, delay=hours(1))  # its statements are prepared
        began = time.perf_counter()
        await client.start_many(workflow, [{"n": number} for number in range(options.count)])
        return time.perf_counter() - began


async def work(options: Options) -> None:
    """Run what there is."""
    workflow = _workflow(options)
    protocol.await_gate(options)
    await Announcing(options.dsn, protocol.at_work, workflows=[workflow, hears], queues=CONCURRENCY).run()


async def each(options: Options) -> float:
    """Starts a second."""
    workflow = _workflow(options)
    async with Durable(options.dsn, workflows=[workflow], worker=False) as client:
        return await protocol.rate(options, lambda: client.start(workflow, {"n": 0}))


async def latency(options: Options) -> Data:
    """Start to result; the worker is here unless it is elsewhere already."""
    workflow = _workflow(options)
    async with Durable(options.dsn, workflows=[workflow], worker=not options.idle) as engine:

        async def act(number: int) -> None:
            await (await engine.start(workflow, {"n": number})).result(timeout=30)

        return await protocol.latencies(act, options.count)


async def events(options: Options) -> list[float]:
    """From sending an event until the waiting body goes on, in the other process."""
    async with Durable(options.dsn, workflows=[hears], worker=False) as engine:

        async def sample(number: int) -> float:
            handle = await engine.start(hears, {})
            while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
            await asyncio.sleep(protocol.PAUSE)
            began = time.perf_counter()  # the same clock in every process
            await handle.send_event("go")
            return (await handle.result(timeout=30))["woke"] - began

        return await protocol.wakings(options, sample)


async def fan_out(options: Options) -> float:
    """Steps a second inside executions that fan out, one after the other."""
    async with Durable(options.dsn, workflows=[fans]) as engine:
        await (await engine.start(fans, {})).result(60)
        began = time.perf_counter()
        for _ in range(options.count):
            await (await engine.start(fans, {})).result(60)
        return options.count * FAN / (time.perf_counter() - began)


async def memory(options: Options) -> float:
    """Bytes for each that sleeps."""
    connection = await asyncpg.connect(options.dsn)
    async with Durable(options.dsn, workflows=[dreams]) as engine:

        async def sleep(total: int) -> None:
            await engine.start_many(dreams, [{}] * options.count)
            while await connection.fetchval(WAITING) < total:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)

        grown = await protocol.grown(options, sleep)
    await connection.close()
    return grown


ROLES = {role.__name__: role for role in (setup, seed, work, each, latency, events, fan_out, memory)}

if __name__ == "__main__":
    protocol.main(ROLES, uvloop.run)
