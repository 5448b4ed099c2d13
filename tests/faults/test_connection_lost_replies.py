"""Law 13 with the engine: a reply cut off after COMMIT, or a connection closed before the statement, for every kind of write.

Nothing runs or is stored twice, nothing is lost, and the program goes on by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from durable import Durable, ExecutionCancelled, ExecutionFailed, app, seconds
from durable.runtime import supervisor
from durable.store.connection import Connection
from tests.faults import in_process
from tests.faults.in_process import (
    GUARD,
    THREE,
    Bodies,
    engine,
    gated,
    late,
    running_step,
    second_try,
    seqs,
    settled,
    single,
    statement,
    three,
    until,
)
from tests.store import rows
from tests.support.proxy import Fault, Proxy

Cut = Callable[[Proxy, str], Fault]
LEASE = timedelta(seconds=1)


def before(proxy: Proxy, name: str) -> Fault:
    return proxy.cut_before(statement(name))


def after_commit(proxy: Proxy, name: str) -> Fault:
    return proxy.cut_after_commit(statement(name))


cuts = pytest.mark.parametrize("cut", [before, after_commit])


@pytest.fixture(autouse=True)
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by himself now and then: what goes on here goes on at once, not in some seconds."""
    for module, name in (
        (supervisor, "POLL_HEALTHY"),
        (supervisor, "POLL_DEAF"),
        (app, "POLL_HEALTHY"),
        (app, "POLL_DEAF"),
    ):
        monkeypatch.setattr(module, name, 600.0)


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
async def worker(proxy: Proxy, bodies: Bodies) -> AsyncIterator[Durable]:
    """A worker behind the proxy that will claim at birth what is started here."""
    async with engine(proxy.dsn) as worker:
        await settled(worker)
        yield worker


@pytest.fixture
async def client(proxy: Proxy, bodies: Bodies) -> AsyncIterator[Durable]:
    """A client behind the proxy; the test sees to a worker."""
    async with engine(proxy.dsn, worker=False) as client:
        yield client


def all_once(bodies: Bodies) -> bool:
    return bool(bodies.began) and set(bodies.runs().values()) == {1}


@cuts
async def test_a_start_claimed_at_birth_runs_once(proxy: Proxy, worker: Durable, bodies: Bodies, cut: Cut) -> None:
    fault = cut(proxy, "execution/start_lone")
    handle = await worker.start(three, {})
    assert handle.created
    assert await handle.result(GUARD) == THREE
    assert fault.struck == 1
    assert all_once(bodies)
    claims = sum(proxy.count(statement(name)) for name in ("claim/take", "claim/take_plain"))
    assert claims <= 1, "it was claimed with its birth"


@cuts
async def test_a_start_made_ready_runs_once(
    database: str, proxy: Proxy, client: Durable, bodies: Bodies, cut: Cut
) -> None:
    fault = cut(proxy, "execution/start")
    handle = await client.start(three, {}, id="mine")
    again = await client.start(three, {}, id="mine")
    assert (handle.created, again.created) == (True, False)
    async with engine(database):
        assert await handle.result(GUARD) == THREE
    assert fault.struck == 1
    assert all_once(bodies)


@cuts
async def test_a_start_put_off_runs_once(proxy: Proxy, worker: Durable, bodies: Bodies, cut: Cut) -> None:
    fault = cut(proxy, "execution/start")
    handle = await worker.start(three, {}, delay=seconds(0.2))
    assert handle.created
    assert await handle.result(GUARD) == THREE
    assert fault.struck == 1
    assert all_once(bodies)


@cuts
async def test_many_starts_run_once_each(proxy: Proxy, worker: Durable, bodies: Bodies, cut: Cut) -> None:
    fault = cut(proxy, "execution/start_plain")
    handles = await worker.start_many(three, [{}] * 30)
    assert all(handle.created for handle in handles)
    assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 30
    assert fault.struck == 1
    assert len(bodies.began) == 90
    assert all_once(bodies)


@cuts
async def test_a_record_is_written_once_and_its_step_runs_once(
    proxy: Proxy, worker: Durable, direct: Connection, bodies: Bodies, cut: Cut
) -> None:
    fault = cut(proxy, "journal/record_plain")
    handle = await worker.start(three, {})
    assert await handle.result(GUARD) == THREE
    assert fault.struck == 1
    assert all_once(bodies)
    assert await seqs(direct, handle.id) == [1, 2, 3]


async def test_a_step_begins_when_the_result_of_the_one_before_is_durable(
    proxy: Proxy, direct: Connection, worker: Durable, bodies: Bodies
) -> None:
    held = proxy.hold(statement("journal/record_plain"))
    handle = await worker.start(three, {})
    await held
    assert await seqs(direct, handle.id) == []
    assert bodies.began == [(handle.id, "one", 1)]
    held.release()
    assert await handle.result(GUARD) == THREE


