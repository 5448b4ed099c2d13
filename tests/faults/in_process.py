"""Engines in the test's own process, behind a proxy, and workflows whose bodies say in this process what they do.

Owns: a record of every body that ran, gates that bodies wait at, and waiting for what a test cannot be told of.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from durable import Durable, Retry, Workflow, assign, context, seconds
from durable.ids import execution_uuid
from durable.store.connection import Connection
from durable.store.queries import load

GUARD = 30.0  # seconds; nothing here takes nearly so long
Data = dict[str, Any]


class Bodies:
    """What the bodies of this process did: `began` and `ended` as (execution, path, attempt), and `cancelled`."""

    def __init__(self) -> None:
        self.began: list[tuple[str, str, int]] = []
        self.ended: list[tuple[str, str, int]] = []
        self.cancelled: list[tuple[str, str, int]] = []
        self.gate = asyncio.Event()

    def runs(self) -> Counter[tuple[str, str, int]]:
        """How often each attempt began."""
        return Counter(self.began)


bodies: Bodies


def begin_anew() -> Bodies:
    """Forget what was done. To be called by each test, in its loop."""
    global bodies
    bodies = Bodies()
    return bodies


class body:
    """`async with body():` notes how the body goes."""

    async def __aenter__(self) -> None:
        ctx = context()
        self._who = (ctx.execution_id, ctx.path, ctx.attempt)
        bodies.began.append(self._who)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            bodies.ended.append(self._who)
        elif issubclass(kind, asyncio.CancelledError):
            bodies.cancelled.append(self._who)


three = Workflow[Data, Data]("three")


@three.step
async def one(data: Data) -> Data:
    async with body():
        return assign(data, one=data.get("one", 0) + 1)


@three.step
async def two(data: Data) -> Data:
    async with body():
        return assign(data, two=data.get("two", 0) + 1)


@three.step
async def last(data: Data) -> Data:
    async with body():
        return assign(data, last=data.get("last", 0) + 1)


THREE = {"one": 1, "two": 1, "last": 1}

single = Workflow[Data, Data]("single")


@single.step
async def only(data: Data) -> Data:
    async with body():
        return assign(data, only=1)


gated = Workflow[Data, Data]("gated")


@gated.step
async def before_gate(data: Data) -> Data:
    async with body():
        return assign(data, before=data.get("before", 0) + 1)


@gated.step
async def at_gate(data: Data) -> Data:
    async with body():
        await bodies.gate.wait()
        return assign(data, through=True)


second_try = Workflow[Data, Data]("second_try", retry=Retry(max_attempts=2, delay=seconds(0.4), jitter=0))


@second_try.step
async def fails_once(data: Data) -> Data:
    async with body():
        if context().attempt == 1:
            raise ValueError("the first attempt fails")
        return assign(data, attempt=context().attempt)


late = Workflow[Data, Data]("late", timeout=seconds(0.3))


@late.step
async def never_ends(data: Data) -> Data:
    async with body():
        await asyncio.Event().wait()
        return data


WORKFLOWS = [three, single, gated, second_try, late]


def engine(dsn: str, **options: Any) -> Durable:
    """An engine with all of these workflows."""
    return Durable(dsn, workflows=WORKFLOWS, **options)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str = "") -> None:
    """Return when *condition* holds: for what nothing signals. Raises TimeoutError after a generous while."""
    try:
        async with asyncio.timeout(GUARD):
            while True:
                holds = condition()
                if isawaitable(holds):
                    holds = await holds
                if holds:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise TimeoutError(f"not within {GUARD} s: {what or condition}") from None


async def settled(running: Durable) -> None:
    """Return when the worker has found nothing to claim and hears notifications: a start here will be claimed at birth."""
    parts = running.parts()
    assert parts.supervisor is not None
    lanes = parts.supervisor._lanes.values()
    await until(lambda: parts.listener.healthy and not any(lane.backlog for lane in lanes), "a settled worker")


async def running_step(path: str) -> None:
    """Return when a body at *path* has begun."""
    await until(lambda: any(at == path for _, at, _ in bodies.began), f"a body at {path!r}")


async def seqs(connection: Connection, execution: str) -> list[int]:
    """The records of an execution."""
    query = "select seq from durable.journal where execution_id = $1 order by seq"
    return [row["seq"] for row in await connection.fetch(query, execution_uuid(execution))]


def statement(name: str) -> Callable[[str], bool]:
    """A match for the proxy: the statement of a query file, or "COMMIT;"."""
    sql = name if name.endswith(";") else load(name).sql
    return lambda executed: executed == sql
