"""An engine behind PgBouncer in transaction mode, with a way past it for notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable import ConfigurationError, Durable
from tests.support import flows
from tests.support.crew import NO_POLLING, Crew
from tests.support.flows import flaky, noop, paying, planned, three
from tests.support.invariants import assert_invariants
from tests.support.ledger import Ledger
from tests.support.pgbouncer import PROGRAM, pooled

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer on this machine")

LEASE = 2.0


@pytest.fixture
async def pooler(database: str) -> AsyncIterator[str]:
    async with Ledger(database), pooled(database) as dsn:
        yield dsn
    await assert_invariants(database)


@pytest.fixture
async def crew(pooler: str) -> AsyncIterator[Crew]:
    async with Crew(pooler) as crew:
        yield crew


@pytest.fixture
async def client(database: str, pooler: str) -> AsyncIterator[Durable]:
    async with Durable(pooler, listener_dsn=database, workflows=[flows], worker=False) as client:
        yield client


@pytest.fixture
def options(database: str) -> dict[str, Any]:
    """Of a worker."""
    return {"lease": LEASE, "listener_dsn": database, "ledger_dsn": database}


async def test_workers_behind_a_pooler_are_pushed_and_take_over_from_the_killed(
    crew: Crew, client: Durable, options: dict[str, Any]
) -> None:
    options["patch"] = NO_POLLING
    first, _ = await crew.start_two(**options)
    handles = await client.start_many(three, [planned(two={"hold": 0.05})] * 60)
    handles += await client.start_many(flaky, [{}] * 10)
    await handles[5].result(60)
    first.kill()
    results = [await handle.result(60) for handle in handles]
    assert all(result["last"] == 1 for result in results[:60])


async def test_transactional_steps_behind_a_pooler_write_once_although_a_worker_is_killed(
    crew: Crew, client: Durable, options: dict[str, Any], ledger: Ledger
) -> None:
    first, _ = await crew.start_two(**options)
    ids = [f"order {number}" for number in range(40)]
    handles = await client.start_many(paying, [planned(pay={"hold": 0.05})] * 40, ids=ids)
    await handles[3].result(60)
    first.kill()
    for handle in handles:
        await handle.result(60)
    rows = await ledger.connection.fetch("select execution, array_agg(what order by what) as what from paid group by 1")
    assert {row["execution"]: row["what"] for row in rows} == {id: ["after", "before"] for id in ids}


@pytest.mark.stress
@pytest.mark.timeout(240)
async def test_nothing_acknowledged_behind_a_pooler_is_lost_under_load_and_kills(
    crew: Crew, client: Durable, options: dict[str, Any], ledger: Ledger
) -> None:
    workers = [await crew.start(**options) for _ in range(3)]
    for _ in range(4):
        handles = await client.start_many(three, [planned()] * 100)
        handles += await asyncio.gather(*(client.start(three, planned()) for _ in range(100)))
        await handles[0].result(60)
        workers.pop(0).kill()
        workers.append(await crew.start(**options))
        results = [await handle.result(60) for handle in handles]
        assert all(result["last"] == 1 for result in results)
    assert not await ledger.begun_after_their_record()


async def test_an_engine_behind_a_pooler_starts_waits_and_cancels_under_load(database: str, pooler: str) -> None:
    async with Durable(pooler, listener_dsn=database, workflows=[flows]) as engine:

        async def one(n: int) -> None:
            handle = await engine.start(noop, {"n": n}, id=f"mine-{n % 50}")
            assert (await handle.result(60))["n"] == n % 50

        await asyncio.gather(*(one(n) for n in range(50)))
        await asyncio.gather(*(one(n) for n in range(50, 300)))
        later = await engine.start(noop, {}, scheduled_at=None, delay=flows.hours(1))
        assert await later.cancel("no more")
        assert (await engine.list_executions(workflow=noop, status="completed", limit=1000)).items


async def test_a_pooler_that_nobody_has_told_of_is_refused_with_what_to_do(database: str, pooler: str) -> None:
    with pytest.raises(ConfigurationError, match=r"leads to a pooler.*listener_dsn"):
        async with Durable(pooler, workflows=[flows]):
            pass
