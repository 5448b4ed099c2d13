"""Law 6 at the store: what is due is fired, what is not is left alone, and the database's clock decides."""

from __future__ import annotations

import asyncio

from tests.store import rows
from tests.store.rows import Worker
from tests.store.test_fence import blocked
from tests.support.invariants import assert_invariants


async def test_what_is_not_due_by_the_databases_clock_is_not_fired(database: str) -> None:
    async with rows.connections(database, 1) as (direct,):
        soon, later = rows.new(delay=60.0), rows.new(delay=3600.0)
        await rows.send(direct, Worker().start, soon.row(), later.row())
        (row,) = await rows.run(direct, "wake/fire", 10, rows.WAKING)
        assert (row["fired"], row["queues"]) == (0, None)
        assert 0 < row["next_in"] <= 60
        await direct.execute("update durable.wake set due_at = due_at - interval '60 seconds'")
        (row,) = await rows.run(direct, "wake/fire", 10, rows.WAKING)
        assert (row["fired"], row["queues"]) == (1, [rows.QUEUE])
        assert await rows.places(direct, soon.execution_id) == ["ready"]
        assert await rows.places(direct, later.execution_id) == ["wake"]
    await assert_invariants(database)


async def test_a_page_that_somebody_takes_from_meanwhile_is_no_short_one(database: str) -> None:
    async with rows.connections(database, 3) as (direct, timekeeper, other):
        news = [rows.new(delay=60.0 + n) for n in range(3)]
        await rows.send(direct, Worker().start, *(new.row() for new in news))
        await direct.execute("update durable.wake set due_at = due_at - interval '1 hour'")
        first = news[0].execution_id
        async with other.transaction():
            await other.execute("select from durable.execution where execution_id = $1 for update", first)
            await other.execute("delete from durable.wake where execution_id = $1", first)
            await other.execute(
                "update durable.execution set status = 'cancelled', ended_at = now() where execution_id = $1", first
            )
            firing = asyncio.create_task(rows.run(timekeeper, "wake/fire", 2, rows.WAKING))
            await blocked(direct, timekeeper)
        (row,) = await firing
        assert (row["fired"], row["more"]) == (1, True)
        (row,) = await rows.run(timekeeper, "wake/fire", 2, rows.WAKING)
        assert (row["fired"], row["more"]) == (1, False)
