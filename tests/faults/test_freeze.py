"""Workers that stand still: frozen past the lease, or with an event loop that is blocked."""

from __future__ import annotations

import pytest

from durable import Durable
from tests.support.crew import Crew, Program, first_to_say
from tests.support.flows import blocking, planned, three
from tests.support.ledger import Ledger

LEASE = 1.5


async def _frozen_and_overtaken(
    crew: Crew, client: Durable, ledger: Ledger, second_step: dict[str, object]
) -> tuple[Program, Program]:
    """Freeze a worker in its second step until another has finished the execution, then wake it: (zombie, heir)."""
    workers = await crew.start_two(lease=LEASE)
    handle = await client.start(three, planned(two=second_step), id="order")
    zombie = await first_to_say(workers, "begin", path="two")
    heir = next(worker for worker in workers if worker is not zombie)
    zombie_id, heir_id = await ledger.worker_id(zombie.pid), await ledger.worker_id(heir.pid)
    zombie.stop()
    result = await handle.result(60)
    assert (result["one"], result["two"], result["last"]) == (1, 1, 1)
    journal = await ledger.journal("order")
    zombie.cont()

    # The heir goes, and something that only the zombie can run comes.
    heir.kill()
    await heir.wait()
    other = await client.start(three, {}, id="other")
    assert (await other.result(60))["last"] == 1
    assert {entry.pid for entry in await ledger.entries("other")} == {zombie.pid}

    assert await ledger.journal("order") == journal, "nothing that the zombie wrote counts"
    assert [(r["path"], r["worker_id"]) for r in journal] == [("one", zombie_id), ("two", heir_id), ("last", heir_id)]
    new_id = await ledger.worker_id(zombie.pid)
    assert new_id not in {None, zombie_id, heir_id}
    assert {r["worker_id"] for r in await ledger.journal("other")} == {new_id}
    assert await ledger.begun_after_their_record() == []
    return zombie, heir


async def test_a_frozen_worker_that_was_overtaken_cancels_its_step_and_goes_on_under_a_new_identity(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    zombie, heir = await _frozen_and_overtaken(crew, client, ledger, {"stuck": 1})
    await zombie.message("cancelled", execution="order", path="two")
    assert [(e.what, e.pid) for e in await ledger.entries("order", "two")] == [
        ("begin", zombie.pid),
        ("begin", heir.pid),
        ("end", heir.pid),
        ("cancelled", zombie.pid),
    ]


async def test_a_step_that_ends_as_its_overtaken_worker_wakes_is_not_recorded(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    # The body's pause is over while it is frozen: on waking, its end and the loss of the claim race.
    zombie, _ = await _frozen_and_overtaken(crew, client, ledger, {"hold_first": 1.0})
    assert [e.what for e in await ledger.entries("order", "last") if e.pid == zombie.pid] == []


async def _block(crew: Crew, client: Durable, ledger: Ledger, seconds: float, **options: float) -> None:
    workers = await crew.start_two(**options)
    handle = await client.start(blocking, {"block": seconds}, id="blocked")
    owner = await first_to_say(workers, "begin", path="block")
    identity = await ledger.worker_id(owner.pid)
    assert await handle.result(seconds + 60) == {"block": seconds}
    assert [(e.what, e.attempt, e.pid) for e in await ledger.entries("blocked")] == [
        ("begin", 1, owner.pid),
        ("end", 1, owner.pid),
    ]
    assert [(r["kind"], r["worker_id"]) for r in await ledger.journal("blocked")] == [("completed", identity)]
    assert await ledger.worker_id(owner.pid) == identity, "it was never taken for dead"


async def test_a_step_that_blocks_the_event_loop_longer_than_two_leases_loses_no_lease(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    await _block(crew, client, ledger, 5.0, lease=2)


@pytest.mark.stress
async def test_a_step_that_blocks_the_event_loop_for_15_seconds_at_default_settings_loses_no_lease(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    await _block(crew, client, ledger, 15.0)
