"""A start that has to wait for a transaction, somebody's or its own, holds up nobody else and comes to the right answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from durable.starting import OnConflict
from durable.store.connection import Connection
from tests.faults import in_process
from tests.faults.in_process import GUARD, THREE, Bodies, engine, settled, statement, three, until
from tests.store import rows
from tests.support.proxy import Proxy

WRITERS = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'durable writer%'"
BLOCKED = f"{WRITERS} and cardinality(pg_blocking_pids(pid)) > 0"
ASLEEP = f"{WRITERS} and wait_event = 'PgSleep'"

# An insert of the execution called 'mine' lasts until it is let go, as a commit does that waits for a standby.
SLOW = """
create table public.gate (opened boolean);
create function public.wait_at_gate() returns trigger language plpgsql as $$
begin
    while not exists (select from public.gate) loop
        perform pg_sleep(0.01);
    end loop;
    return null;
end $$;
create trigger slow after insert on durable.execution for each row when (new.name = 'mine')
    execute function public.wait_at_gate();
"""


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def direct(database: str) -> AsyncIterator[Connection]:
    async with rows.connections(database, 1) as (connection,):
        yield connection


@pytest.fixture
async def callers(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
async def test_a_start_that_waits_for_a_callers_transaction_holds_up_nothing_else(
    database: str, direct: Connection, callers: asyncpg.Connection, bodies: Bodies, commits: bool
) -> None:
    async with engine(database) as worker:
        await settled(worker)
        transaction = callers.transaction()
        await transaction.start()
        await worker.start(three, {}, id="mine", connection=callers)
        waiting = [asyncio.create_task(worker.start(three, {}, id="mine")) for _ in range(2)]
        await until(lambda: direct.fetchval(BLOCKED), "a start that waits")
        async with asyncio.timeout(GUARD):
            others = await asyncio.gather(
                *(worker.start(three, {}) for _ in range(20)),
                *(worker.start(three, {}, id=f"other-{n}") for n in range(5)),
            )
            assert [await handle.result() for handle in others] == [THREE] * 25
        assert not any(task.done() for task in waiting)
        await (transaction.commit() if commits else transaction.rollback())
        handles = await asyncio.gather(*waiting)
        assert [handle.created for handle in handles].count(True) == (0 if commits else 1)
        assert [await handle.result(GUARD) for handle in handles] == [THREE] * 2
    assert len(bodies.began) == 26 * 3
    assert set(bodies.runs().values()) == {1}


@pytest.mark.parametrize("on_conflict", ["return", "error"])
@pytest.mark.parametrize("worker", [True, False], ids=["a worker", "a client"])
async def test_a_start_sent_again_while_its_first_sending_is_being_committed_finds_itself(
    database: str, direct: Connection, bodies: Bodies, worker: bool, on_conflict: OnConflict
) -> None:
    await direct.execute(SLOW)
    async with Proxy(database) as proxy, engine(proxy.dsn, worker=worker) as starter:
        if worker:
            await settled(starter)
        starting = asyncio.create_task(starter.start(three, {}, id="mine", on_conflict=on_conflict))
        await until(lambda: direct.fetchval(ASLEEP), "its first sending")
        assert proxy.sever(statement("execution/start")) == 1
        await until(lambda: direct.fetchval(BLOCKED), "its second sending")
        await direct.execute("insert into public.gate values (true)")
        handle = await starting
        assert handle.created
        async with engine(database):
            assert await handle.result(GUARD) == THREE
    assert set(bodies.runs().values()) == {1}
