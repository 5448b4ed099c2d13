"""Law 6 at the store: what is due is fired, what is not is left alone, and the database's clock decides."""

from __future__ import annotations

from tests.store import rows
from tests.store.rows import Worker
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
