"""Storms, one after the other, each on a database of its own and from a seed of its own; and their totals.

python -m tests.storm --seed 7            # one storm: the same workflows and the same plan of deeds as every time
python -m tests.storm --minutes 30        # new seeds, until the time is over
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from durable.store.migrate import migrate
from durable.testing.server import with_database
from tests.storm import history
from tests.storm.driver import Storm
from tests.storm.judge import judge
from tests.storm.program import Program
from tests.support.calls import watch_calls
from tests.support.postgres import DurableCluster

SHOWN = 40  # faults of a storm
DEEDS = {
    "kills": ["kill"],
    "freezes": ["freeze"],
    "restarts of PostgreSQL": ["restart"],
    "backends' ends": ["terminate"],
    "connections cut": ["connections cut"],
    "half-open": ["connections frozen"],
    "partitions": ["partition", "records held back"],
    "traps for COMMITs": ["lose", "cut"],
}


@dataclass(frozen=True)
class Shape:
    """How big a storm is: so many `seconds`, until it calms down, with `size` workflows and so many executions `in_flight`."""

    seconds: float = 30
    size: int = 40
    in_flight: int = 40


@dataclass
class Round:
    """A storm that is over."""

    seed: int
    seconds: float
    end_seconds: float
    figures: Counter[str]
    faults: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        said = ", ".join(f"{count} {what}" for what, count in sorted(self.figures.items()))
        took = f"{self.seconds:.0f} s, {self.end_seconds:.0f} of them until all had ended"
        lines = [f"storm --seed {self.seed}: {took}; {said}; {len(self.faults)} violations"]
        return "\n- ".join([*lines, *self.faults[:SHOWN]])


async def storms(cluster: DurableCluster, folder: Path, seed: int, shape: Shape, *, minutes: float = 0) -> list[Round]:
    """Raise storms, from this seed on, until the time is over; one at least. Prints what each has come to."""
    until = time.monotonic() + 60 * minutes
    rounds: list[Round] = []
    while not rounds or time.monotonic() < until:
        print(f"storm --seed {seed + len(rounds)} begins", flush=True)
        rounds.append(await storm(cluster, folder, seed + len(rounds), shape))
        print(rounds[-1], flush=True)
    return rounds


async def storm(cluster: DurableCluster, folder: Path, seed: int, shape: Shape) -> Round:
    """Raise one storm, and judge it. Its bodies are noted in *folder*."""
    began = time.monotonic()
    name = f"storm_{seed}"
    await _execute(cluster.dsn, f"drop database if exists {name} with (force)")
    await _execute(cluster.dsn, f"create database {name}")
    dsn = with_database(cluster.dsn, name)
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await watch_calls(connection)
        await history.watch(connection)
    finally:
        await connection.close()
    raised = Storm(cluster, dsn, Program(seed, shape.size), folder, shape.in_flight)
    await raised.rage(shape.seconds)
    faults = await judge(raised)
    raised.figures["programs"] = shape.size
    if not faults:
        await _execute(cluster.dsn, f"drop database {name} with (force)")
    return Round(seed, time.monotonic() - began, raised.end_seconds, raised.figures, faults)


def totals(rounds: list[Round]) -> str:
    """One line that says what they came to."""
    figures = sum((round_.figures for round_ in rounds), Counter[str]())
    parts = [f"{len(rounds)} storms", *(f"{figures[what]} {what}" for what in ("programs", "executions", "steps"))]
    parts += (f"{sum(figures[kind] for kind in kinds)} {what}" for what, kinds in DEEDS.items())
    parts.append(f"{sum(round_.seconds for round_ in rounds) / 60:.1f} minutes")
    parts.append(f"{sum(len(round_.faults) for round_ in rounds)} violations")
    return "storms in all: " + ", ".join(parts)


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
