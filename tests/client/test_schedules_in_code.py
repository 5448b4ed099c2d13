"""Schedules, as a caller sees them, on a real database."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    Context,
    Cron,
    DefinitionError,
    Durable,
    Every,
    Queue,
    Schedule,
    Scheduled,
    Workflow,
    days,
    minutes,
    seconds,
)
from durable.errors import IdConflict, QueueFull, UnknownSchedule, UsageError
from tests.support.invariants import assert_invariants

GUARD = 30
NEVER = Cron("0 0 1 1 *")


def daily(rule: Cron | Every | Scheduled | None = None) -> Workflow[Any, Any]:
    workflow = Workflow[Any, Any]("daily", schedule=rule)

    @workflow.step
    async def instant(data: Any, ctx: Context) -> Any:
        return [data, None if ctx.scheduled_for is None else ctx.scheduled_for.isoformat()]

    return workflow


async def fired(engine: Durable, name: str, times: int = 1) -> Schedule:
    async with asyncio.timeout(GUARD):
        while True:
            page = await engine.list_executions(tags={"durable.schedule": name})
            if len(page.items) >= times:
                return await engine.get_schedule(name)
            await asyncio.sleep(0.05)


async def test_two_workers_start_one_execution_for_each_instant(database: str) -> None:
    first, second = daily(), daily()
    async with Durable(database, workflows=[first]) as one, Durable(database, workflows=[second]) as two:
        await one.create_schedule("tick", first, Every(seconds(1)), {"n": 1}, overlap="allow")
        schedule = await fired(two, "tick", 3)
        page = await one.list_executions(tags={"durable.schedule": "tick"})
        ids = [execution.id for execution in page.items]
        assert len(set(ids)) == len(ids)
        assert schedule.last_execution is not None
        data, instant = await one.handle(schedule.last_execution, first).result(GUARD)
        assert data == {"n": 1}
        assert schedule.last_at == datetime.fromisoformat(instant)
        assert all(x.created_at >= datetime.fromisoformat(x.id.removeprefix("tick@")) for x in page.items)
    await assert_invariants(database)


async def test_a_schedule_is_created_changed_paused_resumed_triggered_and_deleted(database: str) -> None:
    workflow = daily()
    async with Durable(database, workflows=[workflow]) as engine:
        await durable.create_schedule("new year", workflow, NEVER, 1, tags={"a": 1})
        with pytest.raises(IdConflict):
            await durable.create_schedule("new year", workflow, NEVER)
        changed = await durable.update_schedule("new year", rule=Every(days(1)), data=2)
        assert (changed.rule, changed.data, changed.tags) == (Every(days(1)), 2, {"a": 1})
        assert changed.next_times(2) == [changed.next_at, changed.next_at and changed.next_at + days(1)]
        paused = await durable.pause_schedule("new year", "holidays", by="ada")
        assert (paused.status, paused.due_at, paused.paused_by) == ("paused", None, "ada")
        handle = await durable.trigger_schedule("new year")
        assert (await handle.result(GUARD))[0] == 2
        resumed = await durable.resume_schedule("new year")
        assert (resumed.status, resumed.due_at, resumed.last_at) == ("active", resumed.next_at, None)
        assert [s.name for s in (await durable.list_schedules(workflow=workflow)).items] == ["new year"]
        await durable.delete_schedule("new year")
        with pytest.raises(UnknownSchedule):
            await engine.get_schedule("new year")


async def test_a_schedule_is_not_triggered_into_a_full_queue(database: str) -> None:
    workflow = daily()
    queues = {"default": Queue(concurrency=0, max_depth=1)}
    async with Durable(database, workflows=[workflow], queues=queues, worker=False) as client:
        await client.create_schedule("new year", workflow, NEVER)
        await client.trigger_schedule("new year")
        with pytest.raises(QueueFull):
            await client.trigger_schedule("new year")


async def test_code_declares_its_schedule_and_a_pause_outlives_a_change_of_it(database: str) -> None:
    async with Durable(database, workflows=[daily(NEVER)]) as engine:
        assert (await engine.get_schedule("daily")).declared
        await engine.pause_schedule("daily")
        for act in (engine.delete_schedule("daily"), engine.update_schedule("daily", data=1)):
            with pytest.raises(UsageError, match="declared in"):
                await act
    async with Durable(database, workflows=[daily(Scheduled(Every(days(1)), data=5))]) as engine:
        schedule = await engine.get_schedule("daily")
        assert (schedule.rule, schedule.data, schedule.status) == (Every(days(1)), 5, "paused")
    async with Durable(database, workflows=[daily(NEVER)]) as engine:  # an old worker that is started again
        assert (await engine.get_schedule("daily")).rule == Every(days(1))


async def test_a_rule_in_code_that_is_changed_back_counts_at_once(database: str) -> None:
    """Unlike that of an old worker which is started again: the old code was away for a while, and the other one was not."""
    before = """update durable.schedule_declaration
                   set first_seen_at = first_seen_at - $1::interval, last_seen_at = last_seen_at - $1"""
    connection = await asyncpg.connect(database)
    async with Durable(database, workflows=[daily(NEVER)]):
        pass
    await connection.execute(before, minutes(10))
    async with Durable(database, workflows=[daily(Scheduled(Every(days(1)), data=5))]) as other:
        assert (await other.get_schedule("daily")).rule == Every(days(1))
        async with Durable(database, workflows=[daily(NEVER)]) as engine:
            assert (await engine.get_schedule("daily")).rule == NEVER
    await connection.close()


async def test_a_schedule_whose_workflow_nobody_knows_waits_for_one_who_does(database: str) -> None:
    workflow, other = daily(), Workflow[Any, Any]("other")

    @other.step
    async def nothing(data: Any) -> None:
        pass

    async with Durable(database, workflows=[workflow], worker=False) as client:
        await client.create_schedule("tick", workflow, Every(seconds(1)))
        async with Durable(database, workflows=[other]) as stranger:
            await stranger.create_schedule("others", other, Every(seconds(1)))
            await fired(stranger, "others", 2)
            assert (await client.get_schedule("tick")).last_at is None
        async with Durable(database, workflows=[workflow]) as engine:
            assert (await fired(engine, "tick")).last_at is not None


def test_data_that_does_not_fit_the_workflow_is_refused() -> None:
    workflow = Workflow[dict[str, int], Any]("typed", schedule=NEVER)

    @workflow.step
    async def nothing(data: dict[str, int]) -> None:
        pass

    with pytest.raises(DefinitionError, match="Scheduled"):
        Durable("postgresql://nowhere", workflows=[workflow])
