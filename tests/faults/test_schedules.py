"""Schedules on several workers that are killed, over weeks that the test lets pass: each firing once, and none early."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from durable import Cron, Durable, Every, Schedule, hours, minutes
from tests.support.crew import Crew, Program
from tests.support.flows import noop
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy

LEASE = 1.5
ZONES = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "UTC"]
RULES = [
    "30 1 * * *",
    "30 2 * * *",
    "0 3 * * mon-fri",
    "15 0,12 * * *",
    "0 */6 * * *",
    "45 1 1,15 * *",
    "59 23 * * sun",
    "5 2 28 * *",
]
FIRED = """
select tags ->> 'durable.schedule' as schedule, (tags ->> 'durable.scheduled_for')::timestamptz as instant, created_at, status
  from durable.execution where tags ? 'durable.schedule'
"""


def rules(count: int) -> list[Cron | Every]:
    crons = [
        Cron(RULES[n % len(RULES)], timezone=ZONES[n // len(RULES) % len(ZONES)]) for n in range(count - count // 8)
    ]
    return [*crons, *(Every(hours(7) + minutes(n)) for n in range(count // 8))]


async def set_clock(ledger: Ledger, when: datetime) -> None:
    await ledger.advance_clock(when - datetime.now(UTC))


async def all_are_decided(ledger: Ledger) -> bool:
    """Whether nothing is due any more, and what was started has ended."""
    behind = "select exists (select from durable.schedule where due_at <= durable.clock())"
    going_on = "select exists (select from durable.execution where ended_at is null)"
    return not await ledger.connection.fetchval(behind) and not await ledger.connection.fetchval(going_on)


async def settle(ledger: Ledger) -> None:
    async with asyncio.timeout(120):
        while not await all_are_decided(ledger):  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.05)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "begin", [datetime(2027, 3, 8, tzinfo=UTC), datetime(2027, 10, 18, tzinfo=UTC)], ids=["spring", "autumn"]
)
async def test_two_hundred_schedules_on_three_workers_with_kills_fire_each_once_and_none_early(
    crew: Crew, client: Durable, ledger: Ledger, begin: datetime
) -> None:
    rng = random.Random(begin.month)
    await set_clock(ledger, begin)
    workers: list[Program] = [await crew.start(lease=LEASE, max_crashes=1_000_000) for _ in range(3)]
    schedules: list[Schedule] = [
        await client.create_schedule(
            f"s{n}", noop, rule, {}, overlap="allow", catch_up="all", catch_up_window=timedelta(days=60)
        )
        for n, rule in enumerate(rules(200))
    ]
    end = now = begin
    for week in range(4):
        now = begin + timedelta(days=7 * week)
        for _ in range(3):
            now += timedelta(hours=rng.uniform(40, 56))
            await set_clock(ledger, now)
            if rng.random() < 0.5:
                victim = workers.pop(rng.randrange(3))
                victim.kill()
                workers.append(await crew.start(lease=LEASE, max_crashes=1_000_000))
            await settle(ledger)
    end = await ledger.connection.fetchval("select durable.clock()")
    await settle(ledger)

    fired = await ledger.connection.fetch(FIRED)
    assert not [row for row in fired if row["created_at"] < row["instant"]], "none early"
    got = sorted((row["schedule"], row["instant"]) for row in fired)
    last = await ledger.connection.fetchval("select max(handled_at) from durable.schedule")
    wanted: list[tuple[str, datetime]] = []
    for schedule in schedules:
        created = schedule.created_at
        assert schedule.next_at is not None
        instant = schedule.next_at
        while instant is not None and instant <= last:
            assert instant > created
            if instant <= end or (schedule.name, instant) in got:
                wanted.append((schedule.name, instant))
            instant = schedule.rule.next_after(instant)
    assert got == sorted(wanted)
    assert len(got) > 3_000
    assert {row["status"] for row in fired} == {"completed"}


async def test_a_schedule_fires_though_every_notification_is_dropped(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    async with Proxy(crew.dsn) as proxy, Crew(proxy.dsn) as deaf:
        proxy.drop_notifications = True
        await deaf.start_two(lease=LEASE, ledger_dsn=crew.dsn)
        await client.create_schedule("often", noop, Every(timedelta(seconds=1)), {}, overlap="allow")
        async with asyncio.timeout(60):
            while await ledger.connection.fetchval(f"select count(*) from ({FIRED}) as fired") < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
