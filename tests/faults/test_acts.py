"""Pauses and retries outlive workers: killed, drained, taken over from."""

from __future__ import annotations

import pytest

from durable import Durable, ExecutionFailed
from tests.support.crew import Crew, first_to_say
from tests.support.flows import flaky, killer, planned, three
from tests.support.ledger import Ledger

LEASE = 1.5


async def test_a_pause_outlives_the_worker_that_is_killed_and_the_one_that_takes_over(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = await crew.start_two(lease=LEASE)
    handle = await client.start(three, planned(two={"gate": "open"}), id="order")
    other = await client.start(three, planned(two={"gate": "open"}))
    victim = await first_to_say(workers, "begin", path="two", execution="order")
    assert await handle.pause("look at it")
    victim.kill()
    await ledger.open_gate("open")
    await other.result(60)  # whoever has taken that over has taken over the paused one, too, or put it aside
    late = await crew.start(lease=LEASE)
    again = await client.start(three, planned(), id="again")
    await again.result(60)
    execution = await client.get_execution("order", include_steps=True)
    assert execution.hold == "paused"
    assert "last" not in {step.path for step in execution.steps or ()}

    assert await handle.resume()
    assert (await handle.result(60))["last"] == 1
    late.terminate()
    assert not await ledger.begun_after_their_record()


async def test_executions_that_are_paused_hold_up_nobody_else(crew: Crew, client: Durable, ledger: Ledger) -> None:
    paused = await client.start_many(three, [planned()] * 300, tags={"who": "paused"})
    result = await client.pause_many(tags={"who": "paused"})
    assert (result.matched, result.changed) == (300, 300)
    await crew.start(lease=LEASE, queues={"default": 5})
    for handle in await client.start_many(three, [planned()] * 20):
        await handle.result(60)
    assert {await handle.status() for handle in paused[:10]} == {"pending"}
    assert (await client.resume_many(tags={"who": "paused"})).changed == 300
    for handle in paused:
        await handle.result(60)


async def test_one_that_is_retried_goes_on_although_the_worker_that_goes_on_with_it_is_killed(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = await crew.start_two(lease=LEASE)
    handle = await client.start(flaky, {"succeeds_at": 5, **planned(sometimes={"attempt": 4, "stuck": 4})}, id="order")
    with pytest.raises(ExecutionFailed):
        await handle.result(60)
    assert await handle.retry()
    victim = await first_to_say(workers, "begin", path="sometimes", attempt=4)
    await ledger.open_gate("never")
    victim.kill()
    assert (await handle.result(60))["attempt"] == 5
    attempts = [entry.attempt for entry in await ledger.entries("order") if entry.what == "begin"]
    assert attempts == [1, 2, 3, 4, 4, 5]


async def test_one_that_was_given_up_because_it_kills_its_workers_can_be_retried(crew: Crew, client: Durable) -> None:
    first = await crew.start(lease=LEASE, max_crashes=1)
    handle = await client.start(killer, {})
    await first.wait()
    await crew.start(lease=LEASE, max_crashes=1)
    with pytest.raises(ExecutionFailed, match="WorkerCrashed"):
        await handle.result(60)
    assert await handle.retry()
    again = await crew.start(lease=LEASE, max_crashes=1)
    with pytest.raises(ExecutionFailed, match="WorkerCrashed"):  # it was tried, and has killed another
        await handle.result(60)
    assert again.pid