@cuts
async def test_a_finish_with_the_last_record_happens_once(
    proxy: Proxy, worker: Durable, direct: Connection, bodies: Bodies, cut: Cut
) -> None:
    fault = cut(proxy, "execution/finish_plain")
    handle = await worker.start(single, {})
    assert await handle.result(GUARD) == {"only": 1}
    assert fault.struck == 1
    assert all_once(bodies)
    assert await seqs(direct, handle.id) == [1]


@cuts
async def test_a_finish_without_a_record_happens_once(
    proxy: Proxy, worker: Durable, direct: Connection, bodies: Bodies, cut: Cut
) -> None:
    fault = cut(proxy, "execution/finish")
    handle = await worker.start(late, {})
    with pytest.raises(ExecutionFailed, match="DeadlineExceeded"):
        await handle.result(GUARD)
    assert fault.struck == 1
    assert all_once(bodies)
    assert await seqs(direct, handle.id) == []


@cuts
async def test_a_finish_reaches_who_waits_elsewhere(
    database: str, proxy: Proxy, worker: Durable, bodies: Bodies, cut: Cut
) -> None:
    handle = await worker.start(gated, {})
    async with engine(database, worker=False) as other:
        waiting = asyncio.create_task(other.handle(handle.id, gated).result(GUARD))
        async with rows.connections(database, 1) as (direct,):
            watched = "select exists (select from durable.execution where watchers is not null)"
            await until(lambda: direct.fetchval(watched), "a watcher")
        fault = cut(proxy, "execution/finish_plain")
        bodies.gate.set()
        assert await waiting == {"before": 1, "through": True}
    assert fault.struck == 1


@cuts
async def test_a_suspension_happens_once_and_its_next_attempt_runs(
    proxy: Proxy, worker: Durable, direct: Connection, bodies: Bodies, cut: Cut
) -> None:
    fault = cut(proxy, "execution/suspend")
    handle = await worker.start(second_try, {})
    assert await handle.result(GUARD) == {"attempt": 2}
    assert fault.struck == 1
    assert all_once(bodies)
    assert await seqs(direct, handle.id) == [1, 2]


@cuts
async def test_what_is_due_is_woken_once(proxy: Proxy, worker: Durable, bodies: Bodies, cut: Cut) -> None:
    handle = await worker.start(second_try, {})
    await until(lambda: proxy.count(statement("execution/suspend")) == 1, "its suspension")
    fault = cut(proxy, "wake/fire")
    assert await handle.result(GUARD) == {"attempt": 2}
    assert fault.struck == 1
    assert all_once(bodies)


@cuts
async def test_a_claim_is_made_once(
    database: str, proxy: Proxy, worker: Durable, direct: Connection, bodies: Bodies, cut: Cut
) -> None:
    fault = cut(proxy, "claim/take_plain")
    async with engine(database, worker=False) as other:
        handles = await other.start_many(three, [{}] * 20)
        assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 20
    assert fault.struck == 1
    assert all_once(bodies)
    assert await direct.fetchval("select max(crashes) from durable.claim") is None


@cuts
async def test_what_is_released_goes_on_elsewhere_and_is_no_crash(
    database: str, proxy: Proxy, direct: Connection, bodies: Bodies, cut: Cut
) -> None:
    async with engine(proxy.dsn, drain=timedelta(seconds=0.05)) as draining:
        handle = await draining.start(gated, {})
        await running_step("at_gate")
        fault = cut(proxy, "claim/release")
    assert fault.struck == 1
    assert [tuple(row) for row in await direct.fetch("select crashes, begun from durable.ready")] == [(0, True)]
    bodies.gate.set()
    async with engine(database) as heir:
        assert await heir.handle(handle.id).result(GUARD) == {"before": 1, "through": True}
    assert bodies.runs()[(handle.id, "before_gate", 1)] == 1


@cuts
@pytest.mark.parametrize("name", ["execution/lock", "execution/displace", "execution/cancel", "COMMIT;"])
async def test_a_cancel_happens_once_and_stops_the_step(
    proxy: Proxy, worker: Durable, bodies: Bodies, cut: Cut, name: str
) -> None:
    handle = await worker.start(gated, {})
    await running_step("at_gate")
    fault = cut(proxy, name)
    assert await handle.cancel("enough")
    assert not await handle.cancel("again")
    with pytest.raises(ExecutionCancelled, match="enough"):
        await handle.result(GUARD)
    await until(lambda: bodies.cancelled == [(handle.id, "at_gate", 1)], "its cancellation")
    assert fault.struck == 1


