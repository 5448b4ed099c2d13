"""Logs and hooks when a worker is killed."""

from __future__ import annotations

import asyncio

from durable import Durable, Health, WorkerEvent
from tests.support import flows
from tests.support.crew import Crew
from tests.support.flows import planned, talking
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy

LEASE = 1.5


async def test_what_was_logged_before_a_kill_is_kept_and_somebody_is_told_of_the_lost_worker(
    database: str, crew: Crew, client: Durable, ledger: Ledger
) -> None:
    lost: list[WorkerEvent] = []
    told = asyncio.Event()

    async def tell(event: WorkerEvent) -> None:
        lost.append(event)
        told.set()

    victim = await crew.start(lease=LEASE)
    handle = await client.start(talking, planned(talk={"stuck": 1}), id="order")
    await victim.message("begin", path="talk")
    async with asyncio.timeout(20):
        while not (await client.get_execution("order", include_logs=True)).steps:  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(0.01)
    victim.kill()
    async with Durable(database, workflows=[flows], on_worker_lost=tell):
        await flows.open_ledger(database)
        await handle.result(60)
        async with asyncio.timeout(20):
            await told.wait()
    assert [event.executions for event in lost] == [1]
    execution = await client.get_execution("order", include_logs=True)
    (step,) = execution.steps or ()
    assert [(line.attempt, line.text) for line in step.logs] == [(1, "this is run 1"), (1, "this is run 2")]


async def test_an_engine_says_that_postgresql_does_not_answer_and_that_it_does_again(database: str, crew: Crew) -> None:
    async with Proxy(database) as proxy, Durable(proxy.dsn, workflows=[flows]) as engine:

        async def ready(wanted: bool) -> Health:
            async with asyncio.timeout(60):
                while (health := await engine.health()).ready is not wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            return health

        await ready(True)
        proxy.refuse()
        proxy.sever()
        health = await ready(False)
        assert health.live
        assert health.checks["database"] == "no answer within 2 s"
        assert "durable_up 0" in (await engine.metrics_app().text()).splitlines()
        proxy.accept()
        await ready(True)
