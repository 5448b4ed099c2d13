"""A worker process: `python -m benchmarks.worker DSN`. It says when it is ready, and runs until it is ended."""

from __future__ import annotations

import sys

import uvloop

from benchmarks.workflows import dreams, hears, pipeline, stays, wakes
from durable import Durable
from tests.support.report import say


class Worker(Durable):
    """Says when it is ready."""

    async def __aenter__(self) -> Durable:
        engine = await super().__aenter__()
        say("ready")
        return engine


async def main(dsn: str) -> None:
    """Work with the default settings."""
    await Worker(dsn, workflows=[pipeline(1), stays, hears, wakes, dreams]).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
