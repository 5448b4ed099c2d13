"""What schedules cost does not grow with how many there are, nor with how often they have fired; and firing, changing and
deleting them at once never deadlocks.

Costs are measured in buffers and rows, never in time: see `tests.store.test_plans`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable.ids import execution_uuid, new_token
from durable.runtime.scheduler import AWAY_AFTER, ORPHANED_AFTER, ROWS
from durable.store.connection import Connection
from tests.store import rows
from tests.store.history import WORKFLOWS
from tests.store.rows import QUEUE, SHAPE
from tests.store.test_deadlocks import DEADLOCKS
from tests.store.test_plans import Arguments, Measured, judge, measured
from tests.support.invariants import assert_invariants
from tests.support.postgres import Cluster

TABLES = frozenset({"schedule", "schedule_declaration"})
DUE, QUEUED = ROWS, 20
INSTANT = datetime(2026, 1, 1, tzinfo=UTC)

# Of the schedules, DUE are due, and another QUEUED wait for an execution that goes on. Every fourth is declared in code, and
# was declared in other ways before; every tenth is paused.
SCHEDULES = f"""
insert into durable.schedule (name, revision, created_at, created_by, changed_at, changed_by, handled_at, next_at, due_at,
                              last_at, last_execution_id, version, paused, workflow, overlap, catch_up, queued, declaration,
                              rule, input)
select 's' || lpad(n::text, 7, '0'), 1, now(), gen_random_uuid(), now(), gen_random_uuid(), now(), at,
       case when n % 10 <> 0 then at end, now(), lpad(to_hex(n % $2 + 1), 32, '0')::uuid, 1, n % 10 = 0,
       'flow' || (n % {WORKFLOWS} + 1), 'queue', 'all', '{{}}', case when n % 4 = 0 then 'd1' end,
       '{{"every": 3600000000, "offset": 0}}', '{{}}'
  from (select n, now() + (n - {DUE} * 10 / 9) * interval '1 second' as at from generate_series(1, $1::int) as n) as numbered
"""
WAITING = f"""
update durable.schedule set queued = array[now()], last_execution_id = $1 where name in (
    select name from durable.schedule where not paused order by name desc limit {QUEUED})
"""
DECLARATIONS = """
insert into durable.schedule_declaration (name, declaration, first_seen_at, last_seen_at)
select s.name, 'd' || n, now(), now()
  from durable.schedule s
 cross join generate_series(1, 3) as n
 where s.declaration is not null
