"""The plain statements do what the whole ones do, and leave alone what is special: that is for the whole ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from durable.ids import new_token
from durable.store.claims import Claimable, PlainTake, Want, take_plain
from durable.store.connection import Connection, Link
from durable.store.executions import NewExecution
from durable.store.group_commit import GroupCommit
from tests.store import rows
from tests.store.rows import QUEUE, SHAPE, Worker
from tests.support.invariants import assert_invariants

LIMITS: dict[str, list[object]] = {
    "global_concurrency": [1, None, None, None, None, False, False],
    "rate": [None, 10, 60.0, None, None, False, False],
    "max_depth": [None, None, None, None, 0, False, False],
    "keys": [None, None, None, None, None, True, False],
    "paused": [None, None, None, None, None, False, True],
}


@pytest.fixture
async def store(database: str) -> AsyncIterator[Connection]:
    async with rows.connections(database, 1) as (connection,):
        yield connection
    await assert_invariants(database)


async def limit(store: Connection, name: str) -> None:
    await rows.run(store, "queue/declare", [QUEUE], *([value] for value in LIMITS[name]))


def plainly_new(*, token: UUID | None = None) -> NewExecution:
    """A start whose operation is its id, as those are that have generated ids."""
    new = rows.new(token=token)
    new.operation = new.execution_id
    return new


async def taken(dsn: str, worker: Worker, suspects: int = 1) -> PlainTake:
    """What a plain claim takes and says."""
    link = Link(dsn, "test")
    try:
        known = Claimable([SHAPE], [SHAPE], [SHAPE])
        return await take_plain(link, worker.id, new_token(), {QUEUE: Want(10, held=False)}, known, suspects)
    finally:
        await link.close()


def ids(plain: PlainTake) -> list[UUID]:
    return [row["execution_id"] for row in plain.rows]


# --- Starts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with another"])
@pytest.mark.parametrize("name", ["global_concurrency", "rate", "keys"])
async def test_what_is_started_plainly_in_a_queue_with_limits_is_not_claimed_with_its_birth(
    database: str, store: Connection, name: str, alone: bool
) -> None:
    await limit(store, name)
    worker = await Worker().register(store)
    new, other = plainly_new(token=new_token()), plainly_new()
    other.queue = "other"
    async with GroupCommit(database, lanes=1) as commit:
        flush = [new] if alone else [new, other]
        answer, *_ = await asyncio.gather(
            *(commit.write(worker.start_plain, each.execution_id, each.row()) for each in flush)
        )
    assert answer is not None
    assert not answer["claimed"]
    if name == "keys":
        assert answer["refused"] == "key"
    else:
        assert answer["created"]
        assert await rows.places(store, new.execution_id) == ["ready"]


async def test_what_is_started_plainly_in_a_full_queue_is_refused(database: str, store: Connection) -> None:
    await limit(store, "max_depth")
    worker = await Worker().register(store)
    new = plainly_new()
    async with GroupCommit(database, lanes=1) as commit:
        answer = await commit.write(worker.start_plain, new.execution_id, new.row())
    assert answer is not None
    assert (answer["created"], answer["refused"]) == (False, "full")
    assert await rows.places(store, new.execution_id) == []


async def test_of_starts_in_one_flush_those_that_are_plain_are_made_at_once(database: str, store: Connection) -> None:
    await limit(store, "max_depth")
    worker = await Worker().register(store)
    refused, other = plainly_new(), plainly_new()
    other.queue = "other"
    async with GroupCommit(database, lanes=1) as commit:
        answers = await asyncio.gather(
            *(commit.write(worker.start_plain, new.execution_id, new.row()) for new in (refused, other))
        )
    assert [answer and answer["created"] for answer in answers] == [False, True]
    assert await rows.places(store, other.execution_id) == ["ready"]


async def test_a_plain_start_is_stored_as_the_whole_one_stores_it(store: Connection) -> None:
    worker = await Worker().register(store)
    whole, alone, first, second = (plainly_new() for _ in range(4))
    for new in (whole, alone, first, second):
        new.tags, new.timeout, new.priority = '{"a": 1}', 60.0, 5
    await rows.send(store, worker.start, whole.row())
    await rows.send(store, worker.start_plain, alone.row())
    await rows.send(store, worker.start_plain, first.row(), second.row())
    apart = ["execution_id", "started_by", "created_at", "due_at", "deadline_at", "ready_at", "rank"]
    for table in ("execution", "ready"):
        found = await store.fetch(f"select to_jsonb(t) - $1::text[] as t from durable.{table} t", apart)
        assert len(found) == 4
        assert found == found[:1] * 4
    due = await store.fetch("select extract(epoch from deadline_at - due_at)::int as n from durable.execution")
    assert [row["n"] for row in due] == [60] * 4


# --- Claims ----------------------------------------------------------------------------------------------------------


async def _suspect(store: Connection, id: UUID) -> None:
    await store.execute("update durable.ready set crashes = 2 where execution_id = $1", id)


async def _paused_suspect_to_be_undone(store: Connection, id: UUID) -> None:
    await _suspect(store, id)
    await _paused(store, id)
    await store.execute("update durable.execution set undo = 'why' where execution_id = $1", id)


async def _paused(store: Connection, id: UUID) -> None:
    await store.execute("update durable.execution set paused = true where execution_id = $1", id)


async def _held(store: Connection, id: UUID) -> None:
    await store.execute("update durable.ready set held_by = '{99}' where execution_id = $1", id)


@pytest.mark.parametrize(
    ("make", "told"),
    [(_suspect, True), (_paused, True), (_held, False)],
    ids=["a suspect", "a paused one", "a held one"],
)
async def test_a_plain_claim_leaves_the_special_alone_and_says_so(
    database: str, store: Connection, make: Callable[[Connection, UUID], Awaitable[None]], told: bool
) -> None:
    worker = await Worker().register(store)
    special, common = rows.new(), rows.new()
    await rows.send(store, worker.start, special.row(), common.row())
    await make(store, special.execution_id)
    found = await taken(database, worker)
    assert (ids(found), found.special, found.limited) == ([common.execution_id], told, False)
    assert await rows.places(store, special.execution_id) == ["ready"]
    assert await taken(database, worker) == PlainTake([], told, False), "and where there is nothing else"


async def test_a_plain_claim_says_nothing_of_suspects_to_who_may_not_take_any(database: str, store: Connection) -> None:
    worker = await Worker().register(store)
    suspect = rows.new()
    await rows.send(store, worker.start, suspect.row())
    await _suspect(store, suspect.execution_id)
    assert await taken(database, worker, suspects=0) == PlainTake([], False, False)


@pytest.mark.parametrize("name", ["global_concurrency", "rate", "keys", "paused"])
async def test_a_plain_claim_takes_nothing_of_a_queue_with_limits_and_says_so(
    database: str, store: Connection, name: str
) -> None:
    worker = await Worker().register(store)
    new = rows.new()
    await rows.send(store, worker.start, new.row())
    await limit(store, name)
    assert await taken(database, worker) == PlainTake([], False, True)
    assert await rows.places(store, new.execution_id) == ["ready"]


# --- Records and ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["record", "finish"])
async def test_a_plain_write_stores_what_the_whole_one_stores(store: Connection, kind: str) -> None:
    worker = await Worker().register(store)
    for claim, of in zip(await worker.born(store, 2), (kind, f"{kind}_plain"), strict=True):
        row = rows.recorded(*claim) if kind == "record" else rows.finished(*claim)
        assert len(await rows.send(store, getattr(worker, of), row)) == 1
    apart = ["execution_id", "started_by", "released_by", "created_at", "due_at", "recorded_at", "ended_at"]
    for table in ("execution", "journal") if kind == "record" else ("execution", "journal", "ended"):
        found = await store.fetch(f"select to_jsonb(t) - $1::text[] as t from durable.{table} t", apart)
        assert len(found) == 2
        assert found[0] == found[1]


async def test_a_plain_finish_does_not_complete_what_is_to_be_undone(store: Connection) -> None:
    worker = await Worker().register(store)
    undone, given_up = await worker.born(store, 2)
    await rows.run(store, "execution/request_undo", undone[0], new_token(), "why", rows.CANCELLING)
    await store.execute("update durable.execution set given_up = true where execution_id = $1", given_up[0])
    ends = (rows.finished(*claim) for claim in (undone, given_up))
    assert await rows.send(store, worker.finish_plain, *ends) == []
    assert [await rows.places(store, id) for id, _ in (undone, given_up)] == [["claim"]] * 2


async def test_a_plain_record_after_a_crash_clears_what_was_counted(database: str, store: Connection) -> None:
    worker = await Worker().register(store)
    crashed, other = await worker.born(store, 2)
    await store.execute("update durable.claim set crashes = 1")
    async with GroupCommit(database, lanes=1) as commit:
        assert await commit.write(worker.record_plain, crashed[0], rows.recorded(*crashed)) is not None
        assert commit.written == (1, 2), "it is written by the whole statement"
    assert await rows.journal(store, crashed[0]) == [(1, worker.id)]
    counted = await store.fetch("select execution_id, crashes from durable.claim")
    assert {row["execution_id"]: row["crashes"] for row in counted} == {crashed[0]: 0, other[0]: 1}


async def test_a_plain_record_whose_place_another_has_taken_is_refused(store: Connection) -> None:
    worker = await Worker().register(store)
    (claim,) = await worker.born(store)
    first = rows.recorded(*claim)
    assert len(await rows.send(store, worker.record_plain, first)) == 1
    assert len(await rows.send(store, worker.record_plain, first)) == 1, "it finds itself"
    other = (*first[:3], "elsewhere", *first[4:])
    assert await rows.send(store, worker.record_plain, other) == []
    assert await rows.journal(store, claim[0]) == [(1, worker.id)]
