from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    ConfigurationError,
    Durable,
    EncodeError,
    EngineNotRunning,
    IdConflict,
    PayloadTooLarge,
    SeveralEngines,
    Status,
    UnknownExecution,
    UnknownWorkflow,
    UsageError,
    Workflow,
    hours,
    seconds,
)
from tests.client import flows


async def test_an_execution_gives_its_result(engine: Durable) -> None:
    handle = await durable.start(flows.double, 21)
    assert handle.created
    assert await handle.result(timeout=30) == 42
    assert await handle.status() is Status.COMPLETED


async def test_the_same_id_starts_once_and_is_shown_as_given(engine: Durable) -> None:
    first = await engine.start(flows.double, 1, id="Bestellung nº 7")
    second = await engine.start(flows.double, 2, id="Bestellung nº 7")
    assert (first.created, second.created) == (True, False)
    assert await second.result(timeout=30) == 2
    assert (await engine.get_execution("Bestellung nº 7")).id == "Bestellung nº 7"


async def test_a_canonical_uuid_is_its_own_id(engine: Durable) -> None:
    id = "01890a5d-ac96-774b-bcce-b302099a8057"
    handle = await engine.start(flows.double, 1, id=id)
    assert str(handle.execution_id) == handle.id == id


async def test_an_id_of_another_workflow_is_a_conflict(engine: Durable) -> None:
    await engine.start(flows.double, 1, id="taken")
    with pytest.raises(IdConflict, match="'double'"):
        await engine.start(flows.other, 1, id="taken")
    with pytest.raises(IdConflict, match="exists already"):
        await engine.start(flows.double, 1, id="taken", on_conflict="error")


async def test_higher_priority_begins_first_then_the_longest_waiting(engine: Durable) -> None:
    flows.order.clear()
    flows.gate.clear()
    flows.began.clear()
    first = await engine.start(flows.in_line, "first")
    await asyncio.wait_for(flows.began.wait(), 30)  # it occupies the only slot of its queue
    rest = [
        await engine.start(flows.in_line, name, priority=priority)
        for name, priority in (("low", -5), ("normal 1", 0), ("normal 2", 0), ("high", 9))
    ]
    flows.gate.set()
    for handle in (first, *rest):
        await handle.result(timeout=30)
    assert flows.order == ["first", "high", "normal 1", "normal 2", "low"]


async def test_a_start_into_a_queue_that_nobody_serves_waits_there(engine: Durable, database: str) -> None:
    handle = await engine.start(flows.double, 1, queue="elsewhere")
    assert await handle.status() is Status.PENDING
    async with Durable(database, workflows=[flows], queues={"elsewhere": 1}):
        assert await handle.result(timeout=30) == 2


async def test_a_delayed_start_does_not_begin_before_its_time(engine: Durable) -> None:
    handle = await engine.start(flows.double, 1, delay=seconds(0.6))
    assert (await engine.get_execution(handle.id)).wake_at is not None
    await handle.result(timeout=30)
    execution = await engine.get_execution(handle.id, include_steps=True)
    assert execution.steps is not None
    assert execution.due_at is not None
    assert execution.due_at - execution.created_at == timedelta(seconds=0.6)
    assert execution.steps[0].attempts[0].recorded_at >= execution.due_at


