"""A worker that loses its lease, its journal or the right to write for a while stops in time, runs nothing twice, and goes
on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import asyncpg
import pytest

from durable import Durable
from durable.runtime import auditor, claimer, listener, supervisor
from durable.runtime.supervisor import Supervisor
from durable.store.connection import Connection
from tests.faults import in_process
from tests.faults.in_process import (
    GUARD,
    THREE,
    WORKFLOWS,
    Bodies,
    engine,
    gated,
    running_step,
    settled,
    single,
    statement,
    three,
    until,
)
from tests.faults.stubborn import held, stubborn
from tests.store import rows
from tests.support.proxy import Proxy

LEASE = timedelta(seconds=1)
THROUGH = {"before": 1, "through": True}


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    async with Proxy(database) as proxy:
        yield proxy


@pytest.fixture
async def direct(database: str) -> AsyncIterator[Connection]:
    async with rows.connections(database, 1) as (connection,):
        yield connection


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    with held() as event:
        yield event


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found by looking is found soon, to save the test's time."""
    for name in ("POLL_HEALTHY", "POLL_DEAF"):
        monkeypatch.setattr(supervisor, name, 0.2)
        monkeypatch.setattr(f"durable.app.{name}", 0.2)
    monkeypatch.setattr(auditor, "AGE", 0.1)


def supervisor_of(running: Durable) -> Supervisor:
    found = running.parts().supervisor
    assert found is not None
    return found


@contextlib.asynccontextmanager
async def lapse(running: Durable, proxy: Proxy, direct: Connection) -> AsyncIterator[None]:
    """Within it the lease of *running* has lapsed, here and in the database; all other connections are well."""
    us = supervisor_of(running)
    mine = (
        "select coalesce((select lease_expires_at < clock_timestamp() from durable.worker where worker_id = $1), true)"
    )
    worker_id = us.worker_id
    renewals = proxy.count(statement("worker/renew"))
    await until(lambda: proxy.count(statement("worker/renew")) > renewals, "a renewal")
    proxy.refuse()
    assert proxy.half_open(statement("worker/renew"))
    await until(lambda: us._standing.lapsed, "the end of work")
    await until(lambda: direct.fetchval(mine, worker_id), "the end of the lease")
    yield
    proxy.accept()
    await until(lambda: not us._standing.lapsed, "the return of the lease")


# --- The lease ------------------------------------------------------------------------------------------------------


