"""A post for workers whose workflows are random trees (see `tests.engine.trees`). Usage: trees.py DSN OPTIONS as JSON

See `post`; the worker says `ready`.

Options are those of the program `worker`, and: `seeds`, the first tree and the one after the last, `far`, the pause of a
retry that gives up the slot, in seconds, and `waits`, whether some bodies wait. Every body is written down (see
`tests.support.calls`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import timedelta

from tests.engine.trees import CHILDREN, storm_tree
from tests.support.calls import CallLog
from tests.support.programs import post
from tests.support.programs.worker import Worker


def main() -> None:
    dsn, options = sys.argv[1], json.loads(sys.argv[2])
    far = timedelta(seconds=options.pop("far"))
    waits = options.pop("waits")
    seeds = range(*options.pop("seeds"))
    options["lease"] = timedelta(seconds=options["lease"])
    calls = CallLog()
    trees = [storm_tree(seed, far, waits, calls.log) for seed in seeds]
    worker = Worker(dsn, workflows=[*CHILDREN, *trees], **options)
    post.hold(lambda life: asyncio.run(work(dsn, calls, worker)))


async def work(dsn: str, calls: CallLog, worker: Worker) -> None:
    async with calls.connected(dsn):
        await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    main()
