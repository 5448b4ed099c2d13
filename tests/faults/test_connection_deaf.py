"""Law 7: a notification is a hint. With every NOTIFY dropped everything still happens; and a connection that is dead without
saying so is found out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from durable import ExecutionCancelled, seconds
from durable.runtime import auditor, listener, supervisor
from durable.store import connection as connection_module
from durable.store import executions
from tests.faults import in_process
from tests.faults.in_process import (
    GUARD,
    THREE,
    Bodies,
    engine,
    gated,
    running_step,
    second_try,
    settled,
    statement,
    three,
    until,
)
from tests.support.proxy import Proxy

LEASE = timedelta(seconds=3)


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    async with Proxy(database) as proxy:
        yield proxy


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who hear nothing look more often than they would, to save the test's time; a listener finds out sooner."""
    monkeypatch.setattr(supervisor, "POLL_DEAF", 0.2)
    monkeypatch.setattr("durable.app.POLL_DEAF", 0.2)
    monkeypatch.setattr(auditor, "AGE", 0.1)
    monkeypatch.setattr(listener, "PONG_WITHIN", 0.3)
    monkeypatch.setattr(listener, "PING_EVERY", 0.3)


async def test_a_listener_that_hears_nothing_knows_it(proxy: Proxy, bodies: Bodies, quick_polls: None) -> None:
    async with engine(proxy.dsn) as worker:
        await settled(worker)
        heard = worker.parts().listener
        proxy.drop_notifications = True
        await until(lambda: not heard.healthy, "the news that there are no news")
        listens = proxy.count("LISTEN")
        await until(lambda: proxy.count("LISTEN") > listens, "another try")
        assert not heard.healthy
        proxy.drop_notifications = False
        await until(lambda: heard.healthy, "its recovery")


async def test_everything_happens_with_every_notification_dropped(
    proxy: Proxy, bodies: Bodies, quick_polls: None
) -> None:
    proxy.drop_notifications = True
    async with engine(proxy.dsn) as worker, engine(proxy.dsn, worker=False) as client:
        ready = await client.start(three, {})
        many = await client.start_many(three, [{}] * 20)
        retried = await client.start(second_try, {})
        put_off = await client.start(three, {}, delay=seconds(0.3))
        assert [await handle.result(GUARD) for handle in (ready, *many, put_off)] == [THREE] * 22
        assert await retried.result(GUARD) == {"attempt": 2}
        running = await client.start(gated, {})
        await running_step("at_gate")
        assert await running.cancel("enough")
        await until(lambda: bodies.cancelled == [(running.id, "at_gate", 1)], "its cancellation")
        with pytest.raises(ExecutionCancelled):
            await worker.handle(running.id).result(GUARD)
        assert not worker.parts().listener.healthy
        assert not client.parts().listener.healthy
    assert set(bodies.runs().values()) == {1}


async def test_a_result_is_told_to_who_waits_although_he_hears_nothing(
    database: str, proxy: Proxy, bodies: Bodies, quick_polls: None
) -> None:
    proxy.drop_notifications = True
    async with engine(database) as worker, engine(proxy.dsn, worker=False) as deaf:
        handle = await worker.start(gated, {})
        waiting = asyncio.create_task(deaf.handle(handle.id).result(GUARD))
        await until(lambda: proxy.count(statement("execution/watch")) >= 1, "its question")
        bodies.gate.set()
        assert await waiting == {"before": 1, "through": True}


async def test_what_came_while_the_listener_was_away_is_found_at_once_when_it_is_back(
    database: str, proxy: Proxy, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No polls at all: only the sweep after LISTEN can find it.
    monkeypatch.setattr(supervisor, "POLL_DEAF", 600.0)
    monkeypatch.setattr(supervisor, "POLL_HEALTHY", 600.0)
    async with engine(database, worker=False) as client, engine(proxy.dsn) as worker:
        await settled(worker)
        await until(lambda: client.parts().listener.healthy)
        proxy.refuse()
        assert proxy.sever(lambda sql: sql.startswith("LISTEN")) == 1
        handle = await client.start(three, {})
        await until(lambda: not client.parts().listener._outbox, "its notification")
        assert bodies.began == []
        proxy.accept()
        assert await handle.result(GUARD) == THREE


async def test_what_came_before_the_listener_heard_is_found_at_once(
    database: str, proxy: Proxy, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It comes when the listener is connected again, and does not listen yet: who looks before that does not find it.
    monkeypatch.setattr(supervisor, "POLL_DEAF", 600.0)
    monkeypatch.setattr(supervisor, "POLL_HEALTHY", 600.0)
    async with engine(database, worker=False) as client, engine(proxy.dsn) as worker:
        await settled(worker)
        await until(lambda: client.parts().listener.healthy)
        held = proxy.hold(lambda sql: sql.startswith("LISTEN"))
        assert proxy.sever(lambda sql: sql.startswith("LISTEN")) == 1
        await held
        handle = await client.start(three, {})
        await until(lambda: not client.parts().listener._outbox, "its notification")
        assert bodies.began == []
        held.release()
        assert await handle.result(GUARD) == THREE


async def test_a_start_that_nobody_tells_of_is_found_by_looking(
    database: str, proxy: Proxy, bodies: Bodies, monkeypatch: pytest.MonkeyPatch, quick_polls: None
) -> None:
    monkeypatch.setattr(supervisor, "POLL_HEALTHY", 0.2)
    async with engine(database, worker=False) as client, engine(proxy.dsn) as worker:
        await settled(worker)
        listens = proxy.count("LISTEN")
        monkeypatch.setattr(client.parts().listener, "send", lambda *_: None)
        assert await (await client.start(three, {})).result(GUARD) == THREE
        assert proxy.count("LISTEN") == listens, "nor by who listens anew"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, quick_polls: None) -> None:
    """Connections that do not answer count as lost after a second."""
    monkeypatch.setattr(connection_module, "REPLY_SECONDS", 1.0)
    monkeypatch.setattr(executions, "REPLY_SECONDS", 1.0)


async def test_a_program_recovers_from_half_open_connections(proxy: Proxy, bodies: Bodies, impatient: None) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker, engine(proxy.dsn, worker=False) as client:
        await settled(worker)
        before = [await client.start(three, {}, id=f"before-{n}") for n in range(5)]
        assert [await handle.result(GUARD) for handle in before] == [THREE] * 5
        assert proxy.half_open() > 5
        after = await asyncio.gather(*(worker.start(three, {}, id=f"after-{n}") for n in range(20)))
        others = await asyncio.gather(*(client.start(three, {}, id=f"others-{n}") for n in range(20)))
        assert all(handle.created for handle in (*after, *others))
        assert [await handle.result(GUARD) for handle in (*after, *others)] == [THREE] * 40
        assert (await client.get_execution("after-1")).status == "completed"
        await until(lambda: worker.parts().listener.healthy and client.parts().listener.healthy, "healthy listeners")
    assert set(bodies.runs().values()) == {1}


async def test_a_write_held_up_by_a_half_open_connection_is_written_once_when_it_arrives_late(
    proxy: Proxy, bodies: Bodies, impatient: None
) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker:
        await settled(worker)
        held = proxy.hold(statement("execution/start"))
        starting = asyncio.create_task(worker.start(three, {}, id="held"))
        await held
        handle = await starting  # given up after a second, and sent again over another connection
        assert handle.created
        held.release()
        assert await handle.result(GUARD) == THREE
    assert set(bodies.runs().values()) == {1}
