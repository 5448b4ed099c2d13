"""DBOS Transact: durable workflows as a library. Its synchronous workflows, which are its faster ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.peers import protocol
from benchmarks.peers.protocol import FAN, Meter, Options

ABOUT = {
    "title": "DBOS",
    "requires": ["dbos==3.4.0", "psycopg[binary]==3.3.9"],
    "versions": ["dbos", "sqlalchemy", "psycopg"],
    "configuration": "synchronous workflows (its faster kind), 8 threads, pool of 20 without pre-ping, a queue with "
    "worker_concurrency 500 polled every 50 ms (1 s by default), for latencies and results every 10 ms (1 s by default)",
    "unfinished": "select exists (select from dbos.workflow_status where status in ('ENQUEUED', 'PENDING'))",
    "runs": {
        "no_step": "a workflow that calls no step, from the queue",
        "one_step": "a workflow with one step, from the queue",
        "three_steps": "a workflow with three steps, from the queue",
        "start_one": "`DBOSClient.enqueue`",
        "start_fifty": "`DBOSClient.enqueue`, 50 threads over the pool",
        "latency_here": "`DBOS.start_workflow` (no queue) and `handle.get_result`, one step",
        "latency_away": "`DBOSClient.enqueue` and `handle.get_result`, one step",
        "latency_start": "`DBOSClient.enqueue`, one step",
        "events": "`DBOS.recv`, `DBOSClient.send`",
        "fan_out": "an asynchronous workflow, 1,000 steps under `gather`, threads unbounded: faster than synchronous steps",
        "four_no_step": "as one process",
        "four_one_step": "as one process",
        "memory": "asynchronous workflows in `DBOS.sleep_async` of a day: they stay in memory",
    },
    "cannot": {"start_bulk": "no call that starts many"},
    "counts": {
        "no_step": 5_000,
        "one_step": 1_500,
        "three_steps": 600,
        "start_one": 2_000,
        "start_fifty": 5_000,
        "fan_out": 1,
        "four_no_step": 5_000,
        "four_one_step": 1_500,
    },
}
THREADS, POOL, SEEDERS = 8, 20, 50
POLL, IDLE_POLL = 0.05, 0.01  # seconds
QUEUE = "bench"
ASLEEP = "select count(*) from dbos.operation_outputs where function_name = 'DBOS.sleep'"
ENGINE: dict[str, Any] = {"pool_size": POOL, "max_overflow": 0, "pool_pre_ping": False}


def _engine(options: Options) -> sa.Engine:
    return sa.create_engine(options.dsn.replace("postgresql://", "postgresql+psycopg://"), **ENGINE)


@contextmanager
def _launched(options: Options, threads: int | None = THREADS) -> Iterator[None]:
    config: DBOSConfig = {
        "name": "bench-peers",
        "system_database_url": options.dsn,
        "sys_db_pool_size": POOL,
        "db_engine_kwargs": ENGINE,
        "max_executor_threads": threads,
        "application_version": "1",
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    yield
    DBOS.destroy()


@contextmanager
def _client(options: Options) -> Iterator[DBOSClient]:
    engine = _engine(options)
    client = DBOSClient(system_database_engine=engine)
    yield client
    client.destroy()
    engine.dispose()


class Bodies:
    """The workflows, registered anew in each process."""

    def __init__(self, options: Options, meter: Meter | None = None) -> None:
        def first(n: int) -> None:
            if options.idle:
                protocol.body_began(n)
            if meter is not None:
                meter.first()

        @DBOS.step()
        def step(number: int, n: int) -> int:
            if number == 1:
                first(n)
            if number == options.steps and meter is not None:
                meter.last()
            return n

        @DBOS.workflow(name="noop")
        def noop(n: int) -> int:
            if not options.steps:
                first(n)
                if meter is not None:
                    meter.last()
            for number in range(1, options.steps + 1):
                step(number, n)
            return n

        @DBOS.workflow(name="hears")
        def hears() -> float:
            DBOS.recv(timeout_seconds=60)
            return time.perf_counter()

        @DBOS.step()
        async def one_of_many(number: int) -> int:
            return number

        @DBOS.workflow(name="fans")
        async def fans() -> int:
            return len(await asyncio.gather(*(one_of_many(number) for number in range(FAN))))

        @DBOS.workflow(name="dreams")
        async def dreams() -> None:
            await DBOS.sleep_async(86_400)

        self.noop, self.fans, self.dreams = noop, fans, dreams


def _work_on(queue: str, options: Options) -> None:
    DBOS.register_queue(
        queue,
        worker_concurrency=500,
        polling_interval_sec=IDLE_POLL if options.idle else POLL,
        on_conflict="always_update",
    )


def setup(options: Options) -> None:
    """Make the tables."""
    with _launched(options):
        _work_on(QUEUE, options)


def _enqueue(client: DBOSClient, workflow: str, *arguments: Any) -> Any:
    return client.enqueue({"workflow_name": workflow, "queue_name": QUEUE, "app_version": "1"}, *arguments)


def seed(options: Options) -> float:
    """Enqueue all of them, by many threads: there is no call for it."""
    with _client(options) as client, ThreadPoolExecutor(SEEDERS) as threads:
        began = time.perf_counter()
        for _ in threads.map(lambda number: _enqueue(client, "noop", number), range(options.count)):
            pass
        return time.perf_counter() - began


def work(options: Options) -> None:
    """Run what there is."""
    Bodies(options, Meter(options.count))
    protocol.await_gate(options)
    with _launched(options):
        _work_on(QUEUE, options)
        if options.idle:
            time.sleep(1)  # it does not tell when it polls
        protocol.at_work()
        while True:
            time.sleep(1)


def each(options: Options) -> float:
    """Starts a second."""
    with _client(options) as client:
        return protocol.rate_in_threads(options, lambda: _enqueue(client, "noop", 0))


def latency(options: Options) -> dict[str, list[float]]:
    """Start to result; the worker is here unless it is elsewhere already."""
    if options.idle:
        with _client(options) as client:

            def act(number: int) -> None:
                _enqueue(client, "noop", number).get_result(polling_interval_sec=IDLE_POLL)

            return protocol.latencies_of_calls(act, options.count)
    bodies = Bodies(options)
    with _launched(options):

        def start(number: int) -> None:
            DBOS.start_workflow(bodies.noop, number).get_result(polling_interval_sec=IDLE_POLL)

        return protocol.latencies_of_calls(start, options.count)


def events(options: Options) -> list[float]:
    """From sending a message until the waiting workflow goes on, in the other process."""
    with _client(options) as client:

        def sample(number: int) -> float:
            handle = _enqueue(client, "hears")
            while not client.list_workflow_steps(handle.workflow_id):
                time.sleep(0.005)
            time.sleep(0.05)  # its wait is recorded a little before it waits
            began = time.perf_counter()  # the same clock in every process
            client.send(handle.workflow_id, "go")
            return handle.get_result(polling_interval_sec=IDLE_POLL) - began

        return [sample(number) for number in range(options.count + protocol.WARM_UP)][protocol.WARM_UP :]


async def fan_out(options: Options) -> float:
    """Steps a second inside executions that fan out, one after the other."""
    bodies = Bodies(options)
    with _launched(options, threads=None):
        began = time.perf_counter()
        for _ in range(options.count):
            await (await DBOS.start_workflow_async(bodies.fans)).get_result()
        return options.count * FAN / (time.perf_counter() - began)


async def memory(options: Options) -> float:
    """Bytes for each that sleeps."""
    bodies = Bodies(options)
    with _launched(options), _engine(options).connect() as connection:

        async def sleep(total: int) -> None:
            for _ in range(options.count):
                await DBOS.start_workflow_async(bodies.dreams)
            while connection.execute(sa.text(ASLEEP)).scalar_one() < total:
                connection.rollback()
                await asyncio.sleep(0.1)

        protocol.say("result", value=await protocol.grown(options, sleep))
        await asyncio.Event().wait()  # ending takes as long as they sleep


ROLES: dict[str, Callable[[Options], Any]] = {
    role.__name__: role for role in (setup, seed, work, each, latency, events, fan_out, memory)
}

if __name__ == "__main__":
    protocol.main(ROLES)