async def test_a_lease_counts_from_when_its_renewal_was_asked_for(
    proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    """However late the reply comes: here and in the database, it lapses there last."""
    async with engine(proxy.dsn, lease=timedelta(seconds=6)) as running:
        keeper = supervisor_of(running)._standing._keeper
        held = proxy.hold_reply(statement("worker/renew"))
        await held
        known, left = (
            keeper.valid_until,
            "select extract(epoch from lease_expires_at - clock_timestamp()) from durable.worker",
        )
        await until(lambda: direct.fetchval(f"select ({left}) < 5.6"), "some time")
        held.release()
        await until(lambda: keeper.valid_until != known, "the reply")
        seconds = float(await direct.fetchval(left))
        assert keeper.valid_until <= time.monotonic() + seconds


# --- The journal ----------------------------------------------------------------------------------------------------


async def test_an_execution_whose_journal_cannot_be_read_does_not_begin(
    database: str, bodies: Bodies, quick_polls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    readable = False
    read = claimer.read_pasts

    async def unreadable(*arguments: object) -> object:
        nonlocal tries
        tries += 1
        if not readable:
            raise asyncpg.DataCorruptedError("invalid page in block 0")
        return await read(*arguments)  # type: ignore[arg-type]

    async with engine(database, drain=timedelta(0)) as leaver:
        handle = await leaver.start(gated, {})
        await running_step("at_gate")
        monkeypatch.setattr(claimer, "read_pasts", unreadable)
    begun = list(bodies.began)
    bodies.gate.set()
    async with engine(database) as worker:
        await until(lambda: tries == 2, "a second try, after the audit has given the claim back")
        assert await worker.handle(handle.id).status() in ("pending", "running")
        assert bodies.began == begun
        readable = True
        assert await worker.handle(handle.id).result(GUARD) == THROUGH
    assert bodies.runs() == {(handle.id, "before_gate", 1): 1, (handle.id, "at_gate", 1): 2}


# --- A database that is read-only for a while --------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def read_only(direct: Connection) -> AsyncIterator[None]:
    """Within it every session but *direct* is read-only, as on a server that was demoted."""
    database = await direct.fetchval("select quote_ident(current_database())")
    others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> $1"
    for setting in ("on", "off"):
        await direct.execute(f"alter database {database} set default_transaction_read_only = {setting}")
        await direct.fetch(others, direct.get_server_pid())
        if setting == "on":
            yield


async def test_a_database_that_is_read_only_for_longer_than_the_lease_ends_nobody(
    database: str, direct: Connection, bodies: Bodies, quick_polls: None
) -> None:
    async with engine(database, lease=LEASE) as worker, engine(database, worker=False) as client:
        await settled(worker)
        us = supervisor_of(worker)
        identity = us.worker_id
        running = await worker.start(gated, {})
        await running_step("at_gate")
        async with read_only(direct):
            waiting = asyncio.create_task(client.handle(running.id).result(GUARD))
            starting = asyncio.create_task(client.start(three, {}))
            await until(lambda: us._standing.lapsed and bool(bodies.cancelled), "the end of the lease")
            assert bodies.cancelled == [(running.id, "at_gate", 1)]
            assert not waiting.done()
            assert not starting.done()
        bodies.gate.set()
        assert await waiting == THROUGH
        assert await (await starting).result(GUARD) == THREE
        assert await (await worker.start(three, {})).result(GUARD) == THREE
        assert us.worker_id == identity
        for running_engine in (worker, client):
            heard = running_engine.parts().listener
            await until(lambda heard=heard: heard.healthy, "a listener that hears")


async def test_a_listener_that_is_refused_for_any_reason_tries_again(
    database: str, proxy: Proxy, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [asyncpg.InvalidPasswordError("it is being changed"), asyncpg.InvalidPasswordError("still")]
    connect = listener.connect

    async def refused(*arguments: object, **options: object) -> object:
        if refusals:
            raise refusals.pop()
        return await connect(*arguments, **options)  # type: ignore[arg-type]

    async with engine(proxy.dsn) as worker, engine(database, worker=False) as client:
        await settled(worker)
        heard = worker.parts().listener
        monkeypatch.setattr(listener, "connect", refused)
        assert proxy.sever(lambda sql: sql.startswith("LISTEN")) == 1
        await until(lambda: not refusals and heard.healthy, "a listener that hears again")
        monkeypatch.setattr(supervisor, "POLL_HEALTHY", 600.0)
        await settled(worker)
        assert await (await client.start(three, {})).result(GUARD) == THREE


# --- A task that is stopped before it has run ---------------------------------------------------------------------------


def interrupted(us: Supervisor) -> None:
    us._stop_everything()


def cancelled_by_another(us: Supervisor) -> None:
    for owned in us._owned.values():
        assert owned.task is not None
        owned.task.cancel()


@pytest.mark.parametrize("stop", [interrupted, cancelled_by_another])
async def test_a_task_that_is_stopped_before_it_has_run_gives_its_slot_back(
    database: str,
    bodies: Bodies,
    quick_polls: None,
    monkeypatch: pytest.MonkeyPatch,
    stop: Callable[[Supervisor], None],
) -> None:
    # A drain without limit: it ends only if nothing is leaked.
    async with (
        asyncio.timeout(GUARD),
        engine(database, queues={"default": 1}, drain=timedelta(hours=1)) as worker,
    ):
        await settled(worker)
        us = supervisor_of(worker)
        begin, stopped = us.begin, 0

        def begin_and_stop(*arguments: object, **options: object) -> None:
            nonlocal stopped
            begin(*arguments, **options)  # type: ignore[arg-type]
            if not stopped:
                stopped += 1
                stop(us)

        monkeypatch.setattr(us, "begin", begin_and_stop)
        handle = await worker.start(single, {})
        assert await handle.result(GUARD) == {"only": 1}
        assert stopped == 1
        assert await (await worker.start(three, {})).result(GUARD) == THREE
    assert set(bodies.runs().values()) == {1}


# --- Replies that outlast the lease --------------------------------------------------------------------------------------


async def test_a_claim_at_birth_whose_reply_comes_after_a_lapse_is_not_used(
    proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker:
        await settled(worker)
        reply = proxy.hold_reply(statement("execution/start_lone"))
        starting = asyncio.create_task(worker.start(gated, {}))
        await reply
        async with lapse(worker, proxy, direct):
            assert bodies.began == []
        # Given back by the worker itself, and claimed anew. Its record may have to wait for the lane whose reply is held.
        await running_step("before_gate")
        reply.release()
        handle = await starting
        assert handle.created
        bodies.gate.set()
        assert await handle.result(GUARD) == THROUGH
    assert set(bodies.runs().values()) == {1}


async def test_a_claim_at_birth_that_another_has_taken_over_is_not_used(
    database: str, proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker, engine(database, lease=LEASE) as heir:
        await settled(worker)
        reply = proxy.hold_reply(statement("execution/start_lone"))
        starting = asyncio.create_task(worker.start(gated, {}))
        await reply
        async with lapse(worker, proxy, direct):
            await running_step("at_gate")
            assert supervisor_of(heir)._owned
        reply.release()
        handle = await starting
        bodies.gate.set()
        assert await handle.result(GUARD) == THROUGH
    assert set(bodies.runs().values()) == {1}


async def test_claims_whose_reply_comes_after_a_lapse_are_not_used(
    database: str, proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    async with (
        engine(proxy.dsn, lease=LEASE) as worker,
        engine(database, worker=False) as client,
        contextlib.AsyncExitStack() as later,
    ):
        await settled(worker)
        reply = proxy.hold_reply(statement("claim/take_plain"))
        handles = await client.start_many(gated, [{}] * 5)
        await reply
        async with lapse(worker, proxy, direct):
            await later.enter_async_context(engine(database, lease=LEASE))
            await until(lambda: len(bodies.began) == 10, "five bodies at the gate, elsewhere")
        reply.release()
        await until(lambda: not supervisor_of(worker).under_way, "the end of the claim")
        assert await (await worker.start(three, {})).result(GUARD) == THREE
        bodies.gate.set()
        assert [await handle.result(GUARD) for handle in handles] == [THROUGH] * 5
    assert set(bodies.runs().values()) == {1}


# --- After the lapse -------------------------------------------------------------------------------------------------------


async def test_a_thread_that_ignores_its_cancellation_keeps_nobody_else_from_running(
    proxy: Proxy, direct: Connection, bodies: Bodies, let_go: threading.Event
) -> None:
    async with Durable(proxy.dsn, workflows=[*WORKFLOWS, stubborn], lease=LEASE) as worker:
        await settled(worker)
        deaf = await worker.start(stubborn, {})
        await running_step("deaf")
        async with lapse(worker, proxy, direct):
            pass
        assert await (await worker.start(three, {})).result(GUARD) == THREE
        assert bodies.ended[-1][1] == "last", "the thread runs still"
        let_go.set()
        assert await deaf.result(GUARD) == {"deaf": True}
    assert set(bodies.runs().values()) == {1}, "nobody ran it beside its thread"


async def test_a_worker_declared_dead_while_more_is_waiting_goes_on_under_a_new_identity_and_still_watches_its_lease(
    proxy: Proxy, direct: Connection, bodies: Bodies, quick_polls: None
) -> None:
    async with engine(proxy.dsn, lease=LEASE, queues={"default": 2}) as worker:
        await settled(worker)
        us = supervisor_of(worker)
        old = us.worker_id
        handles = await worker.start_many(gated, [{}] * 6)
        await until(lambda: len(bodies.began) == 4, "two bodies at the gate")
        async with lapse(worker, proxy, direct):
            assert len(bodies.cancelled) == 2
            await direct.execute("update durable.worker set dead = true")
        assert us.worker_id != old
        await until(lambda: len(bodies.began) == 8, "two others at the gate")
        async with lapse(worker, proxy, direct):
            assert len(bodies.cancelled) == 4, "they were stopped as the first ones were"
        bodies.gate.set()
        assert [await handle.result(GUARD) for handle in handles] == [THROUGH] * 6
