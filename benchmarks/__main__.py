"""`python -m benchmarks`: run the benchmarks, print their tables, and write them down if asked to."""

from __future__ import annotations

import argparse
import logging
import time

import uvloop
from rich.console import Console

from benchmarks import (
    asleep,
    fan_out,
    idle,
    latency,
    queues,
    recovery,
    start_rate,
    telemetry,
    throughput,
    waiting,
    waking,
)
from benchmarks.bench import DSN_VARIABLE, Bench, server
from benchmarks.report import Table, machine, write

BENCHMARKS = {
    "throughput": throughput,
    "fan_out": fan_out,
    "queues": queues,
    "start": start_rate,
    "latency": latency,
    "idle": idle,
    "waiting": waiting,
    "waking": waking,
    "asleep": asleep,
    "recovery": recovery,
    "telemetry": telemetry,
}
ROUNDS = 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--dsn", help=f"measure on this server (else ${DSN_VARIABLE}, else a private one is started)")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="this benchmark alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a rough look, in less than 90 seconds")
    parser.add_argument("--write", action="store_true", help="replace RESULTS.md with the results of this whole run")
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.only):
        parser.error("--write writes down whole runs only: leave out --quick and --only")
    return arguments


async def main(arguments: argparse.Namespace) -> None:
    """Run what was asked for."""
    console = Console(width=None if Console().is_terminal else 120)
    began = time.perf_counter()
    tables: list[Table] = []
    async with server(arguments.dsn) as cluster:
        bench = Bench(cluster, arguments.quick, 1 if arguments.quick else ROUNDS)
        facts = await machine(cluster.dsn)
        for name, value in facts:
            console.print(f"[bold]{name}[/] {value}", highlight=False)
        console.print(f"medians of {bench.rounds} rounds, engine and floors in turns\n", highlight=False)
        for name in arguments.only or BENCHMARKS:
            table = await BENCHMARKS[name].measure(bench)
            table.show(console)
            tables.append(table)
    console.print(f"measured in {time.perf_counter() - began:.0f} s", highlight=False)
    if arguments.write:
        write(facts, tables, bench.rounds)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(_arguments()))
