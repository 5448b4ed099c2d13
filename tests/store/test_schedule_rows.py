"""Schedules at the store: a firing is a compare-and-set, so that a repeat, or somebody else, finds it done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable.ids import execution_uuid, new_token
from durable.store.connection import Connection, Link
from tests.store import rows
from tests.store.rows import QUEUE, SHAPE
from tests.store.test_lost_replies import Cut, World, cuts, world

__all__ = ["world"]

PAST = datetime(2026, 1, 1, tzinfo=UTC)
NEXT = PAST + timedelta(hours=1)


async def put(connection: Connection, name: str) -> None:
    policy = ("allow", "all", None, None, None, None, None, None, False)
    (row,) = await rows.run(
        connection, "schedule/put", name, None, new_token(), "flow", 1, '{"every": 1}', "{}", *policy, PAST, PAST, PAST
    )
    assert row["written"]


def firing(name: str, revision: int = 1) -> list[Any]:
    """The arguments of `schedule/fire` that start one execution."""
    plan = (name, revision, NEXT, NEXT, NEXT, "{}", 0, False)
    id = f"{name}@1"
    start = (name, execution_uuid(id), id, PAST, SHAPE, 1, QUEUE, 0, "{}", None, None)
    return [*([value] for value in (*plan, *start)), new_token(), "why"]


@cuts
async def test_a_firing_whose_reply_is_lost_happens_once(world: World, cut: Cut) -> None:
    await put(world.direct, "s")
    link, query = Link(world.proxy.dsn, "test"), rows.load("schedule/fire")
    fault = cut(world.proxy, query.sql)
    try:
        await link.fetch_surely(query, *firing("s"))
    finally:
        await link.close()
    assert fault.struck == 1
    assert await world.places(execution_uuid("s@1")) == ["ready"]
    assert await world.direct.fetchval("select revision from durable.schedule") == 2


@pytest.mark.parametrize("act", ["fire", "change"])
async def test_whoever_has_seen_an_older_state_of_a_schedule_does_nothing(world: World, act: str) -> None:
    await put(world.direct, "s")
    if act == "fire":
        await rows.run(world.direct, "schedule/fire", *firing("s"))
    else:
        await world.direct.execute("update durable.schedule set paused = true, due_at = null, revision = 2")
    await world.direct.execute("delete from durable.ready")
    await world.direct.execute("delete from durable.execution")
    assert await rows.run(world.direct, "schedule/fire", *firing("s")) == []
    assert await world.direct.fetchval("select count(*) from durable.execution") == 0