@cuts
@pytest.mark.parametrize("name", ["execution/watch", "execution/results"])
async def test_who_waits_for_a_result_gets_it(
    database: str, proxy: Proxy, client: Durable, bodies: Bodies, cut: Cut, name: str
) -> None:
    async with engine(database) as worker:
        handle = await worker.start(gated, {})
        await running_step("at_gate")
        fault = cut(proxy, name)
        waiting = asyncio.create_task(client.handle(handle.id).result(GUARD))
        await until(lambda: proxy.count(statement("execution/watch")) >= 1, "its question")
        bodies.gate.set()
        assert await waiting == {"before": 1, "through": True}
    assert fault.struck == 1


@cuts
async def test_a_worker_registers_once(proxy: Proxy, direct: Connection, bodies: Bodies, cut: Cut) -> None:
    fault = cut(proxy, "worker/register")
    async with engine(proxy.dsn) as worker:
        assert fault.struck == 1
        assert await direct.fetchval("select count(*) from durable.worker where not dead") == 1
        assert await (await worker.start(three, {})).result(GUARD) == THREE
    assert await direct.fetchval("select count(*) from durable.worker") == 0


@cuts
async def test_a_renewal_that_fails_costs_nothing(proxy: Proxy, bodies: Bodies, cut: Cut) -> None:
    async with engine(proxy.dsn, lease=LEASE) as worker:
        handle = await worker.start(gated, {})
        await running_step("at_gate")
        fault = cut(proxy, "worker/renew")
        await fault
        renewals = proxy.count(statement("worker/renew"))
        await until(lambda: proxy.count(statement("worker/renew")) >= renewals + 4, "more than a lease of renewals")
        bodies.gate.set()
        assert await handle.result(GUARD) == {"before": 1, "through": True}
    assert all_once(bodies)
    assert bodies.cancelled == []


@cuts
@pytest.mark.parametrize("name", ["worker/bury", "claim/reap", "worker/remove", "claim/take_plain"])
async def test_what_a_dead_worker_had_goes_on_after_its_records_and_counts_one_crash(
    proxy: Proxy, direct: Connection, bodies: Bodies, cut: Cut, name: str
) -> None:
    dead = await rows.Worker().register(direct, -1.0)
    news = [rows.new(token=rows.new_token(), workflow="three") for _ in range(5)]
    for new in news:
        new.shape_id = three.definition.shape
    await rows.send(direct, dead.start, *(new.row() for new in news))
    claims = sorted((new.execution_id, new.token) for new in news if new.token is not None)
    await rows.send(
        direct,
        dead.record,
        *(
            (*rows.recorded(*c, value='{"one": 1}')[:3], "one", *rows.recorded(*c, value='{"one": 1}')[4:])
            for c in claims
        ),
    )
    async with engine(proxy.dsn, lease=LEASE) as worker:
        await settled(worker)
        fault = cut(proxy, name)
        results = await asyncio.gather(*(worker.handle(str(id)).result(GUARD) for id, _ in claims))
        await fault

        async def buried() -> bool:
            return await direct.fetchval("select count(*) from durable.worker where worker_id = $1", dead.id) == 0

        await until(buried)  # a worker that closes leaves that to the others
    assert results == [THREE] * 5
    assert fault.struck == 1
    assert all_once(bodies)
    assert not [path for _, path, _ in bodies.began if path == "one"], "its record counts"
    assert await direct.fetchval("select count(*) from durable.worker") == 0


@cuts
@pytest.mark.parametrize("name", ["shape/register", "shape/read"])
async def test_an_engine_starts_all_the_same(proxy: Proxy, bodies: Bodies, cut: Cut, name: str) -> None:
    fault = cut(proxy, name)
    async with engine(proxy.dsn) as worker:
        assert await (await worker.start(three, {})).result(GUARD) == THREE
    assert fault.struck == 1


@cuts
async def test_a_notification_that_was_lost_is_made_up_for(
    database: str, proxy: Proxy, client: Durable, bodies: Bodies, cut: Cut
) -> None:
    # The client's message that something is ready is lost with its connection. The worker looks by itself.
    async with engine(database) as worker:
        await settled(worker)
        await until(lambda: client.parts().listener.healthy)
        fault = cut(proxy, "notify/send")
        handle = await client.start(three, {})
        assert await handle.result(GUARD) == THREE
    assert fault.struck == 1


async def test_every_connection_of_a_program_severed_again_and_again_harms_nothing(
    proxy: Proxy, worker: Durable, direct: Connection, bodies: Bodies
) -> None:
    handles = [await worker.start(three, {}, id=f"sequential-{n}") for n in range(5)]
    started = [asyncio.create_task(worker.start(three, {}, id=f"concurrent-{n}")) for n in range(100)]
    for n in range(10):
        await until(lambda n=n: len(bodies.ended) >= n * 25, "progress between two cuts")
        proxy.sever()
    handles += await asyncio.gather(*started)
    assert all(handle.created for handle in handles)
    assert await asyncio.gather(*(handle.result(GUARD) for handle in handles)) == [THREE] * 105
    assert all_once(bodies)
    assert await direct.fetchval("select count(*) from durable.journal") == 3 * 105
