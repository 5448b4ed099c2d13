"""Workflows for tests with several processes. Every body writes what it does into a ledger, outside of durable's tables.

What a body does besides is in its data, under ``plan``, by path (see `follow`), so that a test decides who holds where.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import asyncpg

import durable
from durable import Context, Retry, Workflow, assign, context, hours, seconds

Data = dict[str, Any]

LEDGER = """
create table if not exists public.ledger (
    id bigserial primary key, execution text not null, path text not null, attempt int not null, pid int not null,
    what text not null, at timestamptz not null default clock_timestamp()
);
create table if not exists public.gate (name text primary key);
create table if not exists public.paid (execution text not null, what text not null);
"""
GATE_SECONDS = 0.05  # between two looks at a gate

_pool: asyncpg.Pool[Any] | None = None
_say: Callable[..., None] | None = None


async def open_ledger(dsn: str, say: Callable[..., None] | None = None) -> None:
    """Connect the bodies of this process to the ledger."""
    global _pool, _say
    _pool = await asyncpg.create_pool(dsn, min_size=1, max_size=4)
    _say = say
    async with _pool.acquire() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(7)")
        await connection.execute(LEDGER)


async def note(what: str) -> int:
    """Write down that the running body did something; returns how often that was written of this step before."""
    ctx = context()
    assert _pool is not None
    before: int = await _pool.fetchval(
        """
        insert into public.ledger (execution, path, attempt, pid, what) values ($1, $2, $3, $4, $5)
        returning (select count(*) from public.ledger where execution = $1 and path = $2 and what = $5)
        """,
        ctx.execution_id,
        ctx.path,
        ctx.attempt,
        os.getpid(),
        what,
    )
    if _say is not None:
        _say(what, execution=ctx.execution_id, path=ctx.path, attempt=ctx.attempt)
    return before


class body:
    """`async with body():` notes its begin, and its end, failure or cancellation. Gives how many runs began before."""

    async def __aenter__(self) -> int:
        return await note("begin")

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await note("end")
        else:
            await asyncio.shield(note("cancelled" if issubclass(kind, asyncio.CancelledError) else "failed"))


async def follow(data: Data, runs_before: int) -> None:
    """Do what the plan says for this step: ``stuck`` n: the first n runs stay until they are cancelled or killed;
    ``gate`` name: wait until the test opens it; ``hold`` seconds, in every run, or ``hold_first`` in the first.
    With ``attempt`` n, all that only in that attempt."""
    plan: Data = data.get("plan", {}).get(context().path, {})
    if plan.get("attempt", context().attempt) != context().attempt:
        return
    if runs_before < plan.get("stuck", 0):
        await asyncio.Event().wait()
    assert _pool is not None
    gate = plan.get("gate")
    is_open = "select exists (select from public.gate where name = $1)"
    while gate is not None and not await _pool.fetchval(is_open, gate):  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(GATE_SECONDS)
    await asyncio.sleep(plan.get("hold", 0))
    if not runs_before:
        await asyncio.sleep(plan.get("hold_first", 0))


def planned(**steps: Data) -> Data:
    """Data with a plan: ``planned(two={"stuck": 1})``."""
    return {"plan": steps}


three = Workflow[Data, Data]("three")


@three.step
async def one(data: Data) -> Data:
    async with body() as before:
        await follow(data, before)
        return assign(data, one=data.get("one", 0) + 1)


@three.step
async def two(data: Data) -> Data:
    async with body() as before:
        await follow(data, before)
        return assign(data, two=data.get("two", 0) + 1)


@three.step
async def last(data: Data) -> Data:
    async with body() as before:
        await follow(data, before)
        return assign(data, last=data.get("last", 0) + 1)


talking = Workflow[Data, Data]("talking")


@talking.step
async def talk(data: Data) -> Data:
    async with body() as before:
        logging.getLogger("app").warning("this is run %d", before + 1)
        await follow(data, before)
        return data


heard = Workflow[Data, Data]("heard")


@heard.step
async def before(data: Data) -> Data:
    async with body() as runs:
        await follow(data, runs)
        return data


@heard.step
async def hears_go(data: Data) -> Data:
    return assign(data, heard=await durable.wait_for_event("go"))


@heard.step
async def after(data: Data) -> Data:
    async with body() as runs:
        await follow(data, runs)
        return assign(data, after=True)


noop = Workflow[Data, Data]("noop")


@noop.step
async def nothing(data: Data) -> None:
    pass


blocking = Workflow[Data, Data]("blocking")


@blocking.step
async def block(data: Data) -> Data:
    """Blocks the whole event loop, as a careless library would."""
    async with body():
        time.sleep(data["block"])  # noqa: ASYNC251 - that is the point
        return data


killer = Workflow[Data, Data]("killer")


@killer.step
async def kill(data: Data) -> Data:
    async with body():
        os.kill(os.getpid(), signal.SIGKILL)
        return data


def _fails_until(data: Data, ctx: Context) -> Data:
    if ctx.attempt < data.get("succeeds_at", 2):
        raise ValueError(f"attempt {ctx.attempt} fails")
    return assign(data, attempt=ctx.attempt)


flaky = Workflow[Data, Data]("flaky", retry=Retry(max_attempts=3, delay=seconds(0.5), jitter=0))


@flaky.step
async def sometimes(data: Data, ctx: Context) -> Data:
    async with body() as before:
        await follow(data, before)
        return _fails_until(data, ctx)


distant = Workflow[Data, Data]("distant", retry=Retry(max_attempts=3, delay=hours(1), jitter=0))


@distant.step
async def in_an_hour(data: Data, ctx: Context) -> Data:
    async with body():
        return _fails_until(data, ctx)


limited = Workflow[Data, Data]("limited", timeout=seconds(1.5), retry=Retry(max_attempts=3, delay=hours(1), jitter=0))


@limited.step
async def within(data: Data, ctx: Context) -> Data:
    async with body() as before:
        await follow(data, before)
        return _fails_until(data, ctx)


timed = Workflow[Data, Data]("timed", retry=Retry(max_attempts=2, delay=seconds(0.01), jitter=0))


@timed.step(timeout=seconds(0.5))
async def quickly(data: Data, ctx: Context) -> Data:
    async with body() as before:
        await follow(data, before)
        return assign(data, attempt=ctx.attempt)


threaded = Workflow[Data, Data]("threaded")


@threaded.step
def in_a_thread(data: Data) -> Data:
    time.sleep(data.get("hold", 0))
    return assign(data, thread=True)


census = Workflow[Data, int]("census")
each = census.foreach(
    "each",
    items=lambda data: list(range(data["items"])),
    concurrency=50,
    into=lambda data, results: sum(results.ok),
)


@each.step
async def count(data: Data, item: int) -> int:
    """Appends the item and the process to the file ``log``: a line that has been written outlives a kill."""
    line = f"{item} {os.getpid()}\n".encode()
    with open(data["log"], "ab", buffering=0) as log:  # noqa: ASYNC230 - one short write
        log.write(line)
    if item == data["items"] // 2 and _say is not None:
        _say("half")
    await asyncio.sleep(0.005)
    return item


hasty = Workflow[Data, Data]("hasty")
both = hasty.parallel("both", on_error="fail_fast")


@both.step
async def sleeps(data: Data) -> Data:
    async with body():
        await asyncio.sleep(10)
        return data


@both.step
async def fails(data: Data) -> Data:
    async with body() as before:
        await follow(data, before)
        raise ValueError("too bad")


# --- What waits for events ----------------------------------------------------------------------------------------

listening = Workflow[Data, Data]("listening")
EVENTS = ("first", "left", "right", "legal", "finance", "one", "two", "last")
INPUTS = ("manager", "director")
CHILDREN = ("left", "right", "middle")

child = Workflow[str, str]("child")


@child.step
async def naps(data: str) -> str:
    await durable.sleep(seconds(0.1))
    return data


@child.step
async def says(data: str) -> str:
    return f"child {data}"


@listening.step
async def hears(data: Data) -> Data:
    heard = {"first": await durable.wait_for_event("first")}
    for _ in range(2):
        name, payload = await durable.wait_for_any(["left", "right"], timeout=hours(1))
        heard[name] = payload
    return {**heard, **await durable.wait_for_all(["legal", "finance"])}


ears = listening.parallel("ears")


@ears.step
async def one_ear(data: Data) -> Data:
    return assign(data, one=await durable.wait_for_event("one"))


@ears.step
async def other_ear(data: Data) -> Data:
    return assign(data, two=await durable.wait_for_event("two"))


@listening.step
async def hears_the_last(data: Data) -> Data:
    early = await durable.wait_for_event("never", timeout=seconds(0.3), timeout_value="nothing")
    return assign(data, last=await durable.wait_for_event("last"), never=early)


@listening.step
async def asks(data: Data) -> Data:
    answers = await asyncio.gather(*(durable.wait_for_text(name, timeout=hours(1)) for name in INPUTS))
    nobody = await durable.wait_for_text("nobody", timeout=seconds(0.2), on_timeout="resume")
    return {**data, **dict(zip(INPUTS, answers, strict=True)), "nobody": nobody}


@listening.step
async def calls(data: Data) -> Data:
    said = await asyncio.gather(*(durable.call_workflow(child, name, ref=name) for name in CHILDREN))
    late = await durable.call_workflow(child, "late", timeout=seconds(0.01), timeout_value="late")
    return assign(data, children=said, late=late in ("late", "child late"))


# --- What writes in the transaction of its record ---------------------------------------------------------------

paying = Workflow[Data, Data]("paying")


@paying.step(transactional=True)
async def pay(data: Data) -> Data:
    """Write a row into ``paid``, before and after the pauses of the plan."""
    connection = context().connection
    await connection.execute("insert into public.paid (execution, what) values ($1, 'before')", context().execution_id)
    async with body() as before:
        await follow(data, before)
    await connection.execute("insert into public.paid (execution, what) values ($1, 'after')", context().execution_id)
    return data


@paying.step
async def receipt(data: Data) -> Data:
    async with body() as before:
        await follow(data, before)
        return data
