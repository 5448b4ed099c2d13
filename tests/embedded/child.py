"""A process that uses an embedded PostgreSQL, driven over its standard input by the tests beside it.

    child.py DIRECTORY [fork]

It answers each line with one line of JSON: its DSN and whether it owns the server. The first answer comes unasked.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from durable.embedded import EmbeddedPostgres


async def main(directory: Path, *, fork: bool) -> None:
    async with await EmbeddedPostgres.start(directory, settings={"fsync": "off"}) as postgres:
        answer = {"dsn": postgres.dsn, "owner": postgres.owner, "pid": os.getpid()}
        if fork and (grandchild := os.fork()):
            answer["grandchild"] = grandchild
        elif fork:
            os.read(0, 1)  # outlives its parent, until the tests close the other end
            os._exit(0)
        while True:
            print(json.dumps(answer), flush=True)
            if not await asyncio.to_thread(sys.stdin.readline):
                return
            answer["owner"] = postgres.owner


asyncio.run(main(Path(sys.argv[1]), fork="fork" in sys.argv[2:]))
