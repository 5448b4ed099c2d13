"""`python -m benchmarks.peers`: measure durable beside its peers, print the tables, and write them down if asked to."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack

import asyncpg
import uvloop
from rich.console import Console

from benchmarks.bench import DSN_VARIABLE, server
from benchmarks.peers import charts, figures, roster
from benchmarks.peers.figures import Results
from benchmarks.peers.protocol import latencies
from benchmarks.peers.workloads import WORKLOADS, Stage
from benchmarks.report import machine, milliseconds, percentile
from tests.support.postgres import Cluster

ROUNDS = 3
CONNECTIONS = "300"  # four processes of some peers need more than the hundred of PostgreSQL's default


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--dsn", help=f"measure on this server (else ${DSN_VARIABLE}, else a private one is started)")
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="this workload alone; may be repeated")
    parser.add_argument("--peers", choices=roster.NAMES, action="append", help="this peer alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many rounds (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of small measurements: a rough look")
    parser.add_argument("--write", action="store_true", help="put this whole run into RESULTS.md, with charts")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: give one or more")
    if arguments.write and (arguments.quick or arguments.only or arguments.peers):
        parser.error("--write writes down whole runs only: leave out --quick, --only and --peers")
    return arguments


async def _measure(results: Results, stages: list[Stage], rounds: int, console: Console) -> None:
    """Every workload, the peers in turns."""
    for name, workload in results.workloads.items():
        for number in range(rounds):
            for stage in stages:
                peer = stage.peer
                if name not in peer.runs or (name, peer.name) in results.failures:
                    continue
                began = time.perf_counter()
                try:
                    figure = await workload.measure(stage, name, workload.usual)
                except Exception as error:  # one peer's failure is told, and the others go on
                    results.failures[name, peer.name] = f"{type(error).__name__}: {error}".splitlines()[0]
                    console.print(f"[red]{name} {peer.name}: {error}[/]", markup=False, highlight=False)
                    continue
                results.add(name, peer.name, figure)
                shown = "" if isinstance(figure, list) else f" {figure:,.0f}"
                seconds = time.perf_counter() - began
                load = os.getloadavg()[0]
                console.print(
                    f"{name} {number + 1} {peer.name}{shown} in {seconds:.1f} s, load {load:.1f}", highlight=False
                )


async def _commit(cluster: Cluster) -> str:
    """What a commit takes on this disk, and how steadily."""
    async with cluster.database() as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute("create table floor (number int)")

        async def commit(number: int) -> None:
            await connection.execute("insert into floor values ($1)", number)

        samples = (await latencies(commit, 200))["samples"]
        await connection.close()
    return f"{milliseconds(percentile(samples, 0.5))} ms (p50), {milliseconds(percentile(samples, 0.99))} ms (p99)"


async def main(arguments: argparse.Namespace) -> None:
    """Measure what was asked for."""
    console = Console(width=None if Console().is_terminal else 150)
    began = time.perf_counter()
    peers = [roster.read(name) for name in arguments.peers or roster.NAMES]
    for peer in peers:
        await asyncio.to_thread(roster.install, peer)
    versions = {peer.name: await asyncio.to_thread(roster.versions, peer) for peer in peers}
    results = Results(peers, {name: WORKLOADS[name] for name in arguments.only or WORKLOADS})
    rounds = 1 if arguments.quick else arguments.rounds
    async with server(arguments.dsn, max_connections=CONNECTIONS) as cluster, AsyncExitStack() as stack:
        facts = await machine(cluster.dsn)
        stages = [Stage(cluster, peer, arguments.quick) for peer in peers]
        for stage in stages:
            stack.push_async_callback(stage.close)
            await stage.set_up()
        results.processor = {stage.peer.name: stage.processor for stage in stages}
        facts.append(("commit of one row", await _commit(cluster)))
        await _measure(results, stages, rounds, console)
    facts.append(("load after", " ".join(f"{load:.1f}" for load in os.getloadavg())))
    facts.append(("took", f"{(time.perf_counter() - began) / 60:.0f} minutes"))
    for table in figures.tables(results):
        table.show(console)
    console.print(figures.notes(results, versions), highlight=False, markup=False)
    if arguments.write:
        drawn = charts.draw(results)
        for file, (picture, _) in drawn.items():
            (roster.FOLDER / file).write_text(picture, "utf-8")
        texts = {file: text for file, (_, text) in drawn.items()}
        figures.write(figures.markdown(results, facts, versions, rounds, texts))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(main(_arguments()))
