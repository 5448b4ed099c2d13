"""Law 4 at the store: an emission and a registration that meet lock their topic, so that neither misses the other."""

from __future__ import annotations

import asyncio

from durable.ids import new_token
from tests.store import rows
from tests.store.rows import Worker
from tests.store.test_fence import GUARD, blocked
from tests.support.invariants import assert_invariants


async def test_an_emission_waits_for_a_registration_that_is_being_made_and_reaches_it(database: str) -> None:
    async with rows.connections(database, 3) as (registering, spreading, watcher):
        worker = await Worker().register(watcher)
        (claim,) = await worker.born(watcher)
        await rows.send(watcher, worker.emit, rows.emitted(new_token()))  # so that the topic is known
        await rows.run(watcher, "emission/spread", 10)
        async with registering.transaction():
            assert await rows.send(registering, worker.subscribe, rows.subscribed(*claim))
            await rows.send(watcher, worker.emit, rows.emitted(new_token()))
            spread = asyncio.create_task(rows.run(spreading, "emission/spread", 10))
            await blocked(watcher, spreading)
        assert [row["looked_at"] for row in await asyncio.wait_for(spread, GUARD)] == [1]
        assert await watcher.fetchval("select array_agg(execution_id) from durable.posted") == [claim[0]]
    await assert_invariants(database)
