"""How many no-op steps a second does one execution run that fans out into a thousand, each recorded durably?

As a foreach of a thousand items and as a parallel of a thousand arms, at different concurrency. The clock runs from start to
result.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.bench import Bench
from benchmarks.report import Table, rate, ratio, spread
from benchmarks.start_rate import unnest_inserts
from durable import Durable, Workflow

QUESTION = "Fan-out: no-op steps a second inside one execution of a thousand, one worker process"
STEPS = 1_000
Data = dict[str, Any]


def each(concurrency: int) -> Workflow[Data, Data]:
    """A foreach of a thousand items."""
    workflow = Workflow[Data, Data](f"each_{concurrency}")
    items = workflow.foreach("items", items=lambda data: list(range(STEPS)), concurrency=concurrency)

    @items.step
    async def noop(data: Data, item: int, index: int) -> int:
        return item

    return workflow


def arms() -> Workflow[Data, Data]:
    """A parallel of a thousand arms."""
    workflow = Workflow[Data, Data]("arms")
    parallel = workflow.parallel("arms", into=lambda data, results: {"ok": len(results.ok)})

    async def noop(data: Data) -> int:
        return 1

    for number in range(STEPS):
        parallel.step(name=f"arm_{number}")(noop)
    return workflow


async def measure(bench: Bench) -> Table:
    """Each way to fan out, beside plain inserts."""
    executions = bench.size(10, 3)
    contestants = {
        "foreach, concurrency 50": partial(_engine, bench, each(50), executions),
        "foreach, concurrency 1,000": partial(_engine, bench, each(STEPS), executions),
        "parallel, 1,000 arms": partial(_engine, bench, arms(), executions),
        "floor": partial(unnest_inserts, bench, executions * STEPS, 1),
    }
    rates = await bench.in_turns(contestants)
    floor = rates.pop("floor")
    rows = [(name, rate(found), spread(found), rate(floor), ratio(found, floor)) for name, found in rates.items()]
    return Table(
        QUESTION,
        ("one execution", "steps /s", "from - to", "unnest inserts of 500 rows /s", "engine / floor"),
        rows,
        [f"{executions} executions one after the other, {STEPS:,} steps each, from start to result; uvloop."],
    )


async def _engine(bench: Bench, workflow: Workflow[Data, Data], executions: int) -> float:
    async with bench.database() as dsn, Durable(dsn, workflows=[workflow]) as engine:
        await (await engine.start(workflow, {})).result(60)  # connections are opened and statements prepared
        began = time.perf_counter()
        for _ in range(executions):
            await (await engine.start(workflow, {})).result(60)
        return executions * STEPS / (time.perf_counter() - began)
