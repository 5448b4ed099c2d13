"""PostgreSQL goes away, cleanly or not, for a moment or for longer than a lease: nothing acknowledged is lost, nobody needs a
restart, and nothing is held against the executions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from durable import Durable, Handle
from durable.store.connection import LOST
from durable.store.migrate import migrate
from tests.faults import in_process
from tests.faults.in_process import (
    GUARD,
    THREE,
    Bodies,
    Data,
    engine,
    gated,
    running_step,
    second_try,
    settled,
    statement,
    three,
    until,
)
from tests.store import rows
from tests.support.invariants import assert_invariants
from tests.support.postgres import DurableCluster
from tests.support.proxy import Proxy

LEASE = timedelta(seconds=1)


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    async with Proxy(database) as proxy:
        yield proxy


async def load(running: Durable, tag: str, acknowledged: list[Handle[Data]]) -> None:
    """Start one execution after the other until cancelled, and keep the handles of those whose start returned."""
    n = 0
    while True:
        n += 1
        workflow = second_try if n % 10 == 0 else three
        acknowledged.append(await running.start(workflow, {}, id=f"{tag}-{n}"))


async def test_every_acknowledged_start_completes_when_postgresql_crashes_under_load(
    durable_cluster: DurableCluster, bodies: Bodies
) -> None:
    dsn = durable_cluster.dsn
    acknowledged: list[Handle[Data]] = []
    # One process that runs what it starts, and one that starts for others. Its lease does not lapse on a busy machine.
    async with engine(dsn, lease=timedelta(seconds=60)) as worker, engine(dsn, worker=False) as client:
        loads = [
            asyncio.create_task(load(running, f"{tag}{n}", acknowledged))
            for tag, running in (("here", worker), ("elsewhere", client))
            for n in range(5)
        ]
        for crash in range(2):
            goal = len(acknowledged) + 150
            await until(lambda goal=goal: len(acknowledged) >= goal, f"load before crash {crash}")
            await durable_cluster.stop_immediately()
            await durable_cluster.start_again()
        goal = len(acknowledged) + 150
        await until(lambda: len(acknowledged) >= goal, "load after the crashes")
        for task in loads:
            task.cancel()
        await asyncio.wait(loads)
        for task in loads:
            assert task.cancelled(), task.exception()
        results = await asyncio.gather(*(handle.result(GUARD) for handle in acknowledged))
        assert all(result in (THREE, {"attempt": 2}) for result in results)
        # Those that were cancelled in the middle of a start may have been started too.
        await until(lambda: nothing_is_live(dsn), "an end of everything")
    assert set(bodies.runs().values()) == {1}
    assert bodies.cancelled == []
    await assert_invariants(dsn)


async def nothing_is_live(dsn: str) -> bool:
    connection = await asyncpg.connect(dsn)
    try:
        return not await connection.fetchval("select exists (select from durable.execution where ended_at is null)")
    finally:
        await connection.close()


async def test_a_timer_outlives_a_crash_of_postgresql(durable_cluster: DurableCluster, bodies: Bodies) -> None:
    await migrate(durable_cluster.dsn)
    async with engine(durable_cluster.dsn) as worker:
        handle = await worker.start(three, {}, delay=timedelta(seconds=0.3))
        await durable_cluster.stop_immediately()
        await durable_cluster.start_again()
        assert await handle.result(GUARD) == THREE


@contextlib.asynccontextmanager
async def away(proxy: Proxy) -> AsyncIterator[None]:
    """PostgreSQL cannot be reached within the block."""
    proxy.refuse()
    proxy.sever()
    try:
        yield
    finally:
        proxy.accept()


async def test_an_outage_longer_than_the_lease_stops_the_steps_and_counts_nothing(
    database: str, proxy: Proxy, bodies: Bodies
) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker, rows.connections(database, 1) as (direct,):
        await settled(worker)
        handles = [await worker.start(gated, {}) for _ in range(3)]
        await until(lambda: len(bodies.began) == 6, "three bodies at the gate")
        async with away(proxy):
            await until(lambda: len(bodies.cancelled) == 3, "the end of the steps")
            lapsed = "select lease_expires_at < clock_timestamp() from durable.worker"
            await until(lambda: direct.fetchval(lapsed), "the end of the lease")
            assert await direct.fetchval("select count(*) from durable.claim") == 3, "nobody has taken them"
        await until(lambda: len(bodies.began) == 9, "the steps begin again")
        crashes = await direct.fetch("select crashes from durable.claim")
        assert [row["crashes"] for row in crashes] == [0] * 3
        bodies.gate.set()
        results = [await handle.result(GUARD) for handle in handles]
        assert results == [{"before": 1, "through": True}] * 3
        for handle in handles:
            steps = (await worker.get_execution(handle.id, include_steps=True)).steps
            assert steps is not None
            assert [[attempt.number for attempt in step.attempts] for step in steps] == [[1], [1]]


async def test_steps_stop_before_the_lease_has_lapsed(database: str, proxy: Proxy, bodies: Bodies) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker, rows.connections(database, 1) as (direct,):
        await settled(worker)
        await worker.start(gated, {})
        await running_step("at_gate")
        async with away(proxy):
            await until(lambda: bool(bodies.cancelled), "the end of the step")
            assert not await direct.fetchval("select lease_expires_at < clock_timestamp() from durable.worker")
        bodies.gate.set()


async def test_two_workers_with_one_outage_do_not_take_each_other_for_dead(
    database: str, proxy: Proxy, bodies: Bodies, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        engine(proxy.dsn, lease=LEASE) as first,
        engine(proxy.dsn, lease=LEASE) as second,
        rows.connections(database, 1) as (direct,),
    ):
        await settled(first)
        await settled(second)
        handles = [await worker.start(gated, {}) for worker in (first, second) for _ in range(3)]
        await until(lambda: len(bodies.began) == 12, "six bodies at the gate")
        async with away(proxy):
            await until(lambda: len(bodies.cancelled) == 6, "the end of the steps")
            lapsed = "select bool_and(lease_expires_at < clock_timestamp()) from durable.worker"
            await until(lambda: direct.fetchval(lapsed), "the end of both leases")
        bodies.gate.set()
        results = [await handle.result(GUARD) for handle in handles]
        assert results == [{"before": 1, "through": True}] * 6
        assert await direct.fetchval("select count(*) from durable.worker where not dead") == 2
    assert "is dead" not in caplog.text
    assert "taken for dead" not in caplog.text


async def test_starts_wait_for_postgresql_and_then_succeed(proxy: Proxy, bodies: Bodies) -> None:
    async with engine(proxy.dsn) as worker:
        await settled(worker)
        async with away(proxy):
            starting = [asyncio.create_task(worker.start(three, {}, id=f"id-{n}")) for n in range(20)]
            with pytest.raises(OSError):
                await asyncpg.connect(proxy.dsn)
            assert not any(task.done() for task in starting)
        handles = await asyncio.gather(*starting)
        assert all(handle.created for handle in handles)
        assert [await handle.result(GUARD) for handle in handles] == [THREE] * 20


async def test_an_engine_cannot_start_without_postgresql_and_says_so(proxy: Proxy, bodies: Bodies) -> None:
    proxy.refuse()
    with pytest.raises(LOST):
        async with engine(proxy.dsn):
            pass
    proxy.accept()
    async with engine(proxy.dsn) as worker:
        assert await (await worker.start(three, {})).result(GUARD) == THREE


async def test_an_engine_that_closes_during_an_outage_ends_and_loses_nothing(
    database: str, proxy: Proxy, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.app.FLUSH_SECONDS", 0.5)
    closing = engine(proxy.dsn, lease=LEASE, drain=timedelta(seconds=0.1))
    async with contextlib.AsyncExitStack() as outage, closing:
        await settled(closing)
        handle = await closing.start(gated, {})
        await running_step("at_gate")
        await outage.enter_async_context(away(proxy))
    bodies.gate.set()
    async with engine(database, lease=LEASE) as heir:
        assert await heir.handle(handle.id).result(GUARD) == {"before": 1, "through": True}
    assert bodies.runs()[(handle.id, "before_gate", 1)] == 1


async def test_a_result_that_is_waited_for_through_an_outage_arrives(
    database: str, proxy: Proxy, bodies: Bodies
) -> None:
    async with engine(database) as worker, engine(proxy.dsn, worker=False) as client:
        handle = await worker.start(gated, {})
        waiting = asyncio.create_task(client.handle(handle.id).result(GUARD))
        await until(lambda: proxy.count(statement("execution/watch")) >= 1, "its question")
        async with away(proxy):
            bodies.gate.set()
            assert await worker.handle(handle.id).result(GUARD)
        assert await waiting == {"before": 1, "through": True}
