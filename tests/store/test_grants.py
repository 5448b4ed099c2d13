"""Law 11 at the store: a limit is granted under its queue's row, and what a worker held when it died is free again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from durable.store.connection import Connection
from tests.store import rows
from tests.store.rows import QUEUE, Worker
from tests.store.test_fence import GUARD, blocked, take_over
from tests.support.invariants import assert_invariants


@pytest.fixture
async def three(database: str) -> AsyncIterator[list[Connection]]:
    """Connections, on a database in which no more than two executions run at once. The laws hold at the end."""
    async with rows.connections(database, 3) as opened:
        await rows.run(opened[0], "queue/declare", [QUEUE], [2], [None], [None], [None], [None], [False], [False])
        yield opened
    await assert_invariants(database)


async def start(connection: Connection, count: int) -> None:
    await rows.send(connection, Worker().start, *(rows.new().row() for _ in range(count)))


async def test_a_claim_from_a_limited_queue_waits_for_one_that_is_being_made(three: list[Connection]) -> None:
    first, second, watcher = three
    one, other = await Worker().register(watcher), await Worker().register(watcher)
    await start(watcher, 4)
    async with first.transaction():
        assert len(await one.take(first)) == 2
        taking = asyncio.create_task(other.take(second))
        await blocked(watcher, second)
    assert await asyncio.wait_for(taking, GUARD) == []


async def test_the_grants_of_a_dead_worker_are_free_again(three: list[Connection]) -> None:
    direct, reaper, _ = three
    dead, other = await Worker().register(direct, -1.0), await Worker().register(direct)
    await start(direct, 2)
    assert len(await dead.take(direct)) == 2
    assert await other.take(direct) == []
    await take_over(reaper, dead.id)
    assert await direct.fetchval("select count(*) from durable.claim where owner <> $1", dead.id) == 2


async def test_a_permit_counts_for_the_whole_time_of_its_rate(three: list[Connection]) -> None:
    direct = three[0]
    await rows.run(direct, "queue/declare", [QUEUE], [None], [2], [3600.0], [None], [None], [False], [False])
    worker = await Worker().register(direct)
    await start(direct, 4)
    assert len(await worker.take(direct)) == 2
    for seconds, more in ((1, 0), (3500, 0), (200, 2)):
        await direct.execute(f"update durable.permit set granted_at = granted_at - interval '{seconds} seconds'")
        assert len(await worker.take(direct)) == more
