"""SIGKILL of a worker: others go on where its journal ends."""

from __future__ import annotations

from datetime import timedelta

from durable import Durable
from durable.errors import StepTimeout
from durable.model.status import Status
from tests.support.crew import Crew, first_to_say
from tests.support.flows import distant, flaky, planned, three, timed
from tests.support.ledger import Ledger

LEASE = 1.5


async def test_a_worker_killed_in_mid_step_is_resumed_by_another(crew: Crew, client: Durable, ledger: Ledger) -> None:
    workers = await crew.start_two(lease=LEASE)
    handle = await client.start(three, planned(two={"stuck": 1}), id="order")
    victim = await first_to_say(workers, "begin", path="two")
    victim.kill()

    result = await handle.result(60)

    heir = next(worker for worker in workers if worker is not victim)
    assert (result["one"], result["two"], result["last"]) == (1, 1, 1)
    entries = await ledger.entries("order")
    assert [(e.path, e.what, e.pid) for e in entries] == [
        ("one", "begin", victim.pid),
        ("one", "end", victim.pid),
        ("two", "begin", victim.pid),
        ("two", "begin", heir.pid),
        ("two", "end", heir.pid),
        ("last", "begin", heir.pid),
        ("last", "end", heir.pid),
    ]
    assert {entry.attempt for entry in entries} == {1}, "a crash is not an attempt"
    journal = await ledger.journal("order")
    assert [(r["path"], r["kind"], r["attempt"]) for r in journal] == [
        ("one", "completed", 1),
        ("two", "completed", 1),
        ("last", "completed", 1),
    ]


async def test_thirty_executions_in_flight_in_a_killed_worker_all_complete_and_no_record_is_computed_again(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    victim = await crew.start(lease=LEASE)
    data = [planned(two={"stuck": 1}) if i % 3 == 0 else planned(last={"hold": 0.02 * i}) for i in range(30)]
    handles = await client.start_many(three, data, ids=[f"order-{i}" for i in range(30)])
    for i in range(0, 30, 3):
        await victim.message("begin", path="two", execution=f"order-{i}")
    victim.kill()
    heir = await crew.start(lease=LEASE)

    for handle in handles:
        result = await handle.result(60)
        assert (result["one"], result["two"], result["last"]) == (1, 1, 1)

    assert await ledger.begun_after_their_record() == []
    for i in range(0, 30, 3):
        assert [(e.what, e.pid) for e in await ledger.entries(f"order-{i}", "one")] == [
            ("begin", victim.pid),
            ("end", victim.pid),
        ]
        assert [e.pid for e in await ledger.entries(f"order-{i}", "two")] == [victim.pid, heir.pid, heir.pid]
    attempts = {r["attempt"] for i in range(30) for r in await ledger.journal(f"order-{i}")}
    assert attempts == {1}


async def test_a_crash_in_the_second_attempt_neither_resets_nor_uses_up_attempts(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = await crew.start_two(lease=LEASE)
    second_run_stays = planned(sometimes={"attempt": 2, "stuck": 2})
    handle = await client.start(flaky, second_run_stays | {"succeeds_at": 3}, id="flaky")
    victim = await first_to_say(workers, "begin", path="sometimes", attempt=2)
    victim.kill()

    assert (await handle.result(60))["attempt"] == 3
    assert [e.attempt for e in await ledger.entries("flaky") if e.what == "begin"] == [1, 2, 2, 3]
    assert [(r["kind"], r["attempt"]) for r in await ledger.journal("flaky")] == [
        ("failed", 1),
        ("failed", 2),
        ("completed", 3),
    ]


async def test_a_retry_in_the_far_future_survives_a_kill_and_holds_no_slot_meanwhile(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    victim = await crew.start(lease=LEASE, queues={"default": 1})
    handle = await client.start(distant, {}, id="distant")
    await victim.message("failed", path="in_an_hour")
    other = await client.start(three, {})
    assert (await other.result(60))["last"] == 1, "the only slot is free while the retry waits"

    asleep = await client.get_execution("distant", include_steps=True)
    assert asleep.status is Status.WAITING
    assert asleep.worker_id is None
    assert asleep.wake_at is not None
    assert asleep.wake_at - asleep.created_at > timedelta(minutes=59)
    (record,) = await ledger.journal("distant")
    assert record["run_at"] == asleep.wake_at

    victim.kill()
    await victim.wait()
    assert await client.get_execution("distant", include_steps=True) == asleep

    await ledger.advance_clock(timedelta(hours=1))
    heir = await crew.start(lease=LEASE, queues={"default": 1})
    assert (await handle.result(60))["attempt"] == 2
    assert [(e.what, e.attempt, e.pid) for e in await ledger.entries("distant")] == [
        ("begin", 1, victim.pid),
        ("failed", 1, victim.pid),
        ("begin", 2, heir.pid),
        ("end", 2, heir.pid),
    ]


async def test_a_step_that_runs_over_its_timeout_is_cancelled_recorded_and_tried_again(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    worker = await crew.start()
    handle = await client.start(timed, planned(quickly={"stuck": 1}), id="timed")
    await worker.message("cancelled", path="quickly", attempt=1)

    assert (await handle.result(60))["attempt"] == 2
    assert await ledger.whats("timed") == ["begin", "cancelled", "begin", "end"]
    steps = (await client.get_execution("timed", include_steps=True)).steps
    assert steps is not None
    (step,) = steps
    failed, completed = step.attempts
    assert failed.error is not None
    assert failed.error.type == f"{StepTimeout.__module__}.StepTimeout"
    assert failed.seconds >= 0.5
    assert completed.status == "completed"
