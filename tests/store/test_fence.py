"""Law 2: at most one worker's writes count. Two orders of every race between a write and a takeover, and the takeover while
the write's transaction is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import asyncpg
import pytest

from durable.ids import new_token
from durable.store.claims import read_journals
from durable.store.connection import Connection, Link
from durable.store.group_commit import GroupCommit, Kind
from tests.store import rows
from tests.store.rows import Worker
from tests.support.invariants import assert_invariants
from tests.support.proxy import Proxy

GUARD = 20

Written = Callable[[Worker, tuple[UUID, UUID]], tuple[Kind, tuple[object, ...]]]

WRITES: dict[str, Written] = {
    "record": lambda worker, claim: (worker.record, rows.recorded(*claim)),
    "finish": lambda worker, claim: (worker.finish, rows.finished(*claim)),
    "suspend": lambda worker, claim: (worker.suspend, rows.suspended(*claim)),
    "release": lambda worker, claim: (worker.release, claim),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


@pytest.fixture(autouse=True, params=[False, True], ids=["whole", "plainly"])
def plainly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each law holds for both statements of those for which there are two."""
    monkeypatch.setattr(Worker, "plainly", request.param)


@pytest.fixture
async def three(database: str) -> AsyncIterator[list[Connection]]:
    """Connections for the old worker, the reaper and the new worker. The laws hold at the end."""
    async with rows.connections(database, 3) as opened:
        yield opened
    await assert_invariants(database)


async def take_over(connection: Connection, dead: UUID) -> Worker:
    """Reap a worker, and claim what it had for another one."""
    await rows.run(connection, "worker/bury", dead)
    assert await rows.run(connection, "claim/reap", dead, False, 500, True)
    heir = await Worker().register(connection)
    assert await heir.take(connection)
    return heir


async def blocked(connection: Connection, waiter: Connection) -> None:
    """Return when *waiter* waits for a lock, as another connection sees it."""
    pid = waiter.get_server_pid()
    async with asyncio.timeout(GUARD):
        while not await connection.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def seen_by_heir(dsn: str, execution_id: UUID) -> list[int]:
    """What the new owner reads of the journal after its claim."""
    link = Link(dsn, "heir")
    try:
        return [row["seq"] for row in (await read_journals(link, [execution_id]))[execution_id]]
    finally:
        await link.close()


@every_write
async def test_a_write_that_arrives_after_a_takeover_is_refused(
    database: str, three: list[Connection], write: Written
) -> None:
    direct = three[0]
    old = await Worker().register(direct, -1.0)
    (claim,) = await old.born(direct)
    kind, row = write(old, claim)
    async with Proxy(database) as proxy, GroupCommit(proxy.dsn, lanes=1) as commit:
        held = proxy.hold(lambda sql: sql == kind.query.sql)
        answer = commit.write(kind, claim[0], row)
        await held
        heir = await take_over(direct, old.id)
        held.release()
        assert await answer is None
    assert await rows.journal(direct, claim[0]) == []
    assert await rows.places(direct, claim[0]) == ["claim"]
    assert await direct.fetchval("select owner from durable.claim") == heir.id


@every_write
async def test_a_write_that_arrives_after_its_claim_was_given_back_and_taken_is_refused(
    three: list[Connection], write: Written
) -> None:
    direct = three[0]
    old = await Worker().register(direct)
    (claim,) = await old.born(direct)
    assert await rows.send(direct, old.release, claim)
    heir = await Worker().register(direct)
    assert await heir.take(direct)
    kind, row = write(old, claim)
    assert await rows.send(direct, kind, row) == []
    assert await rows.journal(direct, claim[0]) == []
    assert await direct.fetchval("select owner from durable.claim") == heir.id, "no crash was counted"


async def test_a_record_that_came_before_the_takeover_is_in_the_new_owners_journal(
    database: str, three: list[Connection]
) -> None:
    direct = three[0]
    old = await Worker().register(direct, -1.0)
    (claim,) = await old.born(direct)
    async with Proxy(database) as proxy, GroupCommit(proxy.dsn, lanes=1) as commit:
        held = proxy.hold_reply(lambda sql: sql == old.record.query.sql)
        answer = commit.write(old.record, claim[0], rows.recorded(*claim))
        await held
        await take_over(direct, old.id)
        assert await seen_by_heir(database, claim[0]) == [1]
        held.release()
        assert await answer is not None


