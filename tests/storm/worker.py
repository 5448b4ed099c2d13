"""A post for workers of a storm. Usage: worker.py OPTIONS as JSON

See `tests.support.programs.post`; the worker says `ready`.

Options are `dsn`, the database as the engine reaches it; `direct`, the same past the proxy, where bodies write what they do;
`bodies`, a file in which each body that begins and ends is noted; `seed`, `size` and `postscript` of the program (see
`tests.storm.program`); and `post`, the number of this one.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import os
import sys
import time
from typing import Any

import durable.app
import durable.calendar
import durable.runtime.supervisor
from durable import Context, seconds
from durable.engine.step_runner import StepRunner
from durable.ids import execution_uuid
from tests.storm import plan
from tests.storm.history import SLEPT
from tests.storm.program import Program, queues
from tests.support.calls import AWAY, CallLog
from tests.support.programs import post
from tests.support.programs.worker import Worker

DRAIN = seconds(1)


class Log(CallLog):
    """Writes down the sleeps as well."""

    async def slept(self, here: Context, key: str) -> None:
        await self.write(SLEPT, execution_uuid(here.execution_id), here.path, here.attempt, key)


class Watched(StepRunner):
    """Notes each body's begin and end in a file: written at once, past PostgreSQL, and what is written outlives a SIGKILL."""

    file: int

    async def _call(self, step: Any, arguments: Any, keywords: Any, context: Context, *others: Any) -> Any:
        self._note("begin", context)
        try:
            return await super()._call(step, arguments, keywords, context, *others)
        finally:
            self._note("end", context)

    def _note(self, what: str, here: Context) -> None:
        line = [what, str(execution_uuid(here.execution_id)), here.path, here.attempt, os.getpid(), time.monotonic()]
        os.write(self.file, f"{json.dumps(line)}\n".encode())


def skew(by: int) -> None:
    """The clock of this process is wrong by so many seconds."""
    real, real_ns = time.time, time.time_ns

    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=by)

    time.time = lambda: real() + by
    time.time_ns = lambda: real_ns() + by * 1_000_000_000
    for module in (durable.calendar, durable.runtime.supervisor):
        vars(module)["datetime"] = Wrong


def main() -> None:
    options = json.loads(sys.argv[1])
    log = Log()
    program = Program(options["seed"], options["size"])
    workflows = program.workflows(postscript=options["postscript"], log=log.log, slept=log.slept)
    Watched.file = os.open(options["bodies"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    vars(durable.app)["StepRunner"] = Watched
    worker = Worker(
        options["dsn"],
        workflows=[*program.others, *workflows],
        queues=queues(),
        lease=seconds(plan.LEASE),
        drain=DRAIN,
        max_crashes=1_000_000,
    )

    def live(life: int) -> None:
        skew(plan.skew(options["seed"], options["post"], life))
        asyncio.run(work(worker, log, options["direct"]))

    post.hold(live)


async def work(worker: Worker, log: Log, direct: str) -> None:
    """Run the worker, as soon as PostgreSQL is there."""
    async with log.connected(direct):
        while True:
            try:
                await worker.run()
            except (durable.StoreUnavailable, *AWAY) as away:
                logging.info("not begun: %r", away)
                await asyncio.sleep(0.1)
            else:
                return


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    main()
