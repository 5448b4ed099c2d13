"""The floor under all: the bare group commit of `benchmarks/bound.py`, in the form of a peer.

It claims in batches and journals each step durably before the next begins, through one group-committing writer. It has none
of what makes an engine: what an engine loses against it is the price of that.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvloop

from benchmarks.bound import CLAIM, FILL, PLANS, SCHEMA, WRITERS, Writer
from benchmarks.peers import protocol
from benchmarks.peers.protocol import Meter, Options

ABOUT = {
    "title": "floor",
    "requires": [],
    "versions": ["asyncpg", "uvloop"],
    "configuration": "no engine: bare group commit, 500 in flight, two writing connections, uvloop",
    "unfinished": "select exists (select from bound.execution where status <> 2)",
    "runs": {
        "no_step": "claim, then the end",
        "one_step": "claim, a record, the end",
        "three_steps": "claim, three records, the end",
        "four_no_step": "as one process",
        "four_one_step": "as one process",
    },
    "cannot": {},
    "counts": {
        "no_step": 160_000,
        "one_step": 120_000,
        "three_steps": 90_000,
        "four_no_step": 80_000,
        "four_one_step": 50_000,
    },
}
CONCURRENCY = 500


async def setup(options: Options) -> None:
    """Make the tables."""
    connection = await asyncpg.connect(options.dsn)
    await connection.execute(SCHEMA)
    await connection.close()


async def seed(options: Options) -> float:
    """Fill the table of executions."""
    connection = await asyncpg.connect(options.dsn)
    began = time.perf_counter()
    await connection.fetch(FILL, options.count)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def work(options: Options) -> None:
    """Claim and run until ended."""
    meter = Meter(options.count)
    protocol.await_gate(options)
    claimer, *writing = [await asyncpg.connect(options.dsn, server_settings=PLANS) for _ in range(WRITERS + 1)]
    writer = Writer()
    writers = [asyncio.create_task(writer.run(connection)) for connection in writing]
    claim, owner = await claimer.prepare(CLAIM), uuid4()
    running: set[asyncio.Task[None]] = set()
    room = asyncio.Event()

    async def step(number: int) -> dict[str, int]:
        meter.first()
        if number == max(options.steps, 1):
            meter.last()
        return {"x": number}

    async def execute(execution_id: UUID, text: str) -> None:
        data: Any = json.loads(text)
        if not options.steps:
            data = await step(1)
        for number in range(1, options.steps + 1):
            data = await step(number)
            await writer.record(execution_id, number, f"step_{number}", json.dumps(data))
        await writer.finish(execution_id, json.dumps(data))

    def left(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if len(running) <= CONCURRENCY // 2:
            room.set()

    while not any(task.done() for task in writers):
        for row in await claim.fetch(CONCURRENCY - len(running), owner):
            task = asyncio.create_task(execute(*row))
            running.add(task)
            task.add_done_callback(left)
        room.clear()
        await (room.wait() if len(running) > CONCURRENCY // 2 else asyncio.sleep(0.001))


if __name__ == "__main__":
    protocol.main({"setup": setup, "seed": seed, "work": work}, uvloop.run)
