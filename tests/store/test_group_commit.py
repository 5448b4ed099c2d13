"""The group commit: what arrives during a flush forms the next one, and one bad row harms nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from durable.errors import InternalError, StoreUnavailable
from durable.ids import new_token
from durable.store import group_commit
from durable.store.connection import Connection
from durable.store.group_commit import GroupCommit, Kind
from durable.store.queries import Query
from tests.store import rows
from tests.store.rows import Worker
from tests.support.invariants import assert_invariants
from tests.support.proxy import Proxy

BAD_VALUES = {
    "a NUL in a text": "step\0",
    "a lone surrogate in a text": "step\ud800",
}


@pytest.fixture
async def direct(database: str) -> AsyncIterator[Connection]:
    async with rows.connections(database, 1) as (connection,):
        yield connection
    await assert_invariants(database)


def with_path(row: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    return (*row[:3], path, *row[4:])


async def outcomes(*writes: asyncio.Future[Any]) -> list[Any]:
    return await asyncio.gather(*writes, return_exceptions=True)


@pytest.mark.parametrize("path", BAD_VALUES.values(), ids=BAD_VALUES.keys())
@pytest.mark.parametrize("bad", [0, 3, 6])
async def test_a_row_that_postgresql_refuses_fails_its_own_execution_only(
    database: str, direct: Connection, path: str, bad: int
) -> None:
    worker = await Worker().register(direct)
    claims = await worker.born(direct, 7)
    given = [rows.recorded(*claim) for claim in claims]
    given[bad] = with_path(given[bad], path)
    async with GroupCommit(database, lanes=1) as commit:
        answers = await outcomes(*(commit.write(worker.record, row[0], row) for row in given))
    for n, (answer, (execution_id, _)) in enumerate(zip(answers, claims, strict=True)):
        if n == bad:
            assert isinstance(answer, asyncpg.DataError)
            assert await rows.journal(direct, execution_id) == []
        else:
            assert isinstance(answer, asyncpg.Record)
            assert await rows.journal(direct, execution_id) == [(1, worker.id)]


@pytest.mark.parametrize("value", ["{", "", '{"a": NaN}'], ids=["cut off", "empty", "not JSON"])
async def test_a_value_that_is_no_json_fails_its_own_execution_only(
    database: str, direct: Connection, value: str
) -> None:
    worker = await Worker().register(direct)
    good, bad = await worker.born(direct, 2)
    async with GroupCommit(database, lanes=1) as commit:
        answers = await outcomes(
            commit.write(worker.record, bad[0], rows.recorded(*bad, value=value)),
            commit.write(worker.record, good[0], rows.recorded(*good)),
        )
    assert isinstance(answers[0], asyncpg.DataError)
    assert isinstance(answers[1], asyncpg.Record)


async def test_a_constraint_that_a_row_breaks_fails_its_own_execution_only(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    good, bad = await worker.born(direct, 2)
    broken = (*rows.recorded(*bad)[:4], "unheard of", *rows.recorded(*bad)[5:])
    async with GroupCommit(database, lanes=1) as commit:
        answers = await outcomes(
            commit.write(worker.record, good[0], rows.recorded(*good)), commit.write(worker.record, bad[0], broken)
        )
    assert isinstance(answers[0], asyncpg.Record)
    assert isinstance(answers[1], asyncpg.CheckViolationError)


async def test_several_bad_rows_of_a_full_batch_are_all_found(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    news = [rows.new(token=new_token()) for _ in range(300)]
    bad = {0, 1, 17, 150, 299}
    for n in bad:
        news[n].input = "{"
    async with GroupCommit(database, lanes=2) as commit:
        answers = await outcomes(*(commit.write(worker.start, new.execution_id, new.row()) for new in news))
    assert {n for n, answer in enumerate(answers) if isinstance(answer, asyncpg.DataError)} == bad
    assert await direct.fetchval("select count(*) from durable.execution") == len(news) - len(bad)


async def test_all_writes_of_the_bad_rows_execution_in_the_batch_fail_together(
    database: str, direct: Connection
) -> None:
    # Divided, its first record could be committed and its second refused: a hole in its journal.
    worker = await Worker().register(direct)
    good, bad = await worker.born(direct, 2)
    given = [rows.recorded(*bad), with_path(rows.recorded(*bad, seq=2), "x\0"), rows.recorded(*good)]
    async with GroupCommit(database, lanes=1) as commit:
        answers = await outcomes(*(commit.write(worker.record, row[0], row) for row in given))
    assert [isinstance(answer, asyncpg.Record) for answer in answers] == [False, False, True]
    assert await rows.journal(direct, bad[0]) == []


async def test_a_batch_survives_a_lost_connection_while_it_is_divided(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    claims = await worker.born(direct, 8)
    given = [rows.recorded(*claim) for claim in claims]
    given[5] = (*given[5][:6], "{", *given[5][7:])  # refused by the server, not by the client
    async with Proxy(database) as proxy:
        seen = 0

        def every_other(sql: str) -> bool:
            nonlocal seen
            seen += sql == worker.record.query.sql
            return sql == worker.record.query.sql and seen % 2 == 0

        cut = proxy.cut_after_commit(every_other, times=3)
        async with GroupCommit(proxy.dsn, lanes=1) as commit:
            answers = await outcomes(*(commit.write(worker.record, row[0], row) for row in given))
    assert cut.struck == 3
    assert [n for n, answer in enumerate(answers) if not isinstance(answer, asyncpg.Record)] == [5]
    assert await direct.fetchval("select count(*) from durable.journal") == 7


async def test_what_arrives_during_a_flush_goes_with_the_next(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    async with Proxy(database) as proxy, GroupCommit(proxy.dsn, lanes=1) as commit:
        news = [rows.new() for _ in range(50)]
        held = proxy.hold(lambda sql: sql == worker.start.query.sql)
        first = commit.write(worker.start, news[0].execution_id, news[0].row())
        await held
        rest = [commit.write(worker.start, new.execution_id, new.row()) for new in news[1:]]
        held.release()
        answers = await asyncio.gather(first, *rest)
        assert all(answer["created"] for answer in answers)
        assert proxy.count(lambda sql: sql == worker.start.query.sql) == 2


async def test_starts_one_after_the_other_keep_to_one_connection(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    async with GroupCommit(database, lanes=2) as commit:
        for new in [rows.new() for _ in range(6)]:
            assert await commit.write(worker.start, new.execution_id, new.row())
        assert [lane.flushes for lane in commit._lanes] == [6, 0]


async def test_a_start_waits_for_no_other_while_a_connection_is_idle(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    async with Proxy(database) as proxy, GroupCommit(proxy.dsn, lanes=2) as commit:
        first, *others = [rows.new() for _ in range(5)]
        held = proxy.hold(lambda sql: sql == worker.start.query.sql)
        write = commit.write(worker.start, first.execution_id, first.row())
        await held
        for new in others:
            assert (await asyncio.wait_for(commit.write(worker.start, new.execution_id, new.row()), 30))["created"]
        assert not write.done()
        held.release()
        assert (await write)["created"]


async def test_a_flush_is_bounded_in_rows_and_in_bytes(
    database: str, direct: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "ROWS_MAX", 10)
    monkeypatch.setattr(group_commit, "BYTES_MAX", 1000)
    worker = await Worker().register(direct)
    async with Proxy(database) as proxy, GroupCommit(proxy.dsn, lanes=1) as commit:
        for size, flushes in ((0, 3), (400, 15), (5_000, 30)):
            proxy.reset()
            news = [rows.new() for _ in range(30)]
            await asyncio.gather(*(commit.write(worker.start, n.execution_id, n.row(), size) for n in news))
            assert proxy.count(lambda sql: sql == worker.start.query.sql) == flushes


async def test_a_write_that_was_given_up_is_not_sent_again_and_harms_nobody(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    given_up, kept = rows.new(), rows.new()
    async with Proxy(database) as proxy, GroupCommit(proxy.dsn, lanes=1) as commit:
        cut = proxy.cut_before(lambda sql: sql == worker.start.query.sql)
        write = commit.write(worker.start, given_up.execution_id, given_up.row())
        other = commit.write(worker.start, kept.execution_id, kept.row())
        write.cancel()
        assert (await other)["created"]
        assert cut.struck == 1
    assert await rows.places(direct, given_up.execution_id) == []


async def test_a_statement_that_is_wrong_is_our_fault_and_nobodys_data(database: str, direct: Connection) -> None:
    wrong = Kind(Query("no/such", "select n from no_such_table, unnest($1::uuid[]) as g(id)", (), ()))
    async with GroupCommit(database, lanes=1) as commit:
        with pytest.raises(InternalError, match="no/such"):
            await commit.write(wrong, UUID(int=1), (UUID(int=1),))
        worker, new = await Worker().register(direct), rows.new()
        assert (await commit.write(worker.start, new.execution_id, new.row()))["created"], "the lane goes on"


async def test_closing_writes_what_was_given_and_refuses_what_comes_later(database: str, direct: Connection) -> None:
    worker, new, late = await Worker().register(direct), rows.new(), rows.new()
    async with GroupCommit(database, lanes=1) as commit:
        write = commit.write(worker.start, new.execution_id, new.row())
    assert (await write)["created"]
    with pytest.raises(StoreUnavailable):
        commit.write(worker.start, late.execution_id, late.row())


async def test_closing_while_postgresql_is_away_says_that_nothing_was_written(
    database: str, direct: Connection
) -> None:
    worker, new = await Worker().register(direct), rows.new()
    async with Proxy(database) as proxy:
        proxy.refuse()
        commit = await GroupCommit(proxy.dsn, lanes=1).__aenter__()
        write = commit.write(worker.start, new.execution_id, new.row())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await commit.__aexit__()
        with pytest.raises(StoreUnavailable):
            await write
    assert await rows.places(direct, new.execution_id) == []


async def test_closing_while_a_refused_batch_is_divided_answers_every_write(database: str, direct: Connection) -> None:
    worker = await Worker().register(direct)
    given = [rows.recorded(*claim) for claim in await worker.born(direct, 8)]
    given[5] = (*given[5][:6], "{", *given[5][7:])  # refused by the server, not by the client
    async with Proxy(database) as proxy:
        seen = 0

        def second(sql: str) -> bool:
            nonlocal seen
            seen += sql == worker.record.query.sql
            return sql == worker.record.query.sql and seen == 2

        held = proxy.hold(second)
        commit = await GroupCommit(proxy.dsn, lanes=1).__aenter__()
        writes = [commit.write(worker.record, row[0], row) for row in given]
        await held
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await commit.__aexit__()
        assert all(write.done() for write in writes)
        assert {type(answer) for answer in await outcomes(*writes)} == {StoreUnavailable}
        held.release()


# The kind of write, its row, where in the row path, kind and attempt of its record are, and where it leaves the execution.
RECORDING = {
    "record": (lambda worker: worker.record, rows.recorded, 3, "claim"),
    "finish": (lambda worker: worker.finish, rows.finished, 6, "ended"),
    "suspend": (lambda worker: worker.suspend, rows.suspended, 4, "wake"),
}
every_record = pytest.mark.parametrize(("kind", "row_of", "at", "place"), RECORDING.values(), ids=RECORDING.keys())


def taken(claim: tuple[UUID, UUID], path: str, how: str, attempt: int) -> tuple[Any, ...]:
    """A first record, to be written before."""
    completed = how == "completed"
    return (
        *claim,
        1,
        path,
        how,
        attempt,
        "{}" if completed else None,
        None if completed else '{"type": "E"}',
        None,
        0.5,
        None,
        None,
        None,
    )


@every_record
@pytest.mark.parametrize("differs", ["path", "kind", "attempt"])
async def test_a_record_whose_place_another_has_taken_is_refused_and_ends_nothing(
    database: str, direct: Connection, kind: Any, row_of: Any, at: int, place: str, differs: str
) -> None:
    worker = await Worker().register(direct)
    good, bad = await worker.born(direct, 2)
    row = row_of(*bad)
    path, how, attempt = there = row[at : at + 3]
    if differs == "path":
        there = ("another step", how, attempt)
    elif differs == "kind":
        there = (path, "failed" if how == "completed" else "completed", attempt)
    else:
        row = (*row[: at + 2], attempt + 1, *row[at + 3 :])
    await rows.send(direct, worker.record, taken(bad, *there))
    async with GroupCommit(database, lanes=1) as commit:
        writes = [commit.write(kind(worker), row[0], row) for row in (row_of(*good), row)]
        answers = await outcomes(*writes)
    assert isinstance(answers[0], asyncpg.Record)
    assert answers[1] is None
    assert await rows.places(direct, good[0]) == [place]
    assert await rows.places(direct, bad[0]) == ["claim"]
    assert await direct.fetchval("select token from durable.claim where execution_id = $1", bad[0]) == bad[1]
    kept = await direct.fetch("select path, kind, attempt from durable.journal where execution_id = $1", bad[0])
    assert [tuple(record) for record in kept] == [there]


@every_record
async def test_a_record_that_is_there_already_is_found_written(
    database: str, direct: Connection, kind: Any, row_of: Any, at: int, place: str
) -> None:
    worker = await Worker().register(direct)
    (claim,) = await worker.born(direct)
    row = row_of(*claim)
    await rows.send(direct, worker.record, taken(claim, *row[at : at + 3]))
    async with GroupCommit(database, lanes=1) as commit:
        assert await commit.write(kind(worker), claim[0], row) is not None
    assert await rows.places(direct, claim[0]) == [place]
    assert await rows.journal(direct, claim[0]) == [(1, worker.id)]
