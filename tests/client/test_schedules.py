"""What a caller sees of schedules: made in code and by calls, changed, paused, triggered; what happens when firings meet or
are missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    Cron,
    DefinitionError,
    Durable,
    EncodeError,
    Every,
    IdConflict,
    Queue,
    Scheduled,
    UnknownSchedule,
    UsageError,
    Workflow,
    hours,
    minutes,
    seconds,
)
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

ran: list[tuple[Any, datetime | None]] = []
gate = asyncio.Event()

report = Workflow[Data, Data]("report")


@report.step
async def write(data: Data) -> None:
    ran.append((data, durable.context().scheduled_for))
    if data.get("gate"):
        await gate.wait()


typed = Workflow[int, int]("typed")


@typed.step
async def double(n: int) -> int:
    return 2 * n


@pytest.fixture(autouse=True)
def fresh() -> None:
    global gate
    ran.clear()
    gate = asyncio.Event()


@pytest.fixture
async def dsn(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


async def move_clock(dsn: str, to: datetime) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "create or replace function durable.clock() returns timestamptz language sql stable parallel safe "
        f"return statement_timestamp() + make_interval(secs => {(to - datetime.now(UTC)).total_seconds()})"
    )
    await connection.close()


def engine(dsn: str, *workflows: Any, **options: Any) -> Durable:
    return Durable(
        dsn, workflows=workflows or (report, typed), lease=hours(1), **options
    )  # moving the clock ends no lease


async def until_ran(count: int) -> None:
    async with asyncio.timeout(20):
        while len(ran) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


DAY = datetime(2027, 5, 10, 8, 59, 59, tzinfo=UTC)


async def test_a_schedule_starts_executions_that_know_for_when(dsn: str) -> None:
    await move_clock(dsn, DAY)
    async with engine(dsn) as one:
        schedule = await one.create_schedule("daily", report, Cron("0 9 * * *"), {"n": 1}, tags={"team": "a"})
        assert (schedule.status, schedule.declared) == ("active", False)
        assert schedule.next_times(2) == [DAY + timedelta(seconds=1), DAY + timedelta(days=1, seconds=1)]
        await until_ran(1)
        assert ran == [({"n": 1}, datetime(2027, 5, 10, 9, tzinfo=UTC))]
        execution = await one.get_execution("daily@2027-05-10T09:00:00Z")
        assert execution.tags["team"] == "a"
        schedule = await one.get_schedule("daily")
        assert (schedule.last_execution, schedule.next_at) == (execution.id, datetime(2027, 5, 11, 9, tzinfo=UTC))
        with pytest.raises(IdConflict):
            await one.create_schedule("daily", report, Cron("0 9 * * *"), {})
        with pytest.raises(EncodeError):
            await one.create_schedule("typed", typed, Cron("0 9 * * *"), "text")  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            await one.create_schedule("daily 2", report, Cron("0 9 * * *"), {}, queue="a,b")
        with pytest.raises(DefinitionError, match="overlap is"):
            await one.create_schedule("daily 2", report, Cron("0 9 * * *"), {}, overlap="never")  # type: ignore[arg-type]


async def test_a_schedule_is_changed_paused_resumed_triggered_and_deleted(dsn: str) -> None:
    await move_clock(dsn, DAY)
    async with engine(dsn) as one:
        await one.create_schedule("a", report, Every(hours(1)), {"n": 1}, paused=True)
        await one.create_schedule("b", report, Every(hours(1), minutes(30)), {"n": 2})
        assert [schedule.name for schedule in (await one.list_schedules(limit=1)).items] == ["a"]
        page = await one.list_schedules(limit=1)
        assert [schedule.name for schedule in (await one.list_schedules(limit=1, cursor=page.cursor)).items] == ["b"]
        await move_clock(dsn, DAY + hours(2) + minutes(31))
        await one.create_schedule("probe", report, Every(seconds(1)), {"probe": True})
        await until_ran(2)
        assert {"n": 1} not in [data for data, _ in ran], "it is paused"
        handle = await one.trigger_schedule("a")
        await handle.result(20)
        assert ran[-1][0] == {"n": 1} or ({"n": 1} in [data for data, _ in ran])
        schedule = await one.resume_schedule("a")
        assert schedule.next_at == datetime(2027, 5, 10, 12, tzinfo=UTC), (
            "what it would have fired meanwhile it does not"
        )
        schedule = await one.update_schedule("a", rule=Every(hours(5)), data={"n": 3}, priority=7, tags={"x": 1})
        assert (schedule.rule, schedule.data, schedule.priority, schedule.tags) == (
            Every(hours(5)),
            {"n": 3},
            7,
            {"x": 1},
        )
        schedule = await one.update_schedule("a", priority=None, tags=None)
        assert (schedule.rule, schedule.priority, schedule.tags) == (Every(hours(5)), None, {})
        schedule = await one.pause_schedule("a", "not now", by="ann")
        assert (schedule.status, schedule.paused_by, schedule.paused_reason) == ("paused", "ann", "not now")
        await one.delete_schedule("a")
        for call in (
            one.get_schedule,
            one.pause_schedule,
            one.resume_schedule,
            one.trigger_schedule,
            one.delete_schedule,
        ):
            with pytest.raises(UnknownSchedule):
                await call("a")


@pytest.mark.parametrize(
    ("overlap", "started", "left"),
    [("skip", 1, 2), ("allow", 3, 0), ("queue", 1, 0), ("cancel_previous", 1, 2)],
)
async def test_what_a_firing_does_while_the_one_before_goes_on(dsn: str, overlap: Any, started: int, left: int) -> None:
    await move_clock(dsn, DAY)
    async with engine(dsn) as one:
        await one.create_schedule("a", report, Every(hours(1)), {"gate": True}, overlap=overlap, catch_up="all")
        await until_ran(1)
        await move_clock(dsn, DAY + hours(2) + minutes(1))
        one.parts().herald.scheduled()
        async with asyncio.timeout(20):
            while (schedule := await one.get_schedule("a")).next_at != datetime(2027, 5, 10, 12, tzinfo=UTC):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        if overlap == "cancel_previous":
            await until_ran(2)
            assert (await one.get_execution("a@2027-05-10T09:00:00Z")).status == "cancelled"
            assert [at.hour for _, at in ran if at is not None] == [9, 11]
        elif overlap == "queue":
            assert [at.hour for at in schedule.queued] == [10, 11]
            gate.set()
            await until_ran(3)
            assert [at.hour for _, at in ran if at is not None] == [9, 10, 11]
        else:
            await until_ran(started)
            assert len(ran) == started
            assert schedule.skipped == left
        gate.set()


@pytest.mark.parametrize(
    ("catch_up", "window", "hours_of"),
    [
        ("latest", None, [9, 14]),
        ("all", None, [9, 10, 11, 12, 13, 14]),
        ("all", hours(2), [9, 13, 14]),
        ("none", None, [9]),
    ],
)
async def test_what_becomes_of_firings_that_no_worker_was_there_for(
    dsn: str, catch_up: Any, window: timedelta | None, hours_of: list[int]
) -> None:
    await move_clock(dsn, DAY)
    async with engine(dsn) as one:
        await one.create_schedule(
            "a", report, Every(hours(1)), {}, overlap="allow", catch_up=catch_up, catch_up_window=window
        )
        await until_ran(1)
    await move_clock(dsn, DAY + hours(5) + minutes(30))
    async with engine(dsn) as one:
        async with asyncio.timeout(20):
            while (await one.get_schedule("a")).next_at != datetime(2027, 5, 10, 15, tzinfo=UTC):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await until_ran(len(hours_of))
        assert sorted(at.hour for _, at in ran if at is not None) == hours_of


async def test_a_jitter_delays_a_firing_by_the_same_on_every_worker(dsn: str) -> None:
    await move_clock(dsn, DAY)
    async with engine(dsn, worker=False) as one:
        schedule = await one.create_schedule("a", report, Every(hours(1)), {}, jitter=minutes(10))
        assert schedule.next_at is not None
        assert schedule.due_at is not None
        assert timedelta(0) <= schedule.due_at - schedule.next_at < minutes(10)
        again = await one.update_schedule("a", data={"n": 2})
        assert again.due_at == schedule.due_at
        with pytest.raises(DefinitionError, match="jitter is"):
            await one.update_schedule("a", jitter=hours(2))


async def test_a_schedule_in_code_is_kept_and_changed_with_the_code(dsn: str) -> None:
    await move_clock(dsn, DAY)

    def made(schedule: Any) -> Workflow[Data, Data]:
        nightly = Workflow[Data, Data]("nightly", schedule=schedule)
        nightly.step(write)
        return nightly

    async with engine(dsn, made(Scheduled(Cron("0 9 * * *"), data={"v": 1}))) as one:
        await until_ran(1)
        schedule = await one.get_schedule("nightly")
        assert (schedule.declared, schedule.status, schedule.data) == (True, "active", {"v": 1})
        with pytest.raises(UsageError, match="declared in code"):
            await one.update_schedule("nightly", data={})
        with pytest.raises(UsageError, match="Take it out there first"):
            await one.delete_schedule("nightly")
        await one.pause_schedule("nightly", "holidays")
    async with engine(dsn, made(Scheduled(Cron("0 10 * * *"), data={"v": 2}))) as one:
        schedule = await one.get_schedule("nightly")
        assert (schedule.rule, schedule.data, schedule.status) == (Cron("0 10 * * *"), {"v": 2}, "paused")
        await one.resume_schedule("nightly")
    await move_clock(dsn, DAY + hours(3))
    async with engine(dsn) as one:
        await move_clock(dsn, DAY + hours(30))
        schedule = await one.get_schedule("nightly")
        assert schedule.status in ("orphaned", "late")
        await one.delete_schedule("nightly")
        with pytest.raises(UnknownSchedule):
            await one.get_schedule("nightly")
    bad = Workflow[int, int]("bad", schedule=Cron("0 9 * * *"))
    bad.step(double)
    with pytest.raises(DefinitionError, match=r"does not fit|cannot be kept"):
        await engine(dsn, bad).__aenter__()
    with pytest.raises(DefinitionError, match="schedule is '0 9"):
        Workflow("bad", schedule="0 9 * * *")  # type: ignore[arg-type]


async def test_a_scheduled_execution_takes_its_turn_by_the_key_of_its_queue(dsn: str) -> None:
    await move_clock(dsn, DAY)
    queue = Queue(key=lambda data: data["tenant"], per_key=1)
    async with engine(dsn, queues={"default": 5, "keyed": queue}) as one:
        await one.create_schedule("a", report, Every(hours(1)), {"tenant": "t"}, queue="keyed")
        await until_ran(1)
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("select key from durable.execution") == "t"
        await connection.close()
        await (await one.trigger_schedule("a")).result(20)


async def test_a_schedule_outlives_its_engine_and_fires_with_another(dsn: str) -> None:
    await move_clock(dsn, DAY)
    async with engine(dsn, worker=False) as client:
        await client.create_schedule("a", report, Every(hours(1)), {})
    await move_clock(dsn, DAY + minutes(1))
    async with engine(dsn):
        await until_ran(1)
