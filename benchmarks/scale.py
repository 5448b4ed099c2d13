"""What does a long history cost? `python -m benchmarks.scale`: the same work in an empty database and in one that holds
millions of finished executions, in turns; and how long lists and filters take in the full one.

Not one of `python -m benchmarks`, for making the history takes minutes and some 7 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import uvloop
from rich.console import Console

from benchmarks.bench import DSN_VARIABLE, Bench, server
from benchmarks.report import Table, facts_table, machine, median, milliseconds, percentile, put, rate, ratio, spread
from benchmarks.throughput import CONCURRENCY
from benchmarks.workflows import INPUT, Meter, pipeline
from durable import Durable, Status
from durable.store.migrate import migrate
from tests.store import history

QUESTION = "Scale: what millions of finished executions cost"
FINISHED = 10_000_000
PAGE = 250_000  # rows of history made at once
STARTS, EXECUTIONS, LISTS = 3_000, 20_000, 200
WORKFLOWS = [f"flow{number}" for number in range(1, history.WORKFLOWS + 1)]


async def fill(dsn: str, finished: int, console: Console) -> None:
    """Make the history."""
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    began = time.perf_counter()
    for first in range(1, finished + 1, PAGE):
        await history.finish(connection, first, min(first + PAGE - 1, finished))
        if first % (PAGE * 10) == 1:
            console.print(f"{first - 1:,} of {finished:,} made in {time.perf_counter() - began:.0f} s", highlight=False)
    await connection.execute("vacuum analyze")
    await connection.execute("checkpoint")
    await connection.close()


async def starts(dsn: str) -> float:
    """Starts a second, one by one."""
    workflow = pipeline(1)
    async with Durable(dsn, workflows=[workflow], worker=False) as client:
        await client.start(workflow, INPUT)
        began = time.perf_counter()
        handles = [await client.start(workflow, INPUT) for _ in range(STARTS)]
        seconds = time.perf_counter() - began
        await asyncio.gather(*(handle.cancel() for handle in handles))
    return STARTS / seconds


async def bulk(dsn: str) -> tuple[float, float]:
    """Executions of one step that are started a second, in bulk; and claimed, run and finished."""
    meter = Meter(EXECUTIONS)
    workflow = pipeline(1, meter)
    async with Durable(dsn, workflows=[workflow], worker=False) as client:
        began = time.perf_counter()
        handles = await client.start_many(workflow, [INPUT] * EXECUTIONS)
        started = EXECUTIONS / (time.perf_counter() - began)
    async with Durable(dsn, workflows=[workflow], queues={"default": CONCURRENCY}) as engine:
        await meter.all_called.wait()
        await engine.handle(handles[-1].id).result(60)
        while (await engine.list_executions(status=[Status.PENDING, Status.RUNNING], limit=1)).items:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return started, EXECUTIONS / (time.perf_counter() - meter.began)


async def lists(dsn: str) -> dict[str, list[float]]:
    """Seconds that pages of lists take, by what is asked for."""
    asked: dict[str, dict[str, Any]] = {
        "the newest": {},
        "of one workflow": {"workflow": WORKFLOWS[0]},
        "that failed, of one workflow": {"workflow": WORKFLOWS[1], "status": Status.FAILED},
        "that are pending": {"status": Status.PENDING},
        "with a rare tag": {"tags": {"rare": 1}},
    }
    taken: dict[str, list[float]] = {name: [] for name in [*asked, "the next page", "one by its id"]}
    async with Durable(dsn, workflows=[pipeline(1)], worker=False) as client:

        async def timed(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
            began = time.perf_counter()
            answer = await call()
            taken[name].append(time.perf_counter() - began)
            return answer

        for number in range(LISTS):
            for name, arguments in asked.items():
                page = await timed(name, lambda a=arguments: client.list_executions(**a))
                if name == "of one workflow":
                    cursor = page.cursor
                    await timed(
                        "the next page", lambda c=cursor: client.list_executions(workflow=WORKFLOWS[0], cursor=c)
                    )
            id = str(history.id_of(1 + number * 7))
            await timed("one by its id", lambda i=id: client.get_execution(i))
    return taken


async def measure(bench: Bench, finished: int, console: Console) -> list[Table]:
    """Both databases in turns."""
    async with bench.database() as empty, bench.database() as full:
        await migrate(empty)
        await fill(full, finished, console)
        connection = await asyncpg.connect(full)
        size = await connection.fetchval("select pg_database_size(current_database())")
        await connection.close()
        kinds = ("starts, one by one", "starts in bulk", "claimed, run and finished")
        rates: dict[tuple[str, str], list[float]] = {}
        for _ in range(bench.rounds):
            for name, dsn in (("empty", empty), ("full", full)):
                gc.collect()
                for kind, value in zip(kinds, (await starts(dsn), *await bulk(dsn)), strict=True):
                    rates.setdefault((kind, name), []).append(value)
        taken = await lists(full)
    return [
        Table(
            QUESTION,
            ("executions of one step", "empty /s", "from - to", "full /s", "from - to", "full / empty"),
            [_compared(kind, rates[kind, "empty"], rates[kind, "full"]) for kind in kinds],
            [
                f"Full: {finished:,} finished executions with a record each, {size / 1e9:.1f} GB. Medians, in turns; uvloop."
            ],
        ),
        Table(
            "Scale: lists in the full database",
            ("a page of 50", "p50", "p99"),
            [(name, milliseconds(median(each)), milliseconds(percentile(each, 0.99))) for name, each in taken.items()],
            [f"Milliseconds, {LISTS} times each, by one client."],
        ),
    ]


def _compared(kind: str, empty: list[float], full: list[float]) -> tuple[str, ...]:
    return kind, rate(empty), spread(empty), rate(full), spread(full), ratio(full, empty)


async def main(arguments: argparse.Namespace) -> None:
    """Measure, show, and write down if asked to."""
    console = Console(width=None if Console().is_terminal else 120)
    async with server(arguments.dsn) as cluster:
        facts = await machine(cluster.dsn)
        tables = await measure(Bench(cluster, quick=False, rounds=arguments.rounds), arguments.finished, console)
    for table in tables:
        table.show(console)
    if arguments.write:
        head = f"# Scale\n\nMade by `python -m benchmarks.scale --write`.\n\n{facts_table(facts)}\n"
        put(head + "\n".join(table.markdown() for table in tables), "scale")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--dsn", help=f"measure on this server (else ${DSN_VARIABLE}, else a private one is started)")
    parser.add_argument("--finished", type=int, default=FINISHED, help="how many have finished (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the result into RESULTS.md")
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(parser.parse_args()))
