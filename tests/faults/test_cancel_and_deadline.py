"""Cancellation and deadlines strike from outside: whatever runs in another process stops."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import Durable, ExecutionCancelled, ExecutionFailed
from durable.model.status import Status
from tests.support.crew import NO_POLLING, Crew
from tests.support.flows import limited, planned, three
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy


async def test_cancelling_an_execution_that_runs_in_another_process_cancels_its_body(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    worker = await crew.start(patch=NO_POLLING)
    handle = await client.start(three, planned(two={"stuck": 9}), id="order")
    await worker.message("begin", path="two")

    assert await handle.cancel("changed my mind")
    await worker.message("cancelled", path="two")
    with pytest.raises(ExecutionCancelled, match="changed my mind"):
        await handle.result(60)
    await _has_stayed_cancelled(crew, client, ledger)


async def test_cancelling_reaches_the_body_with_every_notification_lost(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    async with Proxy(crew.dsn) as proxy:
        proxy.drop_notifications = True
        worker = await crew.start(dsn=proxy.dsn, ledger_dsn=crew.dsn)
        handle = await client.start(three, planned(two={"stuck": 9}), id="order")
        await worker.message("begin", path="two")

        assert await handle.cancel()
        await worker.message("cancelled", path="two")
        with pytest.raises(ExecutionCancelled):
            await handle.result(60)
        await _has_stayed_cancelled(crew, client, ledger)
        worker.kill()  # before the proxy goes
        await worker.wait()


async def _has_stayed_cancelled(crew: Crew, client: Durable, ledger: Ledger) -> None:
    """Something else runs to its end, and the cancelled execution stands where it stood."""
    other = await client.start(three, {})
    assert (await other.result(60))["last"] == 1
    execution = await client.get_execution("order")
    assert execution.status is Status.CANCELLED
    assert await ledger.whats("order", "two") == ["begin", "cancelled"]
    assert await ledger.entries("order", "last") == []
    assert [r["path"] for r in await ledger.journal("order")] == ["one"]


async def test_a_deadline_strikes_while_an_execution_waits_for_a_retry(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    await crew.start(patch=NO_POLLING)
    handle = await client.start(limited, {}, id="limited")
    await _ends_at_its_deadline(client, handle.result(60))
    assert await ledger.whats("limited") == ["begin", "failed"]


async def test_a_deadline_strikes_while_a_step_runs_and_cancels_its_body(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    worker = await crew.start(patch=NO_POLLING)
    handle = await client.start(limited, planned(within={"stuck": 9}), id="limited")
    await worker.message("cancelled", path="within")
    await _ends_at_its_deadline(client, handle.result(60))
    assert await ledger.whats("limited") == ["begin", "cancelled"]


async def test_a_deadline_strikes_while_an_execution_is_pending_and_nothing_of_it_begins(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    handle = await client.start(limited, {"succeeds_at": 1}, id="limited")
    await ledger.advance_clock(timedelta(hours=1))
    await crew.start()
    await _ends_at_its_deadline(client, handle.result(60))
    assert await ledger.whats("limited") == []


async def _ends_at_its_deadline(client: Durable, result: object) -> None:
    with pytest.raises(ExecutionFailed) as raised:
        await result  # type: ignore[misc]
    assert raised.value.failure.type == "durable.errors.DeadlineExceeded"
    execution = await client.get_execution("limited")
    assert execution.status is Status.FAILED
    assert execution.ended_at is not None
    assert execution.deadline_at is not None
    assert execution.ended_at >= execution.deadline_at, "no timer fires early"
