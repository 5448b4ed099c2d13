"""What is asked of every peer, and how it is measured. The same code for all, durable among them.

A measurement has a new database, a copy of the one that the peer's `setup` has made, and begins after a checkpoint. Its
processes are ended with it. A figure is a rate, or a list of samples in seconds, or bytes.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import process
from benchmarks.peers.protocol import WARM_UP
from benchmarks.peers.roster import Peer
from tests.support.postgres import Cluster, with_database
from tests.support.processes import Program

TIMEOUT = 120.0  # seconds for whatever a peer has to answer
FOUR = 4
QUICKER = 8  # a quick look has so many times fewer executions


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a peer is measured."""

    cluster: Cluster
    peer: Peer
    quick: bool = False
    timeout: float = TIMEOUT
    template: list[str] = field(default_factory=list[str])
    """The name of the database that its `setup` has made, once there is one."""
    processor: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])
    """By workload, the processor time of an execution, in seconds: of the workers, and of PostgreSQL. On Linux alone."""

    async def set_up(self) -> None:
        """Make its template."""
        name = await self.cluster.create(name=f"template_{self.peer.name}")
        self.template.append(name)
        await self.ask("setup", with_database(self.cluster.dsn, name))

    async def close(self) -> None:
        """Drop its template."""
        for name in self.template:
            await self.cluster.drop(name)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The DSN of a database with its tables."""
        connection = await asyncpg.connect(self.cluster.dsn)
        await connection.execute("checkpoint")  # what others have written is not this one's cost
        await connection.close()
        async with self.cluster.database(self.template[0]) as dsn:
            yield dsn

    def start(self, role: str, dsn: str, *arguments: object) -> Awaitable[Program]:
        """A process of the peer in this role."""
        return Program.start(self.peer.module, role, "--dsn", dsn, *arguments, python=self.peer.python)

    async def ask(self, role: str, dsn: str, *arguments: object) -> Any:
        """What the role answers."""
        async with await self.start(role, dsn, *arguments) as program:
            return (await program.message("result", timeout=self.timeout))["value"]

    def count(self, workload: str, usual: int) -> int:
        """How many the peer is given."""
        count = self.peer.counts.get(workload, usual)
        return max(count // QUICKER, 1) if self.quick else count


async def _throughput(stage: Stage, workload: str, usual: int, *, steps: int, processes: int) -> float:
    """Executions a second, from the first body's beginning until the last end is committed. All are started beforehand."""
    count = stage.count(workload, usual)
    given = ("--count", count, "--steps", steps)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(stage.database())
        await stage.ask("seed", dsn, *given)
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        await connection.execute("analyze")
        gate = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "open"
        given = (*given, "--gate", gate)
        workers = [await stack.enter_async_context(await stage.start("work", dsn, *given)) for _ in range(processes)]
        for worker in workers:
            await worker.message("ready", timeout=stage.timeout)
        server = process.parent(await connection.fetchval("select pg_backend_pid()"), "postgres")
        before = _processor(workers, server)
        gate.touch()
        began = await asyncio.wait_for(_all_called(workers, count, stage.timeout), stage.timeout)
        async with asyncio.timeout(stage.timeout):
            while await connection.fetchval(stage.peer.unfinished):  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(0.001)
        seconds = time.perf_counter() - began
        after = _processor(workers, server)
        if before is not None and after is not None:
            spent = (after[0] - before[0]) / count, (after[1] - before[1]) / count
            stage.processor.setdefault(workload, []).append(spent)
        return count / seconds


def _processor(workers: list[Program], server: int | None) -> tuple[float, float] | None:
    """The processor time so far of the workers, and of the whole server; None if it cannot be read here."""
    own = [process.processor(worker.pid) for worker in workers]
    theirs = process.processor_of_children(server) if server else None
    return None if theirs is None or None in own else (sum(filter(None, own)), theirs)


async def _all_called(workers: list[Program], count: int, timeout: float) -> float:
    """Wait until *count* last steps have been called by all together. Returns when the first step began."""
    counts = dict.fromkeys(range(len(workers)), 0)
    begun: dict[int, float] = {}
    done = asyncio.Event()

    async def follow(number: int, worker: Program) -> None:
        while not done.is_set():
            message = await worker.message("called", timeout=timeout)
            counts[number] = message["count"]
            begun[number] = message["began"]
            if sum(counts.values()) >= count:
                done.set()

    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(follow(number, worker)) for number, worker in enumerate(workers)]
        await done.wait()
        for follower in followers:
            follower.cancel()
    return min(begun.values())


