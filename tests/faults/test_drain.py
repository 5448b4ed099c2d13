"""SIGTERM: what runs may finish, nothing new begins, and the rest is another's at once."""

from __future__ import annotations

from durable import Durable
from tests.support.crew import NO_POLLING, Crew
from tests.support.flows import planned, three
from tests.support.ledger import Ledger

# A lease so long, and no polling: what happens at once was told, not found.
OPTIONS = {"lease": 600, "patch": NO_POLLING}


async def test_a_step_in_mid_flight_finishes_and_the_rest_is_continued_by_another_worker_at_once(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    leaver = await crew.start(**OPTIONS)
    handle = await client.start(three, planned(two={"gate": "let go"}, last={"gate": "asked"}), id="order")
    await leaver.message("begin", path="two")
    heir = await crew.start(**OPTIONS)
    leaver.terminate()
    await leaver.message("draining")
    await ledger.open_gate("let go")

    await heir.message("begin", path="last")
    assert await ledger.crashes("order") == 0
    await ledger.open_gate("asked")
    assert (await handle.result(60))["last"] == 1
    await leaver.message("stopped")
    assert await leaver.wait() == 0
    assert await ledger.worker_id(leaver.pid) is None
    assert [(e.path, e.what, e.attempt, e.pid) for e in await ledger.entries("order")] == [
        ("one", "begin", 1, leaver.pid),
        ("one", "end", 1, leaver.pid),
        ("two", "begin", 1, leaver.pid),
        ("two", "end", 1, leaver.pid),
        ("last", "begin", 1, heir.pid),
        ("last", "end", 1, heir.pid),
    ]


async def test_a_worker_that_drains_begins_nothing_new(crew: Crew, client: Durable, ledger: Ledger) -> None:
    leaver = await crew.start(lease=600)
    held = await client.start(three, planned(two={"gate": "let go"}), id="held")
    await leaver.message("begin", path="two")
    leaver.terminate()
    await leaver.message("draining")
    late = await client.start(three, {}, id="late")
    await ledger.open_gate("let go")
    await leaver.message("stopped")
    assert await leaver.wait() == 0
    assert await ledger.entries("late") == []
    assert await ledger.entries("held", "last") == []

    heir = await crew.start()
    assert (await held.result(60))["last"] == 1
    assert (await late.result(60))["last"] == 1
    assert {e.pid for e in await ledger.entries("late")} == {heir.pid}


async def test_a_step_that_outlasts_the_drain_limit_is_cancelled_and_released_with_no_attempt_used(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    leaver = await crew.start(**OPTIONS, drain=0.5)
    handle = await client.start(three, planned(two={"stuck": 1, "gate": "asked"}), id="order")
    await leaver.message("begin", path="two")
    heir = await crew.start(**OPTIONS)
    leaver.terminate()

    await leaver.message("cancelled", path="two")
    await heir.message("begin", path="two", attempt=1)
    assert await ledger.crashes("order") == 0
    await ledger.open_gate("asked")
    assert (await handle.result(60))["two"] == 1
    await leaver.message("stopped")
    assert await leaver.wait() == 0
    assert await ledger.worker_id(leaver.pid) is None
    assert [(r["path"], r["kind"], r["attempt"]) for r in await ledger.journal("order")] == [
        ("one", "completed", 1),
        ("two", "completed", 1),
        ("last", "completed", 1),
    ]
    assert await ledger.overlapping_bodies() == []