"""


async def with_schedules(stack: AsyncExitStack, cluster: Cluster, schedules: int, finished: int) -> Measured:
    made = await measured(stack, cluster, finished, 200)
    await made.worker.execute(SCHEDULES, schedules, finished)
    await made.worker.execute(WAITING, made.past.ready[0])
    await made.worker.execute(DECLARATIONS)
    return made


def names(count: int) -> list[str]:
    return [f"s{n:07}" for n in range(1, count * 10, 7) if n % 10 != 0][:count]


def fired(seen: Sequence[tuple[str, int, datetime]], cancelled: Sequence[bool]) -> tuple[Any, ...]:
    """The arguments of `schedule/fire` that start an execution of each, by name, revision and instant."""
    plans, starts = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for (name, revision, instant), cancels in zip(seen, cancelled, strict=True):
        id = f"{name}@{instant}"
        after = instant + timedelta(seconds=1)
        plans.append((name, revision, after, after, instant, "{}", 0, cancels))
        starts.append((name, execution_uuid(id), id, instant, SHAPE, 1, QUEUE, 0, "{}", None, None))
    columns = [*zip(*plans, strict=True), *zip(*starts, strict=True)]
    return (*[list(column) for column in columns], new_token(), "why")


POLICY = ("allow", "all", None, None, None, None, None)


def changed(name: str, revision: int, next_at: datetime = INSTANT, *, paused: bool = False) -> tuple[Any, ...]:
    """The arguments of `schedule/change`."""
    at = (next_at, None if paused else next_at, next_at)
    return (name, revision, new_token(), '{"every": 1}', "{}", *POLICY, paused, None, None, *at)


def put(name: str, revision: int | None, declaration: str | None, next_at: datetime = INSTANT) -> tuple[Any, ...]:
    """The arguments of `schedule/put`."""
    what = (name, revision, new_token(), "flow", 1, '{"every": 1}', "{}")
    return (*what, *POLICY, declaration, False, next_at, next_at, next_at)


MINE = [f"flow{n + 1}" for n in range(WORKFLOWS)]
STATEMENTS: dict[str, Arguments] = {
    "schedule/due": lambda past: (MINE, [1] * WORKFLOWS, ["d1"], [], ROWS),
    "schedule/fire": lambda past: fired([(name, 1, INSTANT) for name in names(ROWS)], [False] * ROWS),
    "schedule/declare": lambda past: (names(ROWS), ["d2"] * ROWS, AWAY_AFTER, True),
    "schedule/put": lambda past: put("s0000021", 1, None),
    "schedule/change": lambda past: changed("s0000021", 1),
    "schedule/delete": lambda past: ("s0000022", ORPHANED_AFTER),
    "schedule/get": lambda past: ("s0000022", ORPHANED_AFTER),
    "schedule/list": lambda past: (None, "s0000100", ORPHANED_AFTER, 50),
}


@pytest.mark.timeout(600)
async def test_no_statement_about_schedules_costs_more_for_many_schedules_or_many_firings(
    postgres_cluster: Cluster, subtests: pytest.Subtests
) -> None:
    async with AsyncExitStack() as stack:
        small = await with_schedules(stack, postgres_cluster, 400, 1_000)
        big = await with_schedules(stack, postgres_cluster, 40_000, 100_000)
        for statistics in ("stale", "fresh"):
            if statistics == "fresh":
                await small.worker.execute("analyze")
                await big.worker.execute("analyze")
            for name, arguments in STATEMENTS.items():
                with subtests.test(name, statistics=statistics):
                    costs = [await at.cost(name, arguments) for at in (small, big)]
                    judge(name, costs[0], costs[1])
                    assert not costs[1].scanned & TABLES


# --- Deadlocks --------------------------------------------------------------------------------------------------------

SCHEDULED = 12
CLIENTS = 8


class Schedulers:
    """Somebody who does to a few schedules whatever is done to schedules, over and over, as the library does."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection = connection
        self.random = random.Random(seed)
        self.done = 0

    def some(self, most: int = SCHEDULED) -> list[str]:
        numbers = self.random.sample(range(SCHEDULED), self.random.randint(1, most))
        return sorted(f"s{n:02}" for n in numbers)

    async def act(self) -> None:
        act = self.random.choice((self.fire, self.fire, self.fire, self.change, self.declare, self.delete, self.end))
        await act()

    async def fire(self) -> None:
        """As two schedulers do: of what both have seen, one advances each."""
        seen = await self.connection.fetch(
            "select name, revision, next_at from durable.schedule where name = any ($1) and not paused order by name",
            self.some(),
        )
        if seen:
            cancelled = [self.random.random() < 0.2 for _ in seen]
            arguments = fired([(row["name"], row["revision"], row["next_at"]) for row in seen], cancelled)
            self.done += len(await rows.run(self.connection, "schedule/fire", *arguments))

    async def change(self) -> None:
        for row in await rows.run(self.connection, "schedule/get", *self.some(1), ORPHANED_AFTER):
            seen = (row["name"], row["revision"], row["next_at"])
            await rows.run(self.connection, "schedule/change", *changed(*seen, paused=self.random.random() < 0.3))

    async def declare(self) -> None:
        mine, declaration = self.some(), f"d{self.random.randint(1, 3)}"
        for row in await rows.run(self.connection, "schedule/declare", mine, [declaration] * len(mine), -1.0, True):
            if row["counts"]:
                taken = put(row["name"], row["revision"], declaration, row["next_at"] or INSTANT)
                await rows.run(self.connection, "schedule/put", *taken)

    async def delete(self) -> None:
        await rows.run(self.connection, "schedule/delete", *self.some(1), -1.0)

    async def end(self) -> None:
        """What a firing has started is cancelled, by whoever carries out what firings have doomed or by a caller."""
        doomed = await rows.run(self.connection, "child/doomed", 10)
        started = await self.connection.fetch("select execution_id from durable.ready order by random() limit 2")
        for row in (*doomed, *started):
            await rows.cancel(self.connection, row["execution_id"], new_token())


@pytest.mark.parametrize("seed", [1, 2])
async def test_schedulers_and_acts_on_schedules_at_once_never_deadlock(database: str, seed: int) -> None:
    async with rows.connections(database, CLIENTS + 1) as (direct, *connections):
        clients = [Schedulers(connection, seed * 1000 + n) for n, connection in enumerate(connections)]

        async def work(client: Schedulers) -> None:
            for _ in range(150):
                await client.act()

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(work(client))
        assert await direct.fetchval(DEADLOCKS) == 0
        assert sum(client.done for client in clients) > 100, "some have fired"
    await assert_invariants(database)
