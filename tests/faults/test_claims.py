"""What a worker claims of a backlog, and what a claim brings along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import durable
from durable import Durable, Handle, Queue, Status, Workflow
from durable.runtime.claimer import Claimer, Lane
from durable.store.claims import Claimable, Want
from durable.store.queries import load
from tests.faults.in_process import GUARD, settled, until
from tests.store import rows
from tests.support.proxy import Fault, Proxy


async def asleep(handle: Handle[Any]) -> bool:
    """Whether its suspension is committed: what is sent before makes it ready once more."""
    return await handle.status() is Status.WAITING


async def double(n: int) -> int:
    return 2 * n


@durable.workflow
async def gathers(data: dict[str, int]) -> dict[str, Any]:
    doubled = [await durable.run(double, n) for n in range(data["calls"])]
    await durable.wait_for_event("go")
    return {"doubled": doubled, "events": [await durable.wait_for_event("more") for _ in range(data["events"])]}


@pytest.mark.parametrize(("calls", "events"), [(3, 3), (25, 3), (3, 25), (25, 25), (19, 0), (20, 0)])
async def test_what_is_woken_is_read_with_its_claim_unless_it_is_long(database: str, calls: int, events: int) -> None:
    async with (
        Proxy(database) as proxy,
        Durable(database, workflows=[gathers], worker=False) as client,
        Durable(proxy.dsn, workflows=[gathers]) as worker,
    ):
        await settled(worker)
        handle = await client.start(gathers, {"calls": calls, "events": events})
        await until(lambda: asleep(handle), "its suspension")
        await settled(worker)
        for n in range(events):
            await client.send_event(handle.id, "more", n)
        proxy.reset()
        await client.send_event(handle.id, "go", None)
        assert await handle.result(GUARD) == {
            "doubled": [2 * n for n in range(calls)],
            "events": list(range(events)),
        }
        read = [proxy.count(load(name).sql) for name in ("journal/read", "message/read")]
    # The wait is a record, too, and the event that ends it a message.
    assert read == [int(calls + 1 >= 20), int(events + 1 >= 20)]


@pytest.mark.parametrize("name", ["journal/read", "message/read"])
@pytest.mark.parametrize("cut", [Proxy.cut_before, Proxy.cut_after_commit])
async def test_what_is_long_is_read_once_more_when_the_reply_is_lost(
    database: str, cut: Callable[[Proxy, str], Fault], name: str
) -> None:
    async with (
        Proxy(database) as proxy,
        Durable(database, workflows=[gathers], worker=False) as client,
        Durable(proxy.dsn, workflows=[gathers]) as worker,
    ):
        await settled(worker)
        handle = await client.start(gathers, {"calls": 25, "events": 25})
        await until(lambda: asleep(handle), "its suspension")
        for n in range(25):
            await client.send_event(handle.id, "more", n)
        fault = cut(proxy, load(name).sql)
        await client.send_event(handle.id, "go", None)
        result = await handle.result(GUARD)
    assert fault.struck == 1
    assert result == {"doubled": [2 * n for n in range(25)], "events": list(range(25))}


async def test_a_claimer_that_is_never_idle_looks_at_all_queues_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = {"busy": Lane("busy", 1), "quiet": Lane("quiet", 1, backlog=False)}
    claimer = Claimer("", lanes, Claimable([], [], []), lambda: None, lambda: 0, pytest.fail, set(), lambda: 0.02)
    seen = asyncio.Event()

    async def claims(wants: dict[str, Want]) -> None:
        claimer.nudge("busy")  # there is always more
        if "quiet" in wants:
            seen.set()
        await asyncio.sleep(0)

    async def reads() -> None:
        claimer._limits_changed = False

    claimer.nudge("busy")
    monkeypatch.setattr(claimer, "_claim", claims)
    monkeypatch.setattr(claimer, "_read_limits", reads)
    running = asyncio.create_task(claimer.run())
    try:
        async with asyncio.timeout(GUARD):
            await seen.wait()
    finally:
        claimer.stop()
        await running


@pytest.mark.parametrize("queue", [200, Queue(concurrency=200, global_concurrency=200)], ids=["plain", "limited"])
async def test_a_worker_with_a_backlog_runs_one_suspect_at_a_time(
    database: str, monkeypatch: pytest.MonkeyPatch, queue: int | Queue
) -> None:
    monkeypatch.setattr("durable.runtime.claimer.AT_ONCE", 20)
    read_limits, looks = Claimer._read_limits, list[int]()

    async def read_once(self: Claimer) -> None:  # a question between two claims would give the first one time to begin
        looks.append(1)
        if len(looks) == 1:
            await read_limits(self)
        self._limits_changed = False

    monkeypatch.setattr(Claimer, "_read_limits", read_once)
    gate = asyncio.Event()
    flow = Workflow[Any, Any]("flow")

    @flow.step
    async def waits() -> None:
        await gate.wait()

    async with Durable(database, workflows=[flow], worker=False) as client:
        handles = await client.start_many(flow, [None] * 100)
    suspects = [handle.id for handle in handles[:10]]
    async with rows.connections(database, 1) as (direct,):
        await direct.execute("update durable.ready set crashes = 2 where execution_id::text = any ($1)", suspects)
        async with Durable(database, workflows=[flow], queues={"default": queue}) as worker:
            await until(lambda: claimed(worker) >= 91, "all but the other suspects")
            assert await direct.fetchval("select count(*) from durable.claim where crashes >= 2") == 1
            gate.set()
            await asyncio.gather(*(worker.handle(handle.id).result(GUARD) for handle in handles))


def claimed(worker: Durable) -> int:
    """How many it runs; -1 while a claim is under way."""
    supervisor = worker.parts().supervisor
    assert supervisor is not None
    return -1 if supervisor.under_way else sum(lane.in_flight for lane in supervisor._lanes.values())
