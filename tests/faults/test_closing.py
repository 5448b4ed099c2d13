"""However an engine is closed, it leaves nobody waiting and nothing behind that keeps others from its executions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, EngineNotRunning, Handle
from durable.runtime import supervisor
from durable.store.connection import Connection
from tests.faults import in_process
from tests.faults.in_process import GUARD, Bodies, engine, gated, running_step, until
from tests.faults.stubborn import held, stubborn
from tests.store import rows

LEASE = timedelta(seconds=1)
THROUGH = {"before": 1, "through": True}


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def direct(database: str) -> AsyncIterator[Connection]:
    async with rows.connections(database, 1) as (connection,):
        yield connection


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    with held() as event:
        yield event


async def test_a_drain_that_is_cancelled_leaves_no_ghost(database: str, direct: Connection, bodies: Bodies) -> None:
    closing = await engine(database, lease=LEASE, drain=timedelta(hours=1)).__aenter__()
    handle = await closing.start(gated, {})
    await running_step("at_gate")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await closing.__aexit__(None, None, None)
    valid = "select count(*) from durable.worker where lease_expires_at > clock_timestamp()"
    await until(lambda: _none(direct, valid), "the end of its lease")
    async with engine(database, lease=LEASE) as heir:
        again = (handle.id, "at_gate", 1)
        await until(lambda: bodies.runs()[again] == 2, "the heir's body")
        assert bodies.cancelled == [again], "the old body does not run beside the new one"
        bodies.gate.set()
        assert await heir.handle(handle.id).result(GUARD) == THROUGH
    assert bodies.runs()[(handle.id, "before_gate", 1)] == 1


async def _none(direct: Connection, count: str) -> bool:
    return await direct.fetchval(count) == 0


async def test_a_body_that_outlasts_the_drain_is_no_crash(
    database: str, direct: Connection, bodies: Bodies, let_go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_SECONDS", 0.05)
    for leaver in range(2):
        async with Durable(database, workflows=[stubborn], lease=LEASE, drain=timedelta(0)) as closing:
            if leaver == 0:
                handle = await closing.start(stubborn, {})
            await until(lambda leaver=leaver: len(bodies.began) == leaver + 1, "the body")
            assert await direct.fetchval("select crashes from durable.claim") == 0
    async with Durable(database, workflows=[stubborn], lease=LEASE) as heir:
        await until(lambda: len(bodies.began) == 3, "the body")
        assert await direct.fetchval("select crashes from durable.claim") == 0
        let_go.set()
        assert await heir.handle(handle.id).result(GUARD) == {"deaf": True}
        await until(lambda: len(bodies.ended) == 3, "the end of the threads that nobody waited for")


@pytest.mark.parametrize("worker", [True, False], ids=["a worker", "a client"])
async def test_who_waits_for_a_result_of_an_engine_that_is_closed_is_told_so(
    database: str, bodies: Bodies, worker: bool
) -> None:
    async with engine(database, drain=timedelta(0), worker=worker) as closing:
        handle = await closing.start(gated, {})
        waiting = asyncio.create_task(handle.result(GUARD))
        await until(lambda: bool(closing.parts().waiter._futures), "somebody who waits")
    with pytest.raises(EngineNotRunning):
        await waiting


async def test_who_asks_for_the_next_result_when_told_that_the_engine_is_closed_is_told_again(
    database: str, bodies: Bodies
) -> None:
    told = 0

    async def report(handles: list[Handle[Any]]) -> None:
        nonlocal told
        for handle in handles:
            try:
                await handle.result()
            except EngineNotRunning:
                told += 1

    async with engine(database, drain=timedelta(0)) as closing:
        handles = [await closing.start(gated, {}) for _ in range(3)]
        reporting = asyncio.create_task(report(handles))
        await until(lambda: bool(closing.parts().waiter._futures), "somebody who waits")
    await asyncio.wait_for(reporting, GUARD)
    assert told == 3


async def test_who_follows_an_execution_of_an_engine_that_is_closed_is_told_so_and_leaves_no_connection(
    database: str, direct: Connection, bodies: Bodies
) -> None:
    async with engine(database, drain=timedelta(0)) as closing:
        handle = await closing.start(gated, {})
        seen = asyncio.Event()

        async def follows() -> None:
            async for _ in handle.events():
                seen.set()

        following = asyncio.create_task(follows())
        await asyncio.wait_for(seen.wait(), GUARD)
    with pytest.raises(EngineNotRunning):
        await asyncio.wait_for(following, GUARD)
    clients = "select count(*) from pg_stat_activity where application_name = 'durable client' and datname = current_database()"

    async def none_left() -> bool:
        return await direct.fetchval(clients) == 0

    await until(none_left, "the end of its connections")


async def test_an_engine_whose_loops_time_out_is_not_taken_for_one_that_closes(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A timeout cancels the task it is in, for an instant. Who took that for the end gave up waiting for a write, and did not
    # undo what it had recorded.
    monkeypatch.setattr(supervisor, "POLL_HEALTHY", 0.004)
    monkeypatch.setattr(supervisor, "POLL_DEAF", 0.004)
    async with engine(database) as running:
        worker = running.parts().supervisor
        assert worker is not None
        loop, turns = asyncio.get_running_loop(), 0
        end = loop.time() + 1
        while loop.time() < end:
            assert not worker.closing()
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100