async def test_a_record_is_refused_when_it_is_sent_again_after_a_takeover_and_there_once(
    database: str, three: list[Connection]
) -> None:
    # The reply was lost; when it is sent again, the claim is gone. The record counts, and the old worker lets go.
    direct = three[0]
    old = await Worker().register(direct, -1.0)
    (claim,) = await old.born(direct)
    row = rows.recorded(*claim)
    assert await rows.send(direct, old.record, row)
    heir = await take_over(direct, old.id)
    assert await rows.send(direct, old.record, row) == []
    assert await rows.journal(direct, claim[0]) == [(1, old.id)]
    token = await direct.fetchval("select token from durable.claim")
    whole = heir.record.otherwise or heir.record  # a crash is counted
    assert await rows.send(direct, whole, rows.recorded(claim[0], token, 2))
    assert await rows.journal(direct, claim[0]) == [(1, old.id), (2, heir.id)]


async def test_a_takeover_waits_for_a_record_that_is_being_written(database: str, three: list[Connection]) -> None:
    writer, reaper, watcher = three
    old = await Worker().register(watcher, -1.0)
    (claim,) = await old.born(watcher)
    async with writer.transaction():
        assert await rows.send(writer, old.record, rows.recorded(*claim))
        taking = asyncio.create_task(take_over(reaper, old.id))
        await blocked(watcher, reaper)
    await asyncio.wait_for(taking, GUARD)
    assert await seen_by_heir(database, claim[0]) == [1]


async def test_a_record_that_waits_for_a_takeover_is_refused(three: list[Connection]) -> None:
    writer, reaper, watcher = three
    old = await Worker().register(watcher, -1.0)
    (claim,) = await old.born(watcher)
    async with reaper.transaction():
        assert await rows.run(reaper, "claim/reap", old.id, False, 500, True)
        writing = asyncio.create_task(rows.send(writer, old.record, rows.recorded(*claim)))
        await blocked(watcher, writer)
    assert await asyncio.wait_for(writing, GUARD) == []
    assert await rows.journal(watcher, claim[0]) == []


@pytest.mark.parametrize("write", [WRITES[name] for name in ("finish", "suspend", "release")])
async def test_what_moves_an_execution_and_waits_for_a_takeover_is_refused(
    three: list[Connection], write: Written
) -> None:
    writer, reaper, watcher = three
    old = await Worker().register(watcher, -1.0)
    (claim,) = await old.born(watcher)
    kind, row = write(old, claim)
    async with reaper.transaction():
        assert await rows.run(reaper, "claim/reap", old.id, False, 500, True)
        writing = asyncio.create_task(rows.send(writer, kind, row))
        await blocked(watcher, writer)
    assert await asyncio.wait_for(writing, GUARD) == []
    assert await rows.places(watcher, claim[0]) == ["ready"]


@pytest.mark.parametrize("write", [WRITES[name] for name in ("finish", "suspend", "release")])
async def test_a_takeover_that_waits_for_a_move_finds_nothing_to_take(three: list[Connection], write: Written) -> None:
    writer, reaper, watcher = three
    old = await Worker().register(watcher, -1.0)
    (claim,) = await old.born(watcher)
    kind, row = write(old, claim)
    async with writer.transaction():
        assert await rows.send(writer, kind, row)
        reaping = asyncio.create_task(rows.run(reaper, "claim/reap", old.id, False, 500, True))
        await blocked(watcher, reaper)
    assert await asyncio.wait_for(reaping, GUARD) == []


@every_write
async def test_a_write_that_waits_for_a_cancel_is_refused(three: list[Connection], write: Written) -> None:
    writer, canceller, watcher = three
    worker = await Worker().register(watcher)
    (claim,) = await worker.born(watcher)
    kind, row = write(worker, claim)
    async with canceller.transaction():
        await rows.run(canceller, "execution/lock", claim[0])
        await rows.run(canceller, "execution/displace", claim[0], rows.CANCELLING)
        await rows.run(canceller, "execution/cancel", claim[0], new_token(), None, rows.CANCELLING)
        writing = asyncio.create_task(rows.send(writer, kind, row))
        await blocked(watcher, writer)
    assert await asyncio.wait_for(writing, GUARD) == []
    assert await rows.places(watcher, claim[0]) == ["ended"]


async def test_a_cancel_takes_a_claim_that_is_being_made(three: list[Connection]) -> None:
    claimer, canceller, watcher = three
    worker = await Worker().register(watcher)
    new = rows.new()
    await rows.send(watcher, worker.start, new.row())
    async with claimer.transaction():
        assert await worker.take(claimer)
        cancelling = asyncio.create_task(rows.cancel(canceller, new.execution_id, new_token()))
        await blocked(watcher, canceller)
    row = await asyncio.wait_for(cancelling, GUARD)
    assert row is not None
    assert (row["changed"], row["claimed"]) == (True, True)
    assert await rows.places(watcher, new.execution_id) == ["ended"]


