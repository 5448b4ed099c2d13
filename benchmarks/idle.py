"""What does an idle worker cost the server?

Transactions are counted by PostgreSQL itself (`pg_stat_database.xact_commit` and `xact_rollback`), and read over a
connection to another database, which therefore does not count itself. Outside explicit transactions, of which an idle worker
has none, each statement is one transaction.
"""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import asyncpg

from benchmarks.bench import Bench
from benchmarks.report import Table, median
from tests.support.processes import Program

QUESTION = "Idle: statements a second of a worker process without work"
SETTLING = 12.0  # seconds; an idle connection reports its last transactions up to ten seconds later
COUNT = "select xact_commit + xact_rollback from pg_stat_database where datname = $1"


async def measure(bench: Bench) -> Table:
    """One worker, watched for as many windows as there are rounds."""
    window = bench.size(20, 10)
    rates: list[float] = []
    async with bench.database() as dsn, await Program.start("benchmarks.worker", dsn) as worker:
        await worker.message("ready")
        database = PurePosixPath(urlsplit(dsn).path).name
        connection = await asyncpg.connect(bench.cluster.dsn)
        try:
            await asyncio.sleep(SETTLING)
            before: int = await connection.fetchval(COUNT, database)
            for _ in range(bench.rounds):
                await asyncio.sleep(window)
                after: int = await connection.fetchval(COUNT, database)
                rates.append((after - before) / window)
                before = after
        finally:
            await connection.close()
    return Table(
        QUESTION,
        ("", "statements /s", "from - to"),
        [("one idle worker, default settings", f"{median(rates):.2f}", f"{min(rates):.2f} - {max(rates):.2f}")],
        [
            f"{bench.rounds} window(s) of {window} s, counted by pg_stat_database from another database; autovacuum, which "
            "looks in once a minute, is counted too."
        ],
    )
