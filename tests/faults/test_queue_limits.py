"""The limits of queues hold over several worker processes, whatever becomes of them. Proven past the engine: by triggers that
write down every claim and every permit, and by the ledger of what bodies did."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from durable import Durable, Queue
from tests.support import flows
from tests.support.crew import Crew, Program
from tests.support.flows import noop, planned, three
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy

LEASE = 1.5
QUEUE = "limited"

WATCH = """
create table public.watched (
    execution_id uuid, key text, token uuid, began timestamptz not null default clock_timestamp(), ended timestamptz
);
create function public.begins() returns trigger language plpgsql as $$
begin
    insert into public.watched (execution_id, key, token) values (new.execution_id, new.key, new.token);
    return null;
end $$;
create function public.ends() returns trigger language plpgsql as $$
begin
    update public.watched set ended = clock_timestamp() where token = old.token and execution_id = old.execution_id;
    return null;
end $$;
create trigger begins after insert on durable.claim for each row execute function public.begins();
create trigger ends after delete on durable.claim for each row execute function public.ends();
create table public.permitted (count int, at timestamptz not null);
create function public.permits() returns trigger language plpgsql as $$
begin
    insert into public.permitted (count, at) values (new.count, new.granted_at);
    return null;
end $$;
create trigger permits after insert on durable.permit for each row execute function public.permits();
"""


@pytest.fixture
async def client(database: str, ledger: Ledger) -> AsyncIterator[Durable]:
    async with Durable(database, workflows=[flows], worker=False) as client:
        await ledger.connection.execute(WATCH)
        yield client


def most_at_once(intervals: Sequence[tuple[datetime, datetime | None]]) -> int:
    """How many intervals overlap at most; an open one lasts for ever."""
    moments = [(began, 1) for began, _ in intervals] + [(ended, -1) for _, ended in intervals if ended is not None]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


async def bodies(ledger: Ledger, killed: dict[int, datetime]) -> list[tuple[datetime, datetime | None]]:
    """When each run of a body began and ended; one of a killed process ended with it."""
    rows = await ledger.connection.fetch("select execution, path, pid, what, at from public.ledger order by id")
    under_way: dict[tuple[str, str, int], datetime] = {}
    found: list[tuple[datetime, datetime | None]] = []
    for row in rows:
        run = (row["execution"], row["path"], row["pid"])
        if row["what"] == "begin":
            under_way[run] = row["at"]
        elif run in under_way:
            found.append((under_way.pop(run), row["at"]))
    return found + [(began, killed.get(pid)) for (_, _, pid), began in under_way.items()]


class Killed:
    """Four workers, of which one is killed again and again, and another started in its place."""

    def __init__(self, crew: Crew, seed: int, **options: Any) -> None:
        self.crew = crew
        self.rng = random.Random(seed)
        self.options = {"lease": LEASE, "max_crashes": 1_000_000, **options}
        self.workers: list[Program] = []
        self.at: dict[int, datetime] = {}

    async def begin(self) -> None:
        self.workers = list(await asyncio.gather(*(self.crew.start(**self.options) for _ in range(4))))

    async def kill_one(self) -> None:
        victim = self.workers.pop(self.rng.randrange(len(self.workers)))
        victim.kill()
        await victim.wait()
        self.at[victim.pid] = datetime.now(UTC)
        self.workers.append(await self.crew.start(**self.options))


async def test_a_global_concurrency_of_five_is_kept_by_four_workers_that_are_killed(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    queues = {QUEUE: {"concurrency": 10, "global_concurrency": 5}}
    workers = Killed(crew, 7, queues=queues)
    await workers.begin()
    handles = await client.start_many(three, [planned(two={"hold": 0.1})] * 120, queue=QUEUE)
    for handle in handles[20:100:20]:
        await handle.result(60)
        await workers.kill_one()
    for handle in handles:
        await handle.result(60)

    claims = await ledger.connection.fetch("select began, ended from public.watched")
    assert most_at_once([(row["began"], row["ended"]) for row in claims]) == 5, "never more, and all that may be"
    assert most_at_once(await bodies(ledger, workers.at)) <= 5
    assert not [row for row in claims if row["ended"] is None], "the grants of the killed came back"


async def test_a_rate_of_a_hundred_a_second_is_kept_by_four_workers_that_are_killed(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = Killed(crew, 8, queues={QUEUE: {"concurrency": 50, "rate": [100, 1.0]}})
    await workers.begin()
    handles = await client.start_many(noop, [{}] * 450, queue=QUEUE)
    for handle in (handles[120], handles[300]):
        await handle.result(60)
        await workers.kill_one()
    for handle in handles:
        await handle.result(60)

    permits = await ledger.connection.fetch("select count, at from public.permitted order by at")
    assert sum(row["count"] for row in permits) >= 450
    for first in permits:
        window = [row["count"] for row in permits if 0 <= (row["at"] - first["at"]).total_seconds() < 1.0]
        assert sum(window) <= 100


async def test_a_key_with_ten_thousand_waiting_delays_anothers_single_one_by_one_execution_at_most(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    options = {"concurrency": 10, "global_concurrency": 1, "key": "tenant"}
    async with Durable(crew.dsn, workflows=[flows], worker=False, queues={QUEUE: queue_of_tenants()}) as starter:
        await starter.start_many(noop, [{"tenant": "big"}] * 10_000, queue=QUEUE)
        await crew.start_two(lease=LEASE, queues={QUEUE: options})
        for n in range(5):
            handle = await starter.start(noop, {"tenant": f"small {n}"}, queue=QUEUE)
            began = await ledger.connection.fetchval("select clock_timestamp()")
            await handle.result(60)
            rows = await ledger.connection.fetch(
                "select key from public.watched "
                "where began > $1 and began <= (select began from public.watched where key = $2)",
                began,
                f"small {n}",
            )
            assert [row["key"] for row in rows].count("big") <= 1


async def test_no_key_runs_more_often_at_once_than_its_limit_though_workers_are_killed(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = Killed(crew, 9, queues={QUEUE: {"concurrency": 20, "key": "tenant", "per_key": 2}})
    await workers.begin()
    data = [planned(two={"hold": 0.05}) | {"tenant": f"t{n % 5}"} for n in range(100)]
    async with Durable(crew.dsn, workflows=[flows], worker=False, queues={QUEUE: queue_of_tenants(2)}) as starter:
        handles = await starter.start_many(three, data, queue=QUEUE)
        for handle in handles[20:80:30]:
            await handle.result(60)
            await workers.kill_one()
        for handle in handles:
            await handle.result(60)

    claims = await ledger.connection.fetch("select key, began, ended from public.watched")
    for n in range(5):
        runs = [(row["began"], row["ended"]) for row in claims if row["key"] == f"t{n}"]
        assert most_at_once(runs) == 2
    assert most_at_once([(row["began"], row["ended"]) for row in claims]) > 2, "keys do not hold up each other"


async def test_a_slot_that_one_worker_frees_is_taken_by_another_that_has_more_to_do(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    """The first serves the queue alone at first; what it frees while it drains goes to the second at once."""
    queues = {QUEUE: {"concurrency": 2, "global_concurrency": 2}}
    first, second = await crew.start_two(lease=LEASE, queues=queues)
    handles = await client.start_many(three, [planned(two={"gate": "open"})] * 6, queue=QUEUE)
    await first_two(ledger)
    first.terminate()
    await first.message("draining")
    await ledger.open_gate("open")
    for handle in handles:
        await handle.result(60)
    claims = await ledger.connection.fetch("select began, ended from public.watched")
    assert most_at_once([(row["began"], row["ended"]) for row in claims]) == 2
    assert second.pid in {row["pid"] for row in await ledger.connection.fetch("select pid from public.ledger")}


async def test_with_every_notification_dropped_a_limited_queue_is_worked_off_by_polling(
    crew: Crew, client: Durable
) -> None:
    queues = {QUEUE: {"concurrency": 5, "global_concurrency": 2, "rate": [10, 0.5]}}
    async with Proxy(crew.dsn) as proxy, Crew(proxy.dsn) as deaf:
        proxy.drop_notifications = True
        await deaf.start_two(lease=LEASE, ledger_dsn=crew.dsn, queues=queues)
        handles = await client.start_many(noop, [{}] * 40, queue=QUEUE)
        for handle in handles:
            await handle.result(60)


async def first_two(ledger: Ledger) -> None:
    begun = "select count(*) from public.ledger where path = 'two' and what = 'begin'"
    while await ledger.connection.fetchval(begun) < 2:  # noqa: ASYNC110 - other processes write it
        await asyncio.sleep(0.01)


def queue_of_tenants(per_key: int | None = None) -> Queue:
    """As the workers are given it, but not served."""
    return Queue(
        concurrency=0, global_concurrency=None if per_key else 1, key=lambda data: data["tenant"], per_key=per_key
    )