async def test_a_claim_passes_over_what_is_being_cancelled(three: list[Connection]) -> None:
    claimer, canceller, watcher = three
    worker = await Worker().register(watcher)
    news = [rows.new(), rows.new()]
    await rows.send(watcher, worker.start, *(new.row() for new in news))
    async with canceller.transaction():
        await rows.run(canceller, "execution/lock", news[0].execution_id)
        await rows.run(canceller, "execution/displace", news[0].execution_id, rows.CANCELLING)
        taken = await asyncio.wait_for(worker.take(claimer), GUARD)
        await rows.run(canceller, "execution/cancel", news[0].execution_id, new_token(), None, rows.CANCELLING)
    assert [row["execution_id"] for row in taken] == [news[1].execution_id]


async def test_an_execution_locked_for_an_instant_is_not_hidden_from_a_claim(three: list[Connection]) -> None:
    claimer, watching, watcher = three
    worker = await Worker().register(watcher)
    new = rows.new()
    await rows.send(watcher, worker.start, new.row())
    async with watching.transaction():
        await rows.run(watching, "execution/watch", [new.execution_id], new_token())
        taken = await asyncio.wait_for(worker.take(claimer), GUARD)
    assert [row["execution_id"] for row in taken] == [new.execution_id]


async def test_a_finish_sees_a_watcher_that_came_first_and_a_later_one_sees_the_end(three: list[Connection]) -> None:
    writer, watching, other = three
    worker = await Worker().register(other)
    first, second = await worker.born(other, 2)
    watcher = new_token()
    async with watching.transaction():
        assert await rows.run(watching, "execution/watch", [first[0]], watcher)
        finishing = asyncio.create_task(rows.send(writer, worker.finish, rows.finished(*first)))
        await blocked(other, writer)
    (row,) = await asyncio.wait_for(finishing, GUARD)
    assert row["watchers"] == [watcher]
    async with writer.transaction():
        await rows.send(writer, worker.finish, rows.finished(*second))
        asking = asyncio.create_task(rows.run(watching, "execution/watch", [second[0]], watcher))
        await blocked(other, watching)
    assert await asyncio.wait_for(asking, GUARD) == []


async def test_a_worker_that_was_declared_dead_cannot_renew(three: list[Connection]) -> None:
    connection = three[0]
    worker = await Worker().register(connection, -1.0)
    await rows.run(connection, "worker/bury", worker.id)
    (row,) = await rows.run(connection, "worker/renew", worker.id, 60.0)
    assert not row["alive"]


async def test_a_worker_that_renews_while_it_is_being_buried_is_not_dead(three: list[Connection]) -> None:
    renewing, burying, watcher = three
    worker = await Worker().register(watcher, -1.0)
    async with renewing.transaction():
        await rows.run(renewing, "worker/renew", worker.id, 60.0)
        burial = asyncio.create_task(rows.run(burying, "worker/bury", worker.id))
        await blocked(watcher, burying)
    assert await asyncio.wait_for(burial, GUARD) == []


async def test_of_two_that_bury_a_worker_one_is_the_first(three: list[Connection]) -> None:
    first, second, watcher = three
    worker = await Worker().register(watcher, -1.0)
    async with first.transaction():
        (one,) = await rows.run(first, "worker/bury", worker.id)
        burial = asyncio.create_task(rows.run(second, "worker/bury", worker.id))
        await blocked(watcher, second)
    (other,) = await asyncio.wait_for(burial, GUARD)
    assert (one["first"], other["first"]) == (True, False)
    assert not (await rows.run(watcher, "worker/renew", worker.id, 60.0))[0]["alive"]


async def test_two_reapers_move_every_execution_once(three: list[Connection]) -> None:
    first, second, watcher = three
    dead = await Worker().register(watcher, -1.0)
    claims = await dead.born(watcher, 5)
    async with first.transaction():
        assert len(await rows.run(first, "claim/reap", dead.id, False, 500, True)) == 5
        reaping = asyncio.create_task(rows.run(second, "claim/reap", dead.id, False, 500, True))
        await blocked(watcher, second)
    assert await asyncio.wait_for(reaping, GUARD) == []
    crashes = await watcher.fetch("select crashes from durable.ready")
    assert [row["crashes"] for row in crashes] == [1] * len(claims)


async def test_an_execution_has_one_claim_whatever_is_tried(three: list[Connection]) -> None:
    connection = three[0]
    worker = await Worker().register(connection)
    (claim,) = await worker.born(connection)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(
            "insert into durable.claim select execution_id, owner, $1, claimed_at, 0 from durable.claim", new_token()
        )
    assert await rows.places(connection, claim[0]) == ["claim"]
