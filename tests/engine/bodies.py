"""Bodies that a worker process can import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from durable import Context, context


def where_am_i(data: dict[str, Any], here: Context) -> dict[str, Any]:
    assert context() is here
    return {**data, "pid": os.getpid(), "key": here.idempotency_key, "tags": here.tags, "engine": here.engine}


def says_its_pid_and_hangs(data: str) -> None:
    Path(data).write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def dies_at_first(data: int) -> int:
    if context().attempt == 1:
        os._exit(9)
    return data + 1


class AwkwardError(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")


def fails(data: str) -> None:
    if data == "awkward":
        raise AwkwardError(7, "no more")
    raise KeyError(data)
