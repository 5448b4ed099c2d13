"""A timer that only the worker knew which set it is another's when that worker goes, however it goes."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, Handle, Workflow, seconds
from durable.runtime import claimer
from tests.support.crew import NO_POLLING, Crew
from tests.support.flows import Data, flaky, planned
from tests.support.ledger import Ledger
from tests.support.processes import Program


async def _asleep(crew: Crew, client: Durable, ledger: Ledger, lease: float) -> tuple[Program, Program, Handle[Data]]:
    """A worker that has put an execution to sleep for half a second, and one that has not been told of it."""
    leaver = await crew.start(lease=lease, patch=NO_POLLING)
    handle = await client.start(flaky, planned(sometimes={"gate": "fail", "attempt": 1}), id="order")
    await leaver.message("begin")
    heir = await crew.start(lease=lease, patch=NO_POLLING)
    await ledger.open_gate("fail")
    await leaver.message("failed")
    async with asyncio.timeout(30):
        while await handle.status() == "running":  # noqa: ASYNC110 - only PostgreSQL knows
            await asyncio.sleep(0.005)
    return leaver, heir, handle


async def test_a_retry_that_a_killed_worker_had_put_off_is_made_by_another_without_polling(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    leaver, heir, handle = await _asleep(crew, client, ledger, lease=1)
    leaver.kill()
    assert (await handle.result(60))["attempt"] == 2
    assert [entry.pid for entry in await ledger.entries("order")] == [leaver.pid] * 2 + [heir.pid] * 2


async def test_a_retry_that_a_drained_worker_had_put_off_is_made_by_another_without_polling(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    leaver, heir, handle = await _asleep(crew, client, ledger, lease=600)
    leaver.terminate()
    assert (await handle.result(60))["attempt"] == 2
    assert [entry.pid for entry in await ledger.entries("order")] == [leaver.pid] * 2 + [heir.pid] * 2


async def test_a_claim_under_way_that_finds_nothing_does_not_hold_up_a_drain(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Workflow[Data, Data]("idle")

    @idle.step
    async def nothing(data: Data) -> None: ...

    claiming, stopping = asyncio.Event(), asyncio.Event()
    take, stop = claimer.take, claimer.Claimer.stop

    async def slow_take(*args: object, **options: object) -> object:
        claiming.set()
        await stopping.wait()
        return await take(*args, **options)  # type: ignore[arg-type]

    def told_stop(self: claimer.Claimer) -> None:
        stop(self)
        stopping.set()

    monkeypatch.setattr(claimer, "take", slow_take)
    monkeypatch.setattr(claimer.Claimer, "stop", told_stop)
    async with asyncio.timeout(60), Durable(database, workflows=[idle], drain=seconds(600)):
        await claiming.wait()
