"""How much memory of the worker process does an execution take that waits for its next attempt, an hour away?"""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.report import Table, median
from tests.support.processes import Program

QUESTION = "Waiting: memory of the worker process for each execution that waits to retry"
EXECUTIONS = 2_000


async def measure(bench: Bench) -> Table:
    """Resident memory as the system sees it, and, in a process of its own, what Python objects hold."""
    count = bench.size(EXECUTIONS, EXECUTIONS)
    resident = [await _grown(bench, "resident", count) for _ in range(bench.rounds)]
    objects = [await _grown(bench, "objects", count) for _ in range(bench.rounds)]
    rows = [
        (name, f"{median(grown) / count:,.0f}", f"{min(grown) / count:,.0f} - {max(grown) / count:,.0f}")
        for name, grown in (("resident memory (RSS)", resident), ("Python objects (tracemalloc)", objects))
    ]
    return Table(
        QUESTION,
        ("", "bytes each", "from - to"),
        rows,
        [
            f"{count:,} executions with a retry delay of one hour, after as many others had begun to wait in the same process, "
            "so that buffers and free lists had their size. What is below zero was given back meanwhile."
        ],
    )


async def _grown(bench: Bench, what: str, count: int) -> float:
    async with bench.database() as dsn, await Program.start("benchmarks.sleeper", dsn, count, what) as sleeper:
        return (await sleeper.message("grown", timeout=120))["bytes"]
