"""A worker process for the fault tests. Usage: worker.py DSN [OPTIONS as JSON]

It says `ready`, `draining` and `stopped`, and every body that begins and ends (`begin`, `end`, `failed`, `cancelled`); the
latter it also writes into the table `ledger` of the database, so that what ran is known even if the process is killed. The
workflows are those of tests.support.flows.

Options are those of `Durable` (times in seconds; a queue may be an object: the options of `Queue`, its rate as [count,
seconds], its key the name of a field of the data), and: `ledger_dsn`, where the ledger is if not at DSN, `patch`, module
attributes to set, e.g. {"durable.runtime.supervisor.POLL_DEAF": 3600}, and `spans`, a file that traces are written to.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import operator
import os
import sys
from datetime import timedelta
from types import TracebackType
from typing import Any

from durable import Durable, Queue, Rate
from tests.support import flows
from tests.support.report import say


class Worker(Durable):
    """Tells the test where its life has got to."""

    async def __aenter__(self) -> Durable:
        engine = await super().__aenter__()
        say("ready", pid=os.getpid())
        return engine

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        say("draining")
        await super().__aexit__(kind, error, trace)


def patch(values: dict[str, Any]) -> None:
    """Set module attributes, which must exist."""
    for place, value in values.items():
        module, _, name = place.rpartition(".")
        found = importlib.import_module(module)
        getattr(found, name)
        setattr(found, name, value)


def queue(given: int | dict[str, Any]) -> int | Queue:
    """A queue of the options."""
    if isinstance(given, int):
        return given
    options = dict(given)
    if "rate" in options:
        count, seconds = options["rate"]
        options["rate"] = Rate(count, timedelta(seconds=seconds))
    if "key" in options:
        options["key"] = operator.itemgetter(options["key"])
    return Queue(**options)


async def main() -> None:
    options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    patch(options.pop("patch", {}))
    if "spans" in options:
        from tests.support.spans import write_spans

        write_spans(options.pop("spans"))
        options["tracing"] = True
    await flows.open_ledger(options.pop("ledger_dsn", sys.argv[1]), say)
    if "queues" in options:
        options["queues"] = {name: queue(given) for name, given in options["queues"].items()}
    for key in {"lease", "drain"} & options.keys():
        options[key] = timedelta(seconds=options[key])
    await Worker(sys.argv[1], workflows=[flows], **options).run()
    say("stopped")


if __name__ == "__main__":
    logging.basicConfig(level="INFO", stream=sys.stderr)
    asyncio.run(main())
