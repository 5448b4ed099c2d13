"""A worker process: `python -m benchmarks.worker DSN`. It says when it is ready, and runs until it is ended."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from benchmarks.workflows import dreams, hears, pipeline, stays, wakes
from durable import Durable
from tests.support.report import say


async def main(dsn: str) -> None:
    """Work with the default settings."""
    async with Durable(dsn, workflows=[pipeline(1), stays, hears, wakes, dreams]):
        say("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
