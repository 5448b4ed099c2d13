"""One worker process of a crew. Usage: python -m durable.cli.member OPTIONS, which are JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from typing import Any

from durable.cli.commands import finish
from durable.cli.target import load_engine


async def _work(options: dict[str, Any]) -> None:
    engine = load_engine(options["app"])
    if options["queues"] is not None:
        engine.serve(options["queues"])
    # Whoever has started us holds the other end: when he is gone, nobody would ever stop us.
    loop = asyncio.get_running_loop()
    loop.add_reader(0, _parent_is_gone, loop)
    await engine.run()


def _parent_is_gone(loop: asyncio.AbstractEventLoop) -> None:
    if not os.read(0, 1):
        loop.remove_reader(0)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Be a worker until SIGTERM."""
    options = json.loads(sys.argv[1])
    logging.basicConfig(
        level=os.environ.get("DURABLE_LOG", "INFO").upper(),
        format=f"%(asctime)s [{options['number']}] %(levelname).1s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    raise SystemExit(finish(lambda: _work(options)))


if __name__ == "__main__":
    main()
