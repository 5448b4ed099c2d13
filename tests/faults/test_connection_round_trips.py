"""What an execution and an idle worker cost in statements, counted before PostgreSQL and never timed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from durable import Durable
from durable.runtime import supervisor
from durable.runtime.lease_keeper import RENEWALS_PER_LEASE
from durable.runtime.listener import PING_EVERY
from durable.runtime.supervisor import POLL_HEALTHY
from durable.store.queries import load, sql_folder
from tests.faults import in_process
from tests.faults.in_process import GUARD, THREE, Bodies, engine, settled, single, three, until
from tests.support.proxy import Proxy

NAMES = {
    load(name).sql: name
    for path in (sql_folder() / "queries").glob("*/*.sql")
    for name in [f"{path.parent.name}/{path.stem}"]
}
LEASE = 6.0
HOUSEKEEPING = {  # seconds between two of a kind, at least
    "worker/renew": LEASE / RENEWALS_PER_LEASE,
    "wake/fire": POLL_HEALTHY / 2,
    "claim/take": POLL_HEALTHY / 2,
    "claim/audit": POLL_HEALTHY / 2,
    "queue/limits": POLL_HEALTHY / 2,
    "schedule/due": POLL_HEALTHY,
    "notify/send": PING_EVERY,
}


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    async with Proxy(database) as proxy:
        yield proxy


@pytest.fixture
async def worker(proxy: Proxy, bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Durable]:
    """A worker that has settled, and does not look by itself; its writers have prepared their statements, and asked for
    the types in them."""
    monkeypatch.setattr(supervisor, "POLL_HEALTHY", 600.0)
    monkeypatch.setattr(supervisor, "POLL_DEAF", 600.0)
    async with engine(proxy.dsn) as worker:
        await settled(worker)
        for _ in range(20):  # which writer one goes to is chance
            await (await worker.start(three, {})).result(GUARD)
        yield worker


def names(proxy: Proxy) -> Counter[str]:
    """The statements that were executed, by the names of their files."""
    return Counter(NAMES.get(sql, sql) for sql in proxy.statements)


def without_housekeeping(counted: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in counted.items() if name not in HOUSEKEEPING and name != "claim/take_plain"}


async def test_a_lone_execution_costs_its_start_and_one_statement_a_step(proxy: Proxy, worker: Durable) -> None:
    proxy.reset()
    handle = await worker.start(three, {})
    assert await handle.result(GUARD) == THREE
    counted = names(proxy)
    assert without_housekeeping(counted) == {
        "execution/start_lone": 1,
        "journal/record_plain": 2,
        "execution/finish_plain": 1,
    }
    assert counted["claim/take"] == counted["claim/take_plain"] == 0
    assert counted["notify/send"] == 0


async def test_a_lone_execution_of_one_step_costs_two_statements(proxy: Proxy, worker: Durable) -> None:
    proxy.reset()
    handle = await worker.start(single, {})
    assert await handle.result(GUARD) == {"only": 1}
    assert without_housekeeping(names(proxy)) == {"execution/start_lone": 1, "execution/finish_plain": 1}


async def test_an_execution_started_elsewhere_costs_one_claim_and_one_question_for_its_result(
    database: str, proxy: Proxy, worker: Durable
) -> None:
    async with engine(database, worker=False) as client:
        await settled(worker)
        proxy.reset()
        assert await (await client.start(three, {})).result(GUARD) == THREE
    counted = names(proxy)
    assert without_housekeeping(counted) == {"journal/record_plain": 2, "execution/finish_plain": 1}
    assert 1 <= counted["claim/take_plain"] <= 2, "one takes it; another may find that there is no more"


async def test_many_executions_share_their_statements(proxy: Proxy, worker: Durable, bodies: Bodies) -> None:
    proxy.reset()
    handles = await asyncio.gather(*(worker.start(three, {}) for _ in range(80)))
    assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 80
    counted = names(proxy)
    assert counted["execution/start_plain"] <= 6
    assert sum(without_housekeeping(counted).values()) <= 80, "alone, they would have cost 320"


async def test_nothing_is_prepared_again(proxy: Proxy, worker: Durable) -> None:
    proxy.reset()
    for _ in range(10):
        assert await (await worker.start(three, {})).result(GUARD) == THREE
    prepared = Counter(NAMES.get(sql, sql) for sql in proxy.preparations if sql)
    assert without_housekeeping(prepared) == {}


async def idle_statements(proxy: Proxy, seconds: float) -> Counter[str]:
    proxy.reset()
    await asyncio.sleep(seconds)  # the measured thing is what happens in a time in which nothing does
    return names(proxy)


def test_housekeeping_comes_to_less_than_one_statement_a_second() -> None:
    # The polls come after a half to the whole of their time, at random: three quarters of it on average.
    seldom = {name: seconds * 1.5 if seconds == POLL_HEALTHY / 2 else seconds for name, seconds in HOUSEKEEPING.items()}
    assert sum(1 / seconds for seconds in seldom.values()) < 1


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.stress)])
async def test_an_idle_worker_asks_nothing_but_housekeeping(proxy: Proxy, bodies: Bodies, seconds: int) -> None:
    async with engine(proxy.dsn, lease=timedelta(seconds=LEASE)) as worker:
        await settled(worker)
        # The first audit comes early, and asyncpg asks about the types of a statement that it has not seen.
        await until(lambda: names(proxy)["claim/audit"] >= 1 and names(proxy)["worker/renew"] >= 1)
        counted = await idle_statements(proxy, seconds)
    assert set(counted) <= set(HOUSEKEEPING)
    assert {name: n for name, n in counted.items() if n > seconds // HOUSEKEEPING[name] + 1} == {}
    if seconds >= 60:
        assert sum(counted.values()) < seconds


async def test_an_idle_client_asks_nearly_nothing(proxy: Proxy, bodies: Bodies) -> None:
    async with engine(proxy.dsn, worker=False) as client:
        await until(lambda: client.parts().listener.healthy)
        assert sum((await idle_statements(proxy, 2)).values()) == 0
