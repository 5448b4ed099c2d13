"""A body that does not heed its cancellation: a plain function, in a thread, that waits for the test to let it go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from durable import Workflow, assign, context
from tests.faults import in_process
from tests.faults.in_process import GUARD, Data

_let_go = threading.Event()

stubborn = Workflow[Data, Data]("stubborn")


@stubborn.step
def deaf(data: Data) -> Data:
    ctx = context()
    who = (ctx.execution_id, ctx.path, ctx.attempt)
    in_process.bodies.began.append(who)
    if not _let_go.wait(GUARD):
        raise TimeoutError("the test did not let the thread go")
    in_process.bodies.ended.append(who)
    return assign(data, deaf=True)


@contextmanager
def held() -> Iterator[threading.Event]:
    """Threads wait for this event, which is set at the end: a loop that closes waits for its threads."""
    _let_go.clear()
    try:
        yield _let_go
    finally:
        _let_go.set()
