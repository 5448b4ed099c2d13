"""Which executions a crash counts against, and which may run beside each other after it: the rule, at its statements.

An execution with two crashes or more is a suspect. What `runtime/reaper` does is done here by hand, in the same order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import pytest

from durable.ids import new_token
from durable.store.connection import Connection, Row, connect
from tests.store.rows import QUEUE, SHAPE, WAKING, Worker, new, recorded, run, send, suspended

OTHER = "other"


@pytest.fixture
async def store(database: str, invariants: None) -> AsyncIterator[Connection]:
    connection = await connect(database, "test")
    try:
        yield connection
    finally:
        await connection.close()


async def _crashes(store: Connection, place: str) -> dict[UUID, int]:
    rows = await store.fetch(f"select execution_id, crashes from durable.{place}")
    return {row["execution_id"]: row["crashes"] for row in rows}


async def _born(store: Connection, worker: Worker, *crashes: int) -> list[tuple[UUID, UUID]]:
    """Executions in flight in *worker*, with so many crashes each: ids and tokens."""
    born = await worker.born(store, len(crashes))
    for (execution_id, _), count in zip(born, crashes, strict=True):
        await store.execute("update durable.claim set crashes = $2 where execution_id = $1", execution_id, count)
    return born


async def _crash(store: Connection, worker: Worker, page: int = 500) -> None:
    """The worker dies, and is reaped."""
    await store.execute(
        "update durable.worker set lease_expires_at = durable.clock() - interval '1 second' where worker_id = $1",
        worker.id,
    )
    (buried,) = await run(store, "worker/bury", worker.id)
    while len(await run(store, "claim/reap", worker.id, buried["suspects_in_flight"], page, True)) == page:
        pass
    assert await run(store, "worker/remove", worker.id), "it holds nothing any more"


async def _ready(store: Connection, *crashes: int, queue: str = QUEUE) -> list[UUID]:
    """Executions that are ready, in this order, with so many crashes each."""
    ids: list[UUID] = []
    for count in crashes:
        execution = new()
        execution.queue = queue
        await send(store, Worker().start, execution.row())
        await store.execute(
            "update durable.ready set crashes = $2 where execution_id = $1", execution.execution_id, count
        )
        ids.append(execution.execution_id)
    return ids


async def _take(store: Connection, wants: Mapping[str, int], suspects: int) -> list[Row]:
    owner = await Worker().register(store)
    looks = [True] * len(wants)
    arguments = (owner.id, new_token(), list(wants), list(wants.values()), [SHAPE], suspects, [SHAPE], [SHAPE], looks)
    return await run(store, "claim/take", *arguments)


async def test_a_first_crash_counts_against_all_that_was_in_flight(store: Connection) -> None:
    worker = await Worker().register(store)
    born = await _born(store, worker, 0, 0, 0)
    await _crash(store, worker)
    assert await _crashes(store, "ready") == {execution_id: 1 for execution_id, _ in born}
    assert await _crashes(store, "claim") == {}


@pytest.mark.parametrize("page", [500, 1])
async def test_a_crash_counts_against_those_only_that_had_crashed_before(store: Connection, page: int) -> None:
    worker = await Worker().register(store)
    born = await _born(store, worker, 0, 2, 0, 1)
    await _crash(store, worker, page)
    assert [(await _crashes(store, "ready"))[execution_id] for execution_id, _ in born] == [0, 3, 0, 2]


async def test_a_crash_counts_the_same_when_the_reaper_dies_halfway_and_another_goes_on(store: Connection) -> None:
    worker = await Worker().register(store, lease=-1)
    born = await _born(store, worker, 2, 0, 0)
    (buried,) = await run(store, "worker/bury", worker.id)
    assert len(await run(store, "claim/reap", worker.id, buried["suspects_in_flight"], 1, True)) == 1
    await _crash(store, worker)
    assert [(await _crashes(store, "ready"))[execution_id] for execution_id, _ in born] == [3, 0, 0]


async def test_a_record_clears_the_crashes_of_its_execution_alone(store: Connection) -> None:
    worker = await Worker().register(store)
    (cleared, token), (other, _) = await _born(store, worker, 2, 1)
    assert await send(store, worker.record, recorded(cleared, token))
    assert await _crashes(store, "claim") == {cleared: 0, other: 1}
    await _crash(store, worker)
    assert await _crashes(store, "ready") == {cleared: 0, other: 2}


async def test_a_record_that_is_sent_again_after_a_takeover_clears_nothing(store: Connection) -> None:
    worker = await Worker().register(store)
    ((execution_id, token),) = await _born(store, worker, 1)
    await _crash(store, worker)
    heir = await Worker().register(store)
    assert len(await heir.take(store)) == 1
    assert await send(store, worker.record, recorded(execution_id, token)) == []
    assert await _crashes(store, "claim") == {execution_id: 2}


async def test_giving_claims_back_counts_no_crash_and_forgets_none(store: Connection) -> None:
    worker = await Worker().register(store)
    (released, token), (other, _) = await _born(store, worker, 0, 1)
    assert await send(store, worker.release, (released, token))
    assert len(await run(store, "claim/release_all", worker.id, 500, [])) == 1
    assert await _crashes(store, "ready") == {released: 0, other: 1}


async def test_a_sleep_forgets_the_crashes(store: Connection) -> None:
    # It is put to sleep by a record, which shows that the execution does not kill its workers.
    worker = await Worker().register(store)
    ((execution_id, token),) = await _born(store, worker, 2)
    assert await send(store, worker.suspend, suspended(execution_id, token, delay=-1.0))
    await run(store, "wake/fire", 500, WAKING)
    assert await _crashes(store, "ready") == {execution_id: 0}


async def test_a_worker_whose_lease_holds_is_not_buried(store: Connection) -> None:
    worker = await Worker().register(store)
    await _born(store, worker, 0)
    assert await run(store, "worker/bury", worker.id) == []
    assert await run(store, "worker/remove", worker.id) == [], "it holds something"


async def test_a_worker_takes_one_suspect_at_a_time_and_fills_up_with_others(store: Connection) -> None:
    first, _, _, *innocent = await _ready(store, 2, 3, 2, 0, 1, 0)
    taken = await _take(store, {QUEUE: 10}, suspects=1)
    assert {row["execution_id"] for row in taken} == {first, *innocent}
    assert await _crashes(store, "claim") == {row["execution_id"]: row["crashes"] for row in taken}


async def test_a_worker_that_runs_a_suspect_takes_no_other(store: Connection) -> None:
    _, innocent = await _ready(store, 2, 1)
    taken = await _take(store, {QUEUE: 10}, suspects=0)
    assert [row["execution_id"] for row in taken] == [innocent]


async def test_a_suspect_takes_a_slot_of_its_queue_and_of_no_other(store: Connection) -> None:
    (suspect,) = await _ready(store, 2)
    mine = await _ready(store, 0, 0, 0)
    others = await _ready(store, 0, 0, 0, queue=OTHER)
    taken = await _take(store, {QUEUE: 2, OTHER: 2}, suspects=1)
    assert {row["execution_id"] for row in taken} == {suspect, mine[0], *others[:2]}


async def test_a_suspect_of_a_queue_that_is_not_asked_for_is_left_alone(store: Connection) -> None:
    await _ready(store, 2, queue=OTHER)
    assert await _take(store, {QUEUE: 2}, suspects=1) == []


async def test_a_suspect_that_was_held_is_still_taken_one_at_a_time(store: Connection) -> None:
    first, second, innocent = await _ready(store, 2, 2, 1)
    await store.execute("update durable.ready set held_by = array[$1::int8]", SHAPE + 1)
    assert {row["execution_id"] for row in await _take(store, {QUEUE: 10}, suspects=0)} == {innocent}
    assert [row["execution_id"] for row in await _take(store, {QUEUE: 10}, suspects=1)] == [first]
    assert [row["execution_id"] for row in await _take(store, {QUEUE: 10}, suspects=1)] == [second]
