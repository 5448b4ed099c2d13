"""`start(connection=)`: a start inside the caller's own transaction lives and dies with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from durable import Durable, EncodeError, IdConflict, UnknownExecution, seconds
from durable.runtime import supervisor
from tests.faults import in_process
from tests.faults.in_process import GUARD, THREE, Bodies, engine, settled, single, three, until
from tests.support.proxy import Proxy


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """The caller's own connection, nothing of ours in its settings."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection]:
    """That of another caller."""
    other = await asyncpg.connect(database)
    yield other
    await other.close()


async def until_it_waits(other: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    """Return when what *other* runs waits for a lock, as *connection* sees it."""
    blocked = "select cardinality(pg_blocking_pids($1)) > 0"
    await until(lambda: connection.fetchval(blocked, other.get_server_pid()), "the second start")


@pytest.fixture
async def worker(database: str, bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Durable]:
    """A worker that looks only when it is told to."""
    async with engine(database) as worker:
        await settled(worker)
        monkeypatch.setattr(supervisor, "POLL_HEALTHY", 600.0)
        monkeypatch.setattr(supervisor, "POLL_DEAF", 600.0)
        yield worker


async def test_a_start_that_is_rolled_back_never_was(
    worker: Durable, connection: asyncpg.Connection, bodies: Bodies
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    handle = await worker.start(three, {}, id="mine", connection=connection)
    assert handle.created
    await transaction.rollback()
    with pytest.raises(UnknownExecution):
        await handle.status()
    # What is started and committed after it runs; had the first one been told of, it would have run before.
    assert await (await worker.start(three, {}, id="other")).result(GUARD) == THREE
    assert {execution for execution, _, _ in bodies.began} == {"other"}
    assert (await worker.start(three, {}, id="mine")).created


async def test_a_start_that_is_committed_runs_and_not_before(
    worker: Durable, connection: asyncpg.Connection, bodies: Bodies
) -> None:
    async with connection.transaction():
        await connection.execute("create table public.orders (id text)")
        await connection.execute("insert into public.orders values ('1')")
        handle = await worker.start(three, {}, connection=connection)
        assert await (await worker.start(three, {}, id="meanwhile")).result(GUARD) == THREE
        assert {execution for execution, _, _ in bodies.began} == {"meanwhile"}
        with pytest.raises(UnknownExecution):
            await handle.status()
    assert await handle.result(GUARD) == THREE
    assert await connection.fetchval("select count(*) from public.orders") == 1


async def test_a_worker_elsewhere_is_told_with_the_commit(
    database: str, connection: asyncpg.Connection, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(database) as proxy, engine(proxy.dsn) as worker, engine(database, worker=False) as client:
        await settled(worker)
        monkeypatch.setattr(supervisor, "POLL_HEALTHY", 600.0)
        monkeypatch.setattr(supervisor, "POLL_DEAF", 600.0)
        told: list[str] = []
        await connection.add_listener("durable_ready", lambda *message: told.append(message[3]))
        other = await asyncpg.connect(database)
        try:
            async with other.transaction():
                handle = await client.start(three, {}, connection=other)
                await connection.execute("select pg_notify('durable_ready', 'a queue that nobody serves')")
                await until(lambda: bool(told), "the marker")
                assert told == ["a queue that nobody serves"]
                assert bodies.began == []
            assert await handle.result(GUARD) == THREE
        finally:
            await other.close()
        assert "default" in told


async def test_a_start_put_off_is_told_to_who_keeps_time(
    worker: Durable, connection: asyncpg.Connection, bodies: Bodies
) -> None:
    async with connection.transaction():
        handle = await worker.start(three, {}, delay=seconds(0.2), connection=connection)
    assert await handle.result(GUARD) == THREE


async def test_without_notify_nobody_is_told_and_the_start_is_found_all_the_same(
    database: str, worker: Durable, connection: asyncpg.Connection, bodies: Bodies
) -> None:
    told: list[object] = []
    listening = await asyncpg.connect(database)
    try:
        await listening.add_listener("durable_ready", lambda *message: told.append(message[3]))
        async with connection.transaction():
            quiet = await worker.start(three, {}, connection=connection, notify=False)
        assert await quiet.status() == "pending"
        async with connection.transaction():
            loud = await worker.start(three, {}, connection=connection)
        assert await loud.result(GUARD) == THREE
        assert await quiet.result(GUARD) == THREE, "found by the look that the other one caused"
        await until(lambda: bool(told), "the message of the other one")
    finally:
        await listening.close()
    assert told == ["default"]


@pytest.mark.parametrize("json_type", ["json", "jsonb"])
async def test_a_connection_with_a_json_codec_of_its_own_works(
    worker: Durable, connection: asyncpg.Connection, bodies: Bodies, json_type: str
) -> None:
    await connection.set_type_codec(json_type, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    async with connection.transaction():
        handle = await worker.start(three, {"two": 4}, tags={"tenant": "acme"}, connection=connection)
    assert await handle.result(GUARD) == {"one": 1, "two": 5, "last": 1}
    assert (await worker.get_execution(handle.id)).tags == {"tenant": "acme"}


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_start_works_in_every_isolation_and_knows_itself(
    worker: Durable, connection: asyncpg.Connection, bodies: Bodies, isolation: str
) -> None:
    async with connection.transaction(isolation=isolation):  # type: ignore[arg-type]
        first = await worker.start(three, {}, id="mine", connection=connection)
        again = await worker.start(three, {}, id="mine", connection=connection)
        assert (first.created, again.created) == (True, False)
        with pytest.raises(IdConflict):
            await worker.start(three, {}, id="mine", connection=connection, on_conflict="error")
        with pytest.raises(IdConflict):
            await worker.start(single, {}, id="mine", connection=connection)
    assert await first.result(GUARD) == THREE


async def test_a_connection_from_a_pool_works(database: str, worker: Durable, bodies: Bodies) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool, pool.acquire() as connection:
        async with connection.transaction():
            handle = await worker.start(three, {}, connection=connection)
        assert await handle.result(GUARD) == THREE


async def test_two_transactions_that_start_one_id_create_it_once(
    worker: Durable, connection: asyncpg.Connection, other: asyncpg.Connection, bodies: Bodies
) -> None:
    async with other.transaction():
        async with connection.transaction():
            first = await worker.start(three, {}, id="mine", connection=connection)
            starting = asyncio.create_task(worker.start(three, {}, id="mine", connection=other))
            await until_it_waits(other, connection)
        second = await asyncio.wait_for(starting, GUARD)
    assert (first.created, second.created) == (True, False)
    assert await second.result(GUARD) == THREE


async def test_a_start_that_waited_for_another_workflows_start_of_its_id_is_told_so(
    worker: Durable, connection: asyncpg.Connection, other: asyncpg.Connection, bodies: Bodies
) -> None:
    transaction = other.transaction()
    await transaction.start()
    async with connection.transaction():
        first = await worker.start(three, {}, id="mine", connection=connection)
        starting = asyncio.create_task(worker.start(single, {}, id="mine", connection=other))
        await until_it_waits(other, connection)
    with pytest.raises(IdConflict, match="one of workflow 'three'"):
        await asyncio.wait_for(starting, GUARD)
    await transaction.rollback()
    assert await first.result(GUARD) == THREE


async def test_a_start_takes_the_id_of_a_transaction_that_is_rolled_back(
    worker: Durable, connection: asyncpg.Connection, other: asyncpg.Connection, bodies: Bodies
) -> None:
    async with other.transaction():
        transaction = connection.transaction()
        await transaction.start()
        await worker.start(three, {"one": 9}, id="mine", connection=connection)
        starting = asyncio.create_task(worker.start(three, {}, id="mine", connection=other))
        await until_it_waits(other, connection)
        await transaction.rollback()
        handle = await asyncio.wait_for(starting, GUARD)
    assert handle.created
    assert await handle.result(GUARD) == THREE


async def test_a_start_that_cannot_be_stored_is_refused_with_its_reason(
    worker: Durable, connection: asyncpg.Connection, bodies: Bodies
) -> None:
    with pytest.raises(EncodeError):
        async with connection.transaction():
            await worker.start(three, {"text": "\ud800"}, connection=connection)
