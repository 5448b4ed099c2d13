"""A worker process: `python -m benchmarks.worker DSN`. It says when it is ready, and runs until it is ended."""

from __future__ import annotations

import sys
from functools import partial

import uvloop

from benchmarks.announcing import Announcing
from benchmarks.workflows import dreams, hears, pipeline, stays, wakes
from tests.support.report import say


async def main(dsn: str) -> None:
    """Work with the default settings."""
    await Announcing(dsn, partial(say, "ready"), workflows=[pipeline(1), stays, hears, wakes, dreams]).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