async def test_a_scheduled_start_in_the_past_begins_at_once(engine: Durable) -> None:
    handle = await engine.start(flows.double, 1, scheduled_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert await handle.result(timeout=30) == 2


async def test_a_client_without_worker_wakes_the_worker_for_a_delayed_start(engine: Durable, database: str) -> None:
    async with Durable(database, workflows=[flows], worker=False) as client:
        handle = await client.start(flows.double, 4, delay=seconds(0.2))
        assert await handle.result(timeout=30) == 8


async def test_start_many_keeps_the_order_and_the_ids(engine: Durable) -> None:
    handles = await engine.start_many(flows.double, list(range(1200)), ids=[f"n{i}" for i in range(1200)])
    assert [handle.id for handle in handles] == [f"n{i}" for i in range(1200)]
    assert await asyncio.gather(*(handle.result(timeout=60) for handle in handles)) == [2 * i for i in range(1200)]
    again = await engine.start_many(flows.double, [5, 6], ids=["n3", "new"])
    assert [handle.created for handle in again] == [False, True]
    assert await engine.start_many(flows.double, []) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"delay": seconds(1), "scheduled_at": datetime.now(UTC)}, UsageError, "Choose one"),
        ({"scheduled_at": datetime(2030, 1, 1)}, UsageError, "with a time zone"),
        ({"scheduled_at": datetime.max.replace(tzinfo=timezone(-hours(5)))}, UsageError, "a hundred years"),
        ({"scheduled_at": datetime.max.replace(tzinfo=UTC)}, UsageError, "a hundred years"),
        ({"queue": "\ud800"}, UsageError, "surrogates"),
        ({"key": "\ud800"}, UsageError, "surrogates"),
        ({"delay": seconds(-1)}, UsageError, "zero"),
        ({"priority": 40_000}, UsageError, "32767"),
        ({"queue": "a,b"}, UsageError, "comma"),
        ({"id": ""}, UsageError, "cannot be an execution id"),
        ({"id": "a\0b"}, UsageError, "cannot be an execution id"),
        ({"id": "\ud800"}, UsageError, "UTF-8"),
        ({"tags": {"a": float("nan")}}, EncodeError, "tags"),
        ({"tags": {"a": "\0"}}, EncodeError, "cannot hold NUL"),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    engine: Durable, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await engine.start(flows.double, 1, **options)
    assert (await engine.list_executions()).items == []


async def test_a_payload_over_the_limit_is_refused_at_the_call(database: str) -> None:
    async with Durable(database, workflows=[flows], worker=False, max_payload=100) as engine:
        with pytest.raises(PayloadTooLarge, match="100 are allowed"):
            await engine.start(flows.failing, {"text": "é" * 60})


async def test_a_workflow_that_the_engine_was_not_given_is_refused(engine: Durable) -> None:
    stranger: Workflow[int, int] = Workflow("stranger")
    stranger.step(flows.twice)
    with pytest.raises(UnknownWorkflow, match="stranger"):
        await engine.start(stranger, 1)


async def test_module_functions_need_exactly_one_engine(database: str) -> None:
    with pytest.raises(EngineNotRunning, match="Enter one first"):
        await durable.start(flows.double, 1)
    async with Durable(database, workflows=[flows], worker=False) as one:
        async with Durable(database, workflows=[flows], worker=False):
            with pytest.raises(SeveralEngines, match="2 engines"):
                await durable.start(flows.double, 1)
        await durable.start(flows.double, 1)
        with pytest.raises(ConfigurationError, match="running already"):
            await one.__aenter__()
    with pytest.raises(EngineNotRunning):
        await one.start(flows.double, 1)


async def test_a_step_may_start_and_await_another_execution(engine: Durable) -> None:
    handle = await engine.start(flows.nested, 4)
    assert await handle.result(timeout=30) == 8


async def test_an_engine_can_be_entered_again(database: str) -> None:
    engine = Durable(database, workflows=[flows])
    for number in range(2):
        async with engine:
            assert await (await engine.start(flows.double, number)).result(timeout=30) == 2 * number


async def test_an_execution_can_be_started_from_sql(engine: Durable, database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            id = await connection.fetchval("select durable.start_execution('double', '21', id => 'from sql')")
            with pytest.raises(UnknownExecution):
                await engine.get_execution(id)
        assert await engine.handle(id, flows.double).result(timeout=30) == 42
        assert await connection.fetchval("select durable.start_execution('double', '1', id => 'from sql')") == id
        made = await connection.fetchval("select durable.start_execution('double', '2')")
        assert await engine.handle(made).result(timeout=30) == 4
        with pytest.raises(asyncpg.UniqueViolationError, match="one of workflow"):
            await connection.fetchval("select durable.start_execution('other', '1', id => 'from sql')")
        with pytest.raises(asyncpg.UndefinedObjectError, match="no program has registered"):
            await connection.fetchval("select durable.start_execution('nobody', '1')")
        with pytest.raises(asyncpg.InvalidParameterValueError, match="tags are a JSON object"):
            await connection.fetchval("select durable.start_execution('double', '1', tags => 'null')")
        later = await connection.fetchval(
            "select durable.start_execution('holding', '{}', tags => '{\"a\": 1}', priority => 3, "
            "scheduled_at => durable.clock() + '1 hour')"
        )
        execution = await engine.get_execution(later)
        assert (execution.priority, execution.tags, execution.status) == (3, {"a": 1}, Status.PENDING)
        assert execution.due_at is not None
        assert execution.deadline_at == execution.due_at + hours(1)
    finally:
        await connection.close()
