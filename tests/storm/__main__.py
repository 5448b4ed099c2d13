"""See `tests.storm.rounds`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.storm.rounds import Shape, storms, totals
from tests.support.postgres import DurableCluster, temporary_folder


def stop(*_: object) -> None:
    """End as by Ctrl-C: with what was started."""
    signal.raise_signal(signal.SIGINT)


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description="Raise storms, and judge them.")
    parser.add_argument("--seed", type=int, help="of the first; with it, and without --minutes, there is one")
    parser.add_argument("--minutes", type=float, help="go on with new seeds for so long")
    parser.add_argument("--seconds", type=float, default=30, help="of each storm (30), before it calms down")
    parser.add_argument("--size", type=int, default=40, help="workflows of each (40)")
    parser.add_argument("--in-flight", type=int, default=40, help="executions at a time (40)")
    given = parser.parse_args()
    logging.getLogger("durable").setLevel("ERROR")  # that PostgreSQL is away is what we are here for
    minutes = given.minutes or 0
    seed = random.randrange(2**31) if given.seed is None else given.seed
    with temporary_folder() as folder:
        cluster = DurableCluster(folder)
        await cluster.start_again()
        try:
            shape = Shape(given.seconds, given.size, given.in_flight)
            rounds = await storms(cluster, Path(tempfile.mkdtemp(prefix="storm-")), seed, shape, minutes=minutes)
        finally:
            await cluster.stop()
    print(totals(rounds))
    return 1 if any(round_.faults for round_ in rounds) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(asyncio.run(main()))
