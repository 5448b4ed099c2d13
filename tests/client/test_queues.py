"""What a caller sees of queues: limits, keys, depth, priorities, pauses, and who works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

import durable
from durable import ConfigurationError, Durable, Queue, QueueFull, Rate, UsageError, Workflow, minutes
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

began: list[str] = []
running: list[str] = []
most: dict[str, int] = {}
gate = asyncio.Event()

limited = Workflow[Data, Data]("limited", queue="limited")


@limited.step
async def work(data: Data) -> None:
    name = data["name"]
    began.append(name)
    running.append(data.get("tenant", ""))
    most["all"] = max(most.get("all", 0), len(running))
    for tenant in set(running):
        most[tenant] = max(most.get(tenant, 0), running.count(tenant))
    try:
        await gate.wait()
        await asyncio.sleep(0)
    finally:
        running.remove(data.get("tenant", ""))


family = Workflow[Data, Data]("family")


@family.step
async def call(data: Data) -> Data:
    return await durable.call_workflow(limited, data["child"], **data.get("bearing", {}))


@pytest.fixture(autouse=True)
def fresh() -> None:
    global gate
    began.clear()
    running.clear()
    most.clear()
    gate = asyncio.Event()


@pytest.fixture
async def dsn(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


def engine(dsn: str, queue: Queue | None = None, **options: Any) -> Durable:
    queues = {"default": 10} | ({} if queue is None else {"limited": queue})
    return Durable(dsn, workflows=[limited, family], queues=queues, **options)


def named(*names: str, **more: Any) -> list[Data]:
    return [{"name": name, **more} for name in names]


async def until_began(count: int) -> None:
    async with asyncio.timeout(20):
        while len(began) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Queue(concurrency=-1), "concurrency is -1"),
        (lambda: Queue(global_concurrency=0), "global_concurrency is 0"),
        (lambda: Queue(per_key=True), "per_key is True"),
        (lambda: Queue(max_depth=0), "max_depth is 0"),
        (lambda: Queue(rate=100), "rate is 100"),  # type: ignore[arg-type]
        (lambda: Queue(key="tenant"), "key is 'tenant'"),  # type: ignore[arg-type]
        (lambda: Queue(paused="yes"), "paused is 'yes'"),  # type: ignore[arg-type]
        (lambda: Rate(0, per=minutes(1)), "count is 0"),
        (lambda: Rate(1, per=timedelta(0)), "per is"),
        (lambda: Durable("", queues={"a": 0}), "queues\\['a'\\] is 0"),
        (lambda: Durable("", queues={"a": "5"}), "queues\\['a'\\] is '5'"),  # type: ignore[dict-item]
        (lambda: Durable("", queues={"a": Queue(concurrency=0)}), "would run nothing"),
    ],
)
def test_a_queue_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


async def test_a_queue_with_a_global_concurrency_runs_no_more_of_it_in_two_engines(dsn: str) -> None:
    async with (
        engine(dsn, Queue(concurrency=5, global_concurrency=3)) as one,
        engine(dsn, Queue(concurrency=5, global_concurrency=3)),
    ):
        handles = await one.start_many(limited, named(*"abcdefgh"))
        await until_began(3)
        gate.set()
        await asyncio.gather(*(handle.result(20) for handle in handles))
    assert most["all"] == 3


async def test_a_start_in_a_process_with_free_slots_counts_against_the_limits(dsn: str) -> None:
    async with engine(dsn, Queue(concurrency=5, global_concurrency=1)) as one:
        handles = [await one.start(limited, data) for data in named("a", "b", "c")]
        await until_began(1)
        gate.set()
        await asyncio.gather(*(handle.result(20) for handle in handles))
    assert most["all"] == 1


async def test_limits_declared_by_another_engine_hold_for_one_that_does_not_know_them(dsn: str) -> None:
    async with engine(dsn, Queue()) as old, engine(dsn, Queue(global_concurrency=1), worker=False):
        handles = [await old.start(limited, data) for data in named("a", "b", "c")]
        await until_began(1)
        gate.set()
        await asyncio.gather(*(handle.result(20) for handle in handles))
    assert most["all"] == 1


async def test_what_ran_before_a_limit_was_declared_counts(dsn: str) -> None:
    async with engine(dsn, Queue()) as one:
        first = await one.start(limited, {"name": "first"})
        await until_began(1)
        async with engine(dsn, Queue(global_concurrency=2)) as two:
            rest = await two.start_many(limited, named("a", "b", "c"))
            await until_began(2)
            gate.set()
            await asyncio.gather(*(handle.result(20) for handle in (first, *rest)))
    assert most["all"] == 2


async def test_what_waits_in_a_body_holds_no_slot_of_its_queue(dsn: str) -> None:
    waiting = Workflow[Data, Data]("waiting", queue="limited")

    @waiting.step
    async def waits(data: Data) -> None:
        began.append("waits")
        await durable.wait_for_event("go")

    async with Durable(dsn, workflows=[limited, waiting], queues={"limited": Queue(global_concurrency=1)}) as one:
        sleeper = await one.start(waiting, {})
        await until_began(1)
        gate.set()
        await (await one.start(limited, {"name": "other"})).result(20)
        await sleeper.send_event("go")
        await sleeper.result(20)


async def test_keys_take_turns_and_each_runs_no_more_than_its_limit(dsn: str) -> None:
    queue = Queue(concurrency=4, key=lambda data: data["tenant"], per_key=2)
    async with engine(dsn, queue) as one:
        handles = await one.start_many(limited, named(*"abcdef", tenant="big") + named(*"xyz", tenant="small"))
        await until_began(4)
        assert sorted(running) == ["big", "big", "small", "small"]
        gate.set()
        await asyncio.gather(*(handle.result(20) for handle in handles))
    assert most["big"] == most["small"] == 2


async def test_a_start_without_the_key_of_its_queue_is_refused_and_one_with_a_key_for_none_too(dsn: str) -> None:
    async with (
        engine(dsn) as ignorant,
        engine(dsn, Queue(concurrency=0, key=lambda data: data["tenant"]), worker=False) as knowing,
    ):
        with pytest.raises(UsageError, match="takes turns by key"):
            await ignorant.start(limited, {"name": "a", "tenant": "t"})
        with pytest.raises(UsageError, match="cannot be told from this data: KeyError: 'tenant'"):
            await knowing.start(limited, {"name": "a"})
        with pytest.raises(UsageError, match="has no keys"):
            await ignorant.start(family, {}, key="t")
        with pytest.raises(UsageError, match="cannot be a key"):
            await ignorant.start(limited, {}, key=1.5)  # type: ignore[arg-type]
        await ignorant.start(limited, {"name": "a"}, key="t")
        await knowing.start(limited, {"name": "a", "tenant": 5})
        assert [queue.ready for queue in await knowing.list_queues() if queue.name == "limited"] == [2]


async def test_a_child_takes_its_turn_by_the_key_of_its_queue(dsn: str) -> None:
    gate.set()
    queue = Queue(key=lambda data: data["tenant"], per_key=1)
    async with engine(dsn, queue) as one:
        child = {"name": "a", "tenant": "t"}
        handles = await one.start_many(
            family, [{"child": child}, {"child": child}, {"child": child, "bearing": {"turn": "u"}}]
        )
        await asyncio.gather(*(handle.result(20) for handle in handles))
        connection = await asyncpg.connect(dsn)
        keys = await connection.fetch("select key from durable.execution where workflow = 'limited'")
        await connection.close()
        assert sorted(row["key"] for row in keys) == ["t", "t", "u"]
        wrong = await one.start(family, {"child": child, "bearing": {"turn": "u", "queue": "default"}})
        with pytest.raises(durable.ExecutionFailed, match="has no keys"):
            await wrong.result(20)


async def test_a_full_queue_refuses_starts_but_not_one_that_it_has(dsn: str) -> None:
    queue = Queue(concurrency=0, max_depth=3)
    async with engine(dsn, queue) as one:
        await one.start(limited, {"name": "a"}, id="mine")
        for data in named("b", "c"):
            await one.start(limited, data)
        with pytest.raises(QueueFull, match="'limited' is full"):
            await one.start_many(limited, named("d", "e"))
        with pytest.raises(QueueFull):
            await one.start(limited, {"name": "e"})
        assert not (await one.start(limited, {"name": "a"}, id="mine")).created
        assert (await one.start(limited, {"name": "later"}, delay=minutes(1))).created, "which is not ready yet"
        connection = await asyncpg.connect(dsn)
        with pytest.raises(asyncpg.PostgresError, match="is full"):
            await connection.execute("""select durable.start_execution('limited', '{"name": "f"}')""")
        assert await connection.fetchval("""select durable.start_execution('limited', '{}', id => 'mine')""") == "mine"
        await connection.close()
        gate.set()
        async with engine(dsn, Queue(max_depth=3)):
            await one.handle("mine").result(20)
            await until_began(3)


async def test_what_a_queue_has_already_takes_no_room_in_it(dsn: str) -> None:
    async with engine(dsn, Queue(concurrency=0, max_depth=6)) as one:
        await one.start_many(limited, named("a", "b", "c", "d"), ids=list("abcd"))
        again = await one.start_many(limited, named("a", "b", "c", "d", "e", "f"), ids=list("abcdef"))
        assert [handle.created for handle in again] == [False] * 4 + [True] * 2
        with pytest.raises(QueueFull):
            await one.start(limited, {"name": "g"})
        connection = await asyncpg.connect(dsn)
        later = "select durable.start_execution('limited', '{}', scheduled_at => durable.clock() + interval '1 hour')"
        assert await connection.fetchval(later), "which is not ready yet"
        await connection.close()


async def test_a_start_from_sql_says_the_key(dsn: str) -> None:
    gate.set()
    async with engine(dsn, Queue(key=lambda data: data["tenant"])) as one:
        connection = await asyncpg.connect(dsn)
        with pytest.raises(asyncpg.PostgresError, match="takes turns by key"):
            await connection.execute("""select durable.start_execution('limited', '{"name": "f"}')""")
        id = await connection.fetchval("""select durable.start_execution('limited', '{"name": "f"}', key => 't')""")
        with pytest.raises(asyncpg.PostgresError, match="has no keys"):
            await connection.execute("""select durable.start_execution('family', '{}', key => 't')""")
        await connection.close()
        await one.handle(id).result(20)


async def test_a_point_of_priority_is_worth_a_minute_so_that_nobody_waits_for_ever(dsn: str) -> None:
    async with engine(dsn, Queue(concurrency=0)) as one:
        for name, priority in (("old", 0), ("newer", 0), ("urgent", 1), ("most urgent", 5)):
            await one.start(limited, {"name": name}, priority=priority)
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "update durable.ready set ready_at = ready_at - interval '2 minutes' where execution_id in "
            "(select execution_id from durable.execution where input ->> 'name' = 'old')"
        )
        await connection.close()
        gate.set()
        async with engine(dsn, Queue(concurrency=1)):
            await until_began(4)
    assert began == ["most urgent", "old", "urgent", "newer"]


async def test_a_paused_queue_takes_nothing_up_until_it_is_resumed(dsn: str) -> None:
    gate.set()
    async with engine(dsn, Queue()) as one:
        assert await one.pause_queue("limited", "the model is down", by="ann")
        assert not await one.pause_queue("limited")
        handles = [await one.start(limited, data) for data in named("a", "b")]
        (view,) = [queue for queue in await one.list_queues() if queue.name == "limited"]
        assert (view.paused, view.pause_reason, view.paused_by, view.ready) == (True, "the model is down", "ann", 2)
        await (await one.start(family, {"child": {"name": "c"}}, queue="default")).status()
        assert not began
        assert await one.resume_queue("limited")
        assert not await one.resume_queue("limited")
        await asyncio.gather(*(handle.result(20) for handle in handles))
        (view,) = [queue for queue in await one.list_queues() if queue.name == "limited"]
        assert (view.paused, view.pause_reason, view.paused_by, view.paused_at) == (False, None, None, None)


async def test_a_queue_that_begins_paused_is_paused_once_and_stays_as_people_want_it(dsn: str) -> None:
    gate.set()
    async with engine(dsn, Queue(paused=True)) as one:
        handle = await one.start(limited, {"name": "a"})
        assert [queue.paused for queue in await one.list_queues() if queue.name == "limited"] == [True]
        await one.resume_queue("limited")
        await handle.result(20)
    async with engine(dsn, Queue(paused=True)) as again:
        await (await again.start(limited, {"name": "b"})).result(20)


async def test_limits_that_an_engine_takes_back_hold_no_more(dsn: str) -> None:
    async with engine(dsn, Queue(global_concurrency=1)) as one:
        handles = await one.start_many(limited, named("a", "b", "c"))
        await until_began(1)
        async with engine(dsn, Queue(), worker=False):
            await until_began(3)
        gate.set()
        await asyncio.gather(*(handle.result(20) for handle in handles))


async def test_a_rate_is_not_exceeded_and_used(dsn: str) -> None:
    gate.set()
    async with engine(dsn, Queue(rate=Rate(2, per=timedelta(seconds=0.2)))) as one:
        handles = [await one.start(limited, data) for data in named(*"abcdefg")]
        await asyncio.gather(*(handle.result(20) for handle in handles))
        connection = await asyncpg.connect(dsn)
        counts = await connection.fetch("select count from durable.permit")
        await connection.close()
        assert sum(row["count"] for row in counts) <= 2 + 2, "those that do not count any more are taken away"


async def test_queues_and_workers_are_listed(dsn: str) -> None:
    queue = Queue(concurrency=1, global_concurrency=9, rate=Rate(50, per=minutes(1)), max_depth=7)
    async with engine(dsn, queue) as one:
        handles = await one.start_many(limited, named("a", "b"))
        await until_began(1)
        views = {queue.name: queue for queue in await one.list_queues()}
        assert set(views) == {"default", "limited"}
        view = views["limited"]
        assert (view.ready, view.running, view.held) == (1, 1, 0)
        assert (view.global_concurrency, view.rate, view.max_depth) == (9, Rate(50, per=minutes(1)), 7)
        assert view.oldest_ready_at is not None
        (worker,) = await one.list_workers()
        assert (worker.running, worker.dead) == (1, False)
        assert worker.lease_in > 0
        gate.set()
        await asyncio.gather(*(handle.result(20) for handle in handles))
