"""What was granted and not used holds up nobody: what is paused, held or refused in queues with limits. Nothing is polled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from durable import Durable, ExecutionFailed, Queue, QueueFull, Rate, Workflow, hours
from tests.support.invariants import assert_invariants

Data = dict[str, Any]
GUARD = 20

work = Workflow[Data, Data]("work", queue="q")


@work.step
async def hold(data: Data) -> None:
    await asyncio.sleep(data.get("hold", 0))


@pytest.fixture
async def dsn(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    for module in ("durable.runtime.supervisor", "durable.app"):
        monkeypatch.setattr(f"{module}.POLL_HEALTHY", 3600.0)
    yield database
    await assert_invariants(database)


def engine(dsn: str, queue: Queue, **options: Any) -> Durable:
    return Durable(dsn, workflows=[work], queues={"q": queue}, **options)


async def execute(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_paused_executions_that_come_first_hold_up_nobody(dsn: str) -> None:
    async with engine(dsn, Queue(global_concurrency=1)) as one:
        await one.pause_queue("q")
        first = [await one.start(work, {}) for _ in range(5)]
        last = await one.start(work, {})
        for handle in first:
            await handle.pause()
        await execute(
            dsn, "update durable.ready set held_by = null, hold_reason = null"
        )  # as those that have just woken
        await one.resume_queue("q")
        await last.result(GUARD)


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "refused"])
async def test_keys_of_what_cannot_be_taken_up_take_no_turns(dsn: str, paused: bool) -> None:
    async with engine(dsn, keyed(0), worker=False) as client:
        for n in range(5):
            handle = await client.start(work, {"tenant": f"a{n}"})
            if paused:
                await handle.pause()
        if not paused:
            own = work.definition.shape
            await execute(dsn, f"update durable.ready set held_by = array[{own}], shape_id = {own}")
        last = await client.start(work, {"tenant": "z"})
        async with engine(dsn, keyed(5)):
            await last.result(GUARD)


def keyed(concurrency: int) -> Queue:
    return Queue(concurrency=concurrency, global_concurrency=1, key=lambda data: data["tenant"])


async def test_what_is_paused_in_a_queue_with_keys_fails_at_its_deadline(dsn: str) -> None:
    async with engine(dsn, keyed(0), worker=False) as client:
        handle = await client.start(work, {"tenant": "a"})
        await handle.pause()
        await execute(
            dsn, "update durable.execution set deadline_at = r.ready_at + interval '1 microsecond' from durable.ready r"
        )
        async with engine(dsn, keyed(5)):
            with pytest.raises(ExecutionFailed, match="DeadlineExceeded"):
                await handle.result(GUARD)


async def test_what_was_put_aside_while_it_was_resumed_goes_on_in_a_queue_with_keys(dsn: str) -> None:
    async with engine(dsn, keyed(0), worker=False) as client:
        handle = await client.start(work, {"tenant": "a"})
        await execute(dsn, "update durable.ready set held_by = '{}', hold_reason = 'paused'")
        async with engine(dsn, keyed(5)):
            await handle.result(GUARD)


async def test_what_was_held_goes_on_as_fast_as_the_limit_allows(dsn: str) -> None:
    async with engine(dsn, Queue(concurrency=0, global_concurrency=1), worker=False) as client:
        handles = await client.start_many(work, [{"hold": 0.05}] * 4)
        await execute(dsn, "update durable.ready set held_by = '{12345}', hold_reason = 'old code'")
        async with engine(dsn, Queue(global_concurrency=1)):
            for handle in handles:
                await handle.result(GUARD)


@pytest.mark.parametrize("error", [asyncpg.InternalServerError("cache lookup failed"), ConnectionError("it is gone")])
async def test_an_error_after_a_claim_loses_no_slot(
    dsn: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with engine(dsn, Queue(concurrency=4, global_concurrency=2)) as one:
        await (await one.start(work, {})).result(GUARD)
        supervisor = one.parts().supervisor
        assert supervisor is not None
        link = supervisor._claimer._link
        fetch, failed = link.fetch, asyncio.Event()

        async def fails_once(query: Any, *arguments: Any) -> Any:
            if "q.paused and exists" in query.sql and not failed.is_set():
                failed.set()
                raise error
            return await fetch(query, *arguments)

        monkeypatch.setattr(link, "fetch", fails_once)
        handle = await one.start(work, {})
        await handle.result(GUARD)
        assert failed.is_set()
        async with asyncio.timeout(GUARD):
            while supervisor._lanes["q"].in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await (await one.start(work, {})).result(GUARD)


async def test_a_depth_refuses_nothing_that_runs_at_once(dsn: str) -> None:
    async with engine(dsn, Queue(concurrency=100, max_depth=3)) as one:
        await (await one.start(work, {})).result(GUARD)
        handles = await asyncio.gather(*(one.start(work, {"hold": 0.1}) for _ in range(10)))
        for handle in handles:
            await handle.result(GUARD)
    async with engine(dsn, Queue(concurrency=0, max_depth=3), worker=False) as client:
        for _ in range(3):
            await client.start(work, {})
        with pytest.raises(QueueFull):
            await client.start(work, {})


async def test_a_rate_that_is_used_up_sets_one_timer(dsn: str) -> None:
    async with engine(dsn, Queue(rate=Rate(1, per=hours(1)))) as one:
        await (await one.start(work, {})).result(GUARD)
        supervisor = one.parts().supervisor
        assert supervisor is not None
        lane, loop = supervisor._lanes["q"], asyncio.get_running_loop()
        for _ in range(20):
            await one.start(work, {})
        async with asyncio.timeout(GUARD):
            while lane.timer is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        timers = {handle for handle in loop._scheduled if handle._callback == supervisor._claimer.nudge}  # type: ignore[attr-defined]
        assert len([handle for handle in timers if not handle.cancelled()]) == 1


async def test_limits_hold_where_the_database_isolates_otherwise_by_default(dsn: str) -> None:
    name = await execute(dsn, "select current_database()")
    await execute(dsn, f"""alter database "{name}" set default_transaction_isolation = 'repeatable read'""")
    async with engine(dsn, Queue(global_concurrency=1)) as one, engine(dsn, Queue(global_concurrency=1)):
        handles = await one.start_many(work, [{"hold": 0.01}] * 20)
        for handle in handles:
            await handle.result(GUARD)
        shown = "show default_transaction_isolation"
        async with one.parts().commit._lanes[0]._link._turn:  # the settings of whoever writes
            connection = one.parts().commit._lanes[0]._link._connection
            assert connection is not None
            assert await connection.fetchval(shown) == "read committed"


async def test_a_limit_whose_engine_died_as_it_was_declared_counts_what_runs(dsn: str) -> None:
    async with engine(dsn, Queue()) as old:
        first = await old.start(work, {"hold": 0.5})
        # As an engine that has died before the claims were counted.
        await execute(
            dsn, "update durable.queue set global_concurrency = 1, declared_at = declared_at - interval '1 hour'"
        )
        async with engine(dsn, Queue(global_concurrency=1)) as new:
            second = await new.start(work, {})
            await second.result(GUARD)
            assert await first.status() == "completed", "it had to end first"