async def _each(stage: Stage, workload: str, usual: int, *, starters: int) -> float:
    """Starts a second by one client; no worker runs."""
    async with stage.database() as dsn:
        return await stage.ask("each", dsn, "--count", stage.count(workload, usual), "--starters", starters)


async def _bulk(stage: Stage, workload: str, usual: int) -> float:
    """Starts a second by one client, in the peer's largest portions."""
    count = stage.count(workload, usual)
    async with stage.database() as dsn:
        return count / await stage.ask("seed", dsn, "--count", count)


async def _here(stage: Stage, workload: str, usual: int) -> list[float]:
    """From start to result, the worker in the process of the client."""
    async with stage.database() as dsn:
        found = await stage.ask("latency", dsn, "--count", stage.count(workload, usual), "--steps", 1)
        return found["samples"]


async def _away(stage: Stage, workload: str, usual: int, *, until: str) -> list[float]:
    """From start until the result or the first line of the body, the worker in another process."""
    steps = 0 if "one_step" in stage.peer.cannot else 1
    given = ("--count", stage.count(workload, usual), "--steps", steps, "--idle")
    async with stage.database() as dsn, await stage.start("work", dsn, *given) as worker:
        await worker.message("working", timeout=stage.timeout)
        found = await stage.ask("latency", dsn, *given)
        if until == "result":
            return found["samples"]
        bodies: list[float] = []
        for number, start in enumerate(found["starts"]):
            body = await worker.message("body", timeout=stage.timeout, number=number)
            bodies.append(body["at"] - start)
        return bodies[WARM_UP:]


async def _events(stage: Stage, workload: str, usual: int) -> list[float]:
    """From sending an event until the next line of the waiting body, in another process."""
    given = ("--count", stage.count(workload, usual), "--steps", 1)
    async with stage.database() as dsn, await stage.start("work", dsn, *given, "--idle") as worker:
        await worker.message("working", timeout=stage.timeout)
        return await stage.ask("events", dsn, *given)


async def _ask(stage: Stage, workload: str, usual: int) -> float:
    """What the role of the workload's name answers."""
    async with stage.database() as dsn:
        return await stage.ask(workload, dsn, "--count", stage.count(workload, usual))


@dataclass(frozen=True, slots=True)
class Workload:
    """One question."""

    title: str
    unit: str
    """"/s": a rate, the higher the better; "ms": samples of seconds; "bytes": the lower the better."""
    usual: int
    """How many, for a peer that does not say."""
    measure: Callable[[Stage, str, int], Awaitable[Any]]

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.unit == "/s"


WORKLOADS: Mapping[str, Workload] = {
    "no_step": Workload("no-op executions, no step", "/s", 5_000, partial(_throughput, steps=0, processes=1)),
    "one_step": Workload("executions of one step", "/s", 1_500, partial(_throughput, steps=1, processes=1)),
    "three_steps": Workload("executions of three steps", "/s", 600, partial(_throughput, steps=3, processes=1)),
    "start_one": Workload("starts, one by one", "/s", 2_000, partial(_each, starters=1)),
    "start_fifty": Workload("starts, 50 at a time", "/s", 5_000, partial(_each, starters=50)),
    "start_bulk": Workload("starts, in bulk", "/s", 20_000, _bulk),
    "latency_here": Workload("start to result, one process", "ms", 100, _here),
    "latency_away": Workload("start to result, worker in another process", "ms", 100, partial(_away, until="result")),
    "latency_start": Workload("start to body, worker in another process", "ms", 100, partial(_away, until="body")),
    "events": Workload("event to the next line, in another process", "ms", 50, _events),
    "fan_out": Workload("steps inside one execution of 1,000", "/s", 1, _ask),
    "four_no_step": Workload(
        "no step, four worker processes", "/s", 6_000, partial(_throughput, steps=0, processes=FOUR)
    ),
    "four_one_step": Workload(
        "one step, four worker processes", "/s", 2_000, partial(_throughput, steps=1, processes=FOUR)
    ),
    "memory": Workload("memory of each of 2,000 that sleep", "bytes", 2_000, _ask),
}
