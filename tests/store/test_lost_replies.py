"""Law 13 at the store: a write whose reply was cut off after COMMIT, or whose connection was closed before it was sent, is
sent again by the group commit, and is there once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from durable.ids import new_token
from durable.model.status import Change, stored_sources
from durable.store.claims import Claimable, Want, find_taken, take, take_plain
from durable.store.connection import LOST, Connection, Link, Row
from durable.store.executions import Acted, Executions
from durable.store.group_commit import GroupCommit, Kind
from tests.store import rows
from tests.store.rows import Worker
from tests.support.invariants import assert_invariants
from tests.support.proxy import Fault, Proxy

Cut = Callable[[Proxy, str], Fault]


def before(proxy: Proxy, sql: str) -> Fault:
    return proxy.cut_before(lambda executed: executed == sql)


def after_commit(proxy: Proxy, sql: str) -> Fault:
    return proxy.cut_after_commit(lambda executed: executed == sql)


cuts = pytest.mark.parametrize("cut", [before, after_commit])


@dataclass
class World:
    """A database, a proxy before it, and a worker that is registered."""

    dsn: str
    proxy: Proxy
    direct: Connection
    worker: Worker

    async def write(self, cut: Cut, kind: Kind, *given: tuple[Any, ...]) -> list[Any]:
        """Write by the group commit, in one flush that is cut, all rows in the order of their ids."""
        async with GroupCommit(self.proxy.dsn, lanes=1) as commit:
            fault = cut(self.proxy, kind.statement(given)[0].sql)
            answers = await asyncio.gather(*(commit.write(kind, row[0], row) for row in given))
            assert fault.struck == 1
            return answers

    async def places(self, execution_id: UUID) -> list[str]:
        return await rows.places(self.direct, execution_id)

    async def journal(self, execution_id: UUID) -> list[tuple[int, UUID]]:
        return await rows.journal(self.direct, execution_id)


def row_of(acted: Acted | None) -> Row | None:
    """What an act on an execution says of that itself."""
    return None if acted is None else acted[0]


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with Proxy(database) as proxy, rows.connections(database, 1) as (direct,):
        yield World(database, proxy, direct, await Worker().register(direct))
    await assert_invariants(database)


@pytest.fixture(params=[False, True], ids=["whole", "plainly"])
def plainly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both statements, where there are two."""
    monkeypatch.setattr(Worker, "plainly", request.param)


@cuts
async def test_a_plain_start_is_stored_once_and_stays_created(world: World, cut: Cut) -> None:
    ready, born = rows.new(), rows.new(token=new_token())
    for new in (ready, born):
        new.operation = new.execution_id
    answers = await world.write(cut, world.worker.start_plain, ready.row(), born.row())
    assert [(answer["created"], answer["claimed"]) for answer in answers] == [(True, False), (True, True)]
    assert [await world.places(new.execution_id) for new in (ready, born)] == [["ready"], ["claim"]]


@cuts
async def test_a_lone_plain_start_is_stored_once_and_stays_created(world: World, cut: Cut) -> None:
    born = rows.new(token=new_token())
    born.operation = born.execution_id
    (answer,) = await world.write(cut, world.worker.start_plain, born.row())
    assert (answer["created"], answer["claimed"]) == (True, True)
    assert await world.places(born.execution_id) == ["claim"]


async def test_a_flush_that_is_sent_again_with_fewer_rows_finds_what_it_has_stored(world: World) -> None:
    given_up, kept = rows.new(), rows.new(token=new_token())
    for new in (given_up, kept):
        new.operation = new.execution_id
    kind = world.worker.start_plain
    async with GroupCommit(world.proxy.dsn, lanes=1) as commit:
        fault = world.proxy.cut_after_commit(lambda sql: sql == kind.query.sql)
        writes = [commit.write(kind, new.execution_id, new.row()) for new in (given_up, kept)]
        writes[0].cancel()  # the first time it is sent all the same
        answer = await writes[1]
        assert fault.struck == 1
        assert kind.lone is not None
        assert world.proxy.count(lambda sql: kind.lone is not None and sql == kind.lone.sql) == 1
    assert answer is not None
    assert (answer["created"], answer["claimed"]) == (True, True)
    assert [await world.places(new.execution_id) for new in (given_up, kept)] == [["ready"], ["claim"]]


@cuts
async def test_a_start_is_stored_once_and_stays_created(world: World, cut: Cut) -> None:
    ready, delayed, born = rows.new(), rows.new(delay=60), rows.new(token=new_token())
    answers = await world.write(cut, world.worker.start, ready.row(), delayed.row(), born.row())
    assert [answer["created"] for answer in answers] == [True] * 3
    assert [await world.places(new.execution_id) for new in (ready, delayed, born)] == [["ready"], ["wake"], ["claim"]]


@cuts
async def test_a_start_of_an_id_that_another_has_started_stays_not_created(world: World, cut: Cut) -> None:
    first = rows.new()
    await rows.send(world.direct, world.worker.start, first.row())
    again = rows.new(first.execution_id, token=new_token())
    (answer,) = await world.write(cut, world.worker.start, again.row())
    assert (answer["created"], answer["existing_workflow"]) == (False, "flow")
    assert await world.places(first.execution_id) == ["ready"]


@cuts
async def test_two_starts_of_one_id_in_one_flush_create_it_once(world: World, cut: Cut) -> None:
    first = rows.new()
    second = rows.new(first.execution_id)
    answers = await world.write(cut, world.worker.start, first.row(), second.row())
    assert sorted(answer["created"] for answer in answers) == [False, True]


@pytest.mark.usefixtures("plainly")
@cuts
async def test_a_record_is_stored_once(world: World, cut: Cut) -> None:
    born = await world.worker.born(world.direct, 3)
    answers = await world.write(cut, world.worker.record, *(rows.recorded(*claim) for claim in born))
    assert None not in answers
    assert [await world.journal(id) for id, _ in born] == [[(1, world.worker.id)]] * 3


@pytest.mark.usefixtures("plainly")
@cuts
@pytest.mark.parametrize("seq", [1, None], ids=["with its last record", "without a record"])
async def test_a_finish_is_stored_once(world: World, cut: Cut, seq: int | None) -> None:
    (claim,) = await world.worker.born(world.direct)
    (answer,) = await world.write(cut, world.worker.finish, rows.finished(*claim, seq))
    assert answer is not None
    assert await world.places(claim[0]) == ["ended"]
    assert await world.journal(claim[0]) == ([(1, world.worker.id)] if seq else [])


@pytest.mark.usefixtures("plainly")
@cuts
async def test_a_finish_names_the_watchers_again_when_it_is_sent_again(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    watcher = new_token()
    await rows.run(world.direct, "execution/watch", [claim[0]], watcher)
    (answer,) = await world.write(cut, world.worker.finish, rows.finished(*claim))
    assert answer is not None
    assert answer["watchers"] == [watcher]


@cuts
@pytest.mark.parametrize("seq", [1, None], ids=["with its last record", "without a record"])
async def test_a_suspension_is_stored_once(world: World, cut: Cut, seq: int | None) -> None:
    (claim,) = await world.worker.born(world.direct)
    (answer,) = await world.write(cut, world.worker.suspend, rows.suspended(*claim, seq))
    assert answer is not None
    assert await world.places(claim[0]) == ["wake"]
    assert await world.journal(claim[0]) == ([(1, world.worker.id)] if seq else [])


@cuts
async def test_a_suspension_that_was_woken_and_claimed_before_it_is_sent_again_touches_nothing(
    world: World, cut: Cut
) -> None:
    (claim,) = await world.worker.born(world.direct)
    row = rows.suspended(*claim, delay=0.0)
    await rows.send(world.direct, world.worker.suspend, row)
    await rows.run(world.direct, "wake/fire", 10, rows.WAKING)
    (taken,) = await world.worker.take(world.direct)
    assert taken["execution_id"] == claim[0]
    (answer,) = await world.write(cut, world.worker.suspend, row)
    assert answer is not None, "it finds itself done"
    assert await world.places(claim[0]) == ["claim"]


@cuts
async def test_a_message_is_delivered_once_and_says_so(world: World, cut: Cut) -> None:
    claim, other = await world.worker.born(world.direct, 2)
    await rows.send(world.direct, world.worker.suspend, rows.suspended(*claim, delay=None, seen=0, topics="{event:go}"))
    answers = await world.write(cut, world.worker.deliver, rows.sent(claim[0]), rows.sent(other[0]))
    assert answers[0]["queue"] == rows.QUEUE
    assert {answer["outcome"] for answer in answers} == {"duplicate" if cut is after_commit else "sent"}
    assert await world.places(claim[0]) == ["ready"]
    assert await world.places(other[0]) == ["claim"]
    assert await world.direct.fetchval("select count(*) from durable.message") == 2
    assert await world.direct.fetch("select mail from durable.execution") == [(1,), (1,)]


@cuts
async def test_an_answer_is_recorded_once_and_its_message_consumed(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    await rows.send(world.direct, world.worker.deliver, rows.sent(claim[0]))
    (answer,) = await world.write(cut, world.worker.answer, rows.answered(*claim))
    assert answer is not None
    assert await world.journal(claim[0]) == [(10, world.worker.id)]
    assert await world.direct.fetch("select consumed_by, payload from durable.message") == [(10, None)]


async def test_an_answer_under_a_claim_that_is_gone_consumes_nothing(world: World) -> None:
    (claim,) = await world.worker.born(world.direct)
    await rows.send(world.direct, world.worker.deliver, rows.sent(claim[0]))
    await rows.send(world.direct, world.worker.release, claim)
    assert await rows.send(world.direct, world.worker.answer, rows.answered(*claim)) == []
    assert await world.direct.fetchval("select consumed_by from durable.message") is None


@cuts
async def test_a_question_is_asked_once_and_answered_once(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    (answer,) = await world.write(cut, world.worker.ask, rows.asked(*claim))
    assert answer is not None
    assert await world.journal(claim[0]) == [(20, world.worker.id)]
    provided = rows.provided(claim[0], new_token())
    (answer,) = await world.write(cut, world.worker.provide, provided)
    assert answer["outcome"] == ("duplicate" if cut is after_commit else "sent")
    (other,) = await rows.send(world.direct, world.worker.provide, rows.provided(claim[0], new_token()))
    assert other["outcome"] == "closed"
    found = await world.direct.fetch("select status, answered_by from durable.input")
    assert found == [("answered", "ada")]
    assert await world.direct.fetch("select topic, number from durable.message") == [("input:20:why", 1)]


@cuts
async def test_a_question_is_closed_once_and_not_when_it_was_answered(world: World, cut: Cut) -> None:
    late, answered = await world.worker.born(world.direct, 2)
    await rows.send(world.direct, world.worker.ask, rows.asked(*late), rows.asked(*answered))
    await rows.send(world.direct, world.worker.provide, rows.provided(answered[0], new_token()))
    answers = await world.write(cut, world.worker.close, rows.expired(*late), rows.expired(*answered))
    assert [answer["answered"] for answer in answers] == [False, True]
    assert await world.journal(late[0]) == [(20, world.worker.id), (21, world.worker.id)]
    assert await world.journal(answered[0]) == [(20, world.worker.id)]
    (outcome,) = await rows.send(world.direct, world.worker.provide, rows.provided(late[0], new_token()))
    assert outcome["outcome"] == "closed"


@cuts
async def test_a_child_is_begun_once_and_its_end_told_once(world: World, cut: Cut) -> None:
    (parent,) = await world.worker.born(world.direct)
    child = new_token()
    (answer,) = await world.write(cut, world.worker.bear, rows.born(*parent, child))
    assert answer is not None
    assert await world.journal(parent[0]) == [(30, world.worker.id)]
    assert await world.places(child) == ["ready"]
    topics = f"{{child:{child}}}"
    await rows.send(world.direct, world.worker.suspend, rows.suspended(*parent, None, None, 0, topics))
    token = new_token()
    assert [row["parent_id"] for row in await world.worker.take(world.direct, token=token)] == [parent[0]]
    (answer,) = await world.write(cut, world.worker.finish, rows.finished(child, token, 1, parent[0]))
    assert answer["parent_queue"] == rows.QUEUE
    assert await world.places(child) == ["ended"]
    assert await world.places(parent[0]) == ["ready"]
    assert await world.direct.fetch("select topic, number from durable.message") == [(f"child:{child}", 1)]


@cuts
async def test_an_event_is_emitted_once_and_a_wait_for_it_registered_once(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    (answer,) = await world.write(cut, world.worker.subscribe, rows.subscribed(*claim))
    assert answer is not None
    assert await world.direct.fetchval("select count(*) from durable.subscription") == 1
    (answer,) = await world.write(cut, world.worker.emit, rows.emitted(new_token()))
    assert answer is not None
    assert await world.direct.fetchval("select count(*) from durable.emission") == 1
    link = Link(world.proxy.dsn, "test")
    fault = cut(world.proxy, rows.load("emission/spread").sql)
    await link.fetch_surely(rows.load("emission/spread"), 10)
    await link.close()
    assert fault.struck == 1
    posted = await world.direct.fetch("select execution_id, topic from durable.posted")
    assert posted == [(claim[0], "match:50:go")]
    (answer,) = await rows.send(world.direct, world.worker.unsubscribe, rows.unsubscribed(*claim))
    assert answer["answered"], "it is on its way"


@cuts
async def test_a_wait_for_what_is_in_an_event_expires_once(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    await rows.send(world.direct, world.worker.subscribe, rows.subscribed(*claim))
    (answer,) = await world.write(cut, world.worker.unsubscribe, rows.unsubscribed(*claim))
    assert not answer["answered"]
    assert await world.journal(claim[0]) == [(50, world.worker.id), (51, world.worker.id)]
    assert await world.direct.fetchval("select count(*) from durable.subscription") == 0


@cuts
async def test_what_a_body_tells_is_there_once_and_in_its_order(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    run = new_token()
    answers = await world.write(cut, world.worker.stream, *(rows.streamed(*claim, run, number) for number in (1, 2, 3)))
    assert None not in answers
    told = await world.direct.fetch("select number from durable.stream order by position")
    assert [row["number"] for row in told] == [1, 2, 3]


@cuts
async def test_an_execution_is_begun_afresh_once(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    await rows.send(world.direct, world.worker.record, rows.recorded(*claim))
    await rows.send(world.direct, world.worker.ask, rows.asked(*claim))
    (answer,) = await world.write(cut, world.worker.go_on, rows.continued(*claim))
    assert answer is not None
    assert await world.journal(claim[0]) == [(40, world.worker.id)]
    assert [row["seq"] for row in await world.direct.fetch("select seq from durable.past order by seq")] == [1, 20]
    assert await world.direct.fetchval("select status from durable.input") == "withdrawn"


@cuts
async def test_a_child_that_is_given_up_is_doomed_once(world: World, cut: Cut) -> None:
    (parent,) = await world.worker.born(world.direct)
    children = [new_token(), new_token()]
    for seq, child in enumerate(children, 30):
        await rows.send(world.direct, world.worker.bear, rows.born(*parent, child, seq))
    token = new_token()
    await world.worker.take(world.direct, token=token)
    await rows.send(world.direct, world.worker.finish, rows.finished(children[1], token, 1, parent[0]))
    for child, ended in zip(children, (False, True), strict=True):
        (answer,) = await world.write(cut, world.worker.give_up, rows.given_up(*parent, child, 32 + ended))
        assert answer["answered"] == ended
    assert await world.direct.fetch("select execution_id, undo from durable.doomed") == [(children[0], True)]
    refused = await rows.send(world.direct, world.worker.finish, rows.finished(children[0], token, 1, parent[0]))
    assert refused == [], "its parent has gone on without it: it completes no more"


async def test_a_child_that_is_given_up_stays_given_up_when_that_is_sent_again_after_its_end(world: World) -> None:
    (parent,) = await world.worker.born(world.direct)
    child, token = new_token(), new_token()
    await rows.send(world.direct, world.worker.bear, rows.born(*parent, child))
    await world.worker.take(world.direct, token=token)
    for again in range(2):
        (answer,) = await rows.send(world.direct, world.worker.give_up, rows.given_up(*parent, child))
        assert not answer["answered"], again
        await rows.cancel(world.direct, child, new_token())  # by another worker, before it is sent again


async def test_a_parent_and_its_child_end_in_one_flush(world: World) -> None:
    parent, child = sorted(await world.worker.born(world.direct, 2))
    await world.direct.execute(
        "update durable.execution set parent_id = $1 where execution_id = $2", parent[0], child[0]
    )
    ends = (rows.finished(*parent), rows.finished(*child, 1, parent[0]))
    assert len(await rows.send(world.direct, world.worker.finish, *ends)) == 2
    assert await world.places(parent[0]) == await world.places(child[0]) == ["ended"]
    assert await world.direct.fetchval("select count(*) from durable.message") == 0


async def test_a_child_is_told_of_although_the_end_of_its_parent_is_refused(world: World) -> None:
    parent, child = sorted(await world.worker.born(world.direct, 2))
    await world.direct.execute(
        "update durable.execution set parent_id = $1 where execution_id = $2", parent[0], child[0]
    )
    ends = (rows.finished(parent[0], new_token()), rows.finished(*child, 1, parent[0]))
    assert len(await rows.send(world.direct, world.worker.finish, *ends)) == 1
    assert await world.direct.fetch("select execution_id from durable.message") == [(parent[0],)]


async def test_a_child_that_is_born_while_its_parent_is_cancelled_is_doomed_or_never_born(world: World) -> None:
    (parent,) = await world.worker.born(world.direct)
    child = new_token()
    async with rows.connections(world.dsn, 1) as (other,):
        transaction = other.transaction()
        await transaction.start()
        await rows.send(other, world.worker.bear, rows.born(*parent, child))
        cancelling = asyncio.create_task(rows.cancel(world.direct, parent[0], new_token()))
        await asyncio.sleep(0.2)  # it waits for the claim
        assert not cancelling.done()
        await transaction.commit()
        await cancelling
    assert await world.direct.fetchval("select execution_id from durable.doomed") == child
    assert await rows.send(world.direct, world.worker.bear, rows.born(*parent, new_token(), 31)) == []


async def test_several_answers_in_one_flush_answer_once(world: World) -> None:
    claims = await world.worker.born(world.direct, 2)
    await rows.send(world.direct, world.worker.ask, *(rows.asked(*claim) for claim in claims))
    await rows.send(world.direct, world.worker.suspend, rows.suspended(*claims[0], None, None, 0, "{input:20:why}"))
    provided = [rows.provided(id, new_token(), seq) for id, _ in claims for seq in (20, 20, 99)]
    answers = await rows.send(world.direct, world.worker.provide, *provided)
    assert [answer["outcome"] for answer in sorted(answers, key=lambda a: a["n"])] == ["sent", "closed", "unknown"] * 2
    assert [await world.places(id) for id, _ in claims] == [["ready"], ["claim"]]


async def test_an_execution_is_not_put_to_sleep_on_a_message_that_its_owner_has_not_seen(world: World) -> None:
    claims = await world.worker.born(world.direct, 3)
    for claim in claims:
        await rows.send(world.direct, world.worker.deliver, rows.sent(claim[0]))
    unseen, seen, without = claims
    answers = await rows.send(
        world.direct,
        world.worker.suspend,
        rows.suspended(*unseen, delay=None, seen=0, topics="{event:go}"),
        rows.suspended(*seen, delay=None, seen=1, topics="{event:another}"),
        rows.suspended(*without),
    )
    assert {answer["n"]: answer["ready"] for answer in answers} == {1: True, 2: False, 3: False}
    assert [await world.places(id) for id, _ in claims] == [["ready"], ["wake"], ["wake"]]


@cuts
async def test_a_release_is_done_once(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    await world.write(cut, world.worker.release, claim)
    assert await world.places(claim[0]) == ["ready"]


@cuts
async def test_a_release_sent_again_leaves_the_next_claim_alone(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    await rows.send(world.direct, world.worker.release, claim)
    await world.worker.take(world.direct)
    (answer,) = await world.write(cut, world.worker.release, claim)
    assert answer is None
    assert await world.places(claim[0]) == ["claim"]


@cuts
@pytest.mark.parametrize(("limited", "plain"), [(False, True), (False, False), (True, False)])
async def test_a_claim_gives_the_same_rows_when_it_is_sent_again_and_takes_no_others(
    world: World, cut: Cut, limited: bool, plain: bool
) -> None:
    if limited:
        limits = [[rows.QUEUE], [3], [3], [60.0], [None], [None], [False], [False]]
        await rows.run(world.direct, "queue/declare", *limits)
    news = [rows.new() for _ in range(4)]
    await rows.send(world.direct, world.worker.start, *(new.row() for new in news))
    link, token = Link(world.proxy.dsn, "test"), new_token()
    arguments = (
        link,
        world.worker.id,
        token,
        {rows.QUEUE: Want(2, held=True)},
        Claimable([rows.SHAPE], [rows.SHAPE], [rows.SHAPE]),
        1,
    )

    async def claimed() -> set[UUID]:
        found = (await take_plain(*arguments)).rows if plain else await take(*arguments)
        return {row["execution_id"] for row in found}

    async def claimed_before() -> set[UUID]:
        return {row["execution_id"] for row in await find_taken(link, world.worker.id, token)}

    fault = cut(world.proxy, rows.load("claim/take_plain" if plain else "claim/take").sql)
    try:
        with pytest.raises(LOST):
            await claimed()
        assert fault.struck == 1
        taken = await claimed_before() or await claimed()
        again = await claimed_before()
    finally:
        await link.close()
    assert len(taken) == 2
    assert again == taken
    owned = await world.direct.fetch("select execution_id from durable.claim where token = $1", token)
    assert {row["execution_id"] for row in owned} == taken
    permitted = await world.direct.fetch("select count from durable.permit")
    assert [row["count"] for row in permitted] == ([2] if limited else [])


@cuts
async def test_a_pause_is_done_once_and_says_so_when_it_is_sent_again(world: World, cut: Cut) -> None:
    new = rows.new()
    await rows.send(world.direct, world.worker.start, new.row())
    executions = Executions(world.proxy.dsn)
    try:
        for kind, held in (("pause", []), ("resume", None)):
            fault = cut(world.proxy, rows.load(f"act/{kind}").sql)
            row = await executions.hold(kind, new.execution_id, new_token(), "ann", "why")  # type: ignore[arg-type]
            assert fault.struck == 1
            assert row is not None
            assert row["changed"]
            assert await world.direct.fetchval("select held_by from durable.ready") == held
            assert await world.direct.fetchval("select count(*) from durable.act where kind = $1", kind) == 1
    finally:
        await executions.close()


@cuts
async def test_a_retry_is_done_once_and_says_so_when_it_is_sent_again(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    await rows.send(world.direct, world.worker.finish, rows.failed(*claim))
    assert await world.places(claim[0]) == ["ended"]
    executions = Executions(world.proxy.dsn)
    try:
        fault = cut(world.proxy, rows.load("act/retry").sql)
        row = await executions.retry(claim[0], new_token(), "ann", "why", stored_sources(Change.RETRY))
        assert fault.struck == 1
        assert row is not None
        assert row["changed"]
        assert await world.places(claim[0]) == ["ready"]
        assert await world.direct.fetchval("select count(*) from durable.act") == 1
        assert await world.direct.fetchval("select count(*) from durable.journal where kind = 'retried'") == 1
    finally:
        await executions.close()


@cuts
async def test_what_is_due_becomes_ready_once(world: World, cut: Cut) -> None:
    claims = await world.worker.born(world.direct, 2)
    await rows.send(world.direct, world.worker.suspend, *(rows.suspended(*claim, delay=0.0) for claim in claims))
    link = Link(world.proxy.dsn, "test")
    fault = cut(world.proxy, rows.load("wake/fire").sql)
    try:
        await link.fetch_surely(rows.load("wake/fire"), 10, rows.WAKING)
    finally:
        await link.close()
    assert fault.struck == 1
    assert [await world.places(id) for id, _ in claims] == [["ready"]] * 2


@cuts
async def test_a_crash_is_counted_once(world: World, cut: Cut) -> None:
    dead = await Worker().register(world.direct, -1.0)
    claims = await dead.born(world.direct, 3)
    link = Link(world.proxy.dsn, "test")
    try:
        fault = cut(world.proxy, rows.load("worker/bury").sql)
        (buried,) = await link.fetch_surely(rows.load("worker/bury"), dead.id)
        assert (fault.struck, buried["suspects_in_flight"]) == (1, False)
        fault = cut(world.proxy, rows.load("claim/reap").sql)
        await link.fetch_surely(rows.load("claim/reap"), dead.id, False, 500, True)
        assert fault.struck == 1
    finally:
        await link.close()
    assert [await world.places(id) for id, _ in claims] == [["ready"]] * 3
    crashes = await world.direct.fetch("select distinct crashes from durable.ready")
    assert [row["crashes"] for row in crashes] == [1]


@cuts
@pytest.mark.parametrize("name", ["execution/lock", "execution/displace", "execution/cancel", "child/tell", "COMMIT;"])
async def test_a_cancel_is_done_once_and_says_that_it_was_this_one(world: World, cut: Cut, name: str) -> None:
    (claim,) = await world.worker.born(world.direct)
    executions = Executions(world.proxy.dsn)
    fault = cut(world.proxy, name if name == "COMMIT;" else rows.load(name).sql)
    try:
        row = row_of(await executions.cancel(claim[0], new_token(), "enough", rows.CANCELLING))
        other = row_of(await executions.cancel(claim[0], new_token(), "more", rows.CANCELLING))
    finally:
        await executions.close()
    assert fault.struck == 1
    assert (row and row["changed"], other and other["changed"]) == (True, False)
    assert await world.places(claim[0]) == ["ended"]


@cuts
@pytest.mark.parametrize("name", ["execution/lock", "execution/displace", "execution/request_undo", "COMMIT;"])
async def test_a_request_to_undo_is_done_once_and_says_that_it_was_this_one(world: World, cut: Cut, name: str) -> None:
    # A worker has begun the ending before the reply is asked for again.
    (claim,) = await world.worker.born(world.direct)
    executions, operation = Executions(world.proxy.dsn), new_token()
    fault = cut(world.proxy, name if name == "COMMIT;" else rows.load(name).sql)
    try:
        row = row_of(await executions.request_undo(claim[0], operation, "enough", rows.CANCELLING))
        await rows.send(world.direct, world.worker.begin_ending, rows.failing(*claim))
        again = row_of(await executions.request_undo(claim[0], operation, "enough", rows.CANCELLING))
        other = row_of(await executions.request_undo(claim[0], new_token(), "more", rows.CANCELLING))
    finally:
        await executions.close()
    assert fault.struck == 1
    assert (row and row["changed"], again and again["changed"], other and other["changed"]) == (True, True, False)


@cuts
async def test_a_request_to_undo_says_that_nobody_runs_it_when_it_is_sent_again(world: World, cut: Cut) -> None:
    waiting = rows.new()
    await rows.send(world.direct, world.worker.start, waiting.row())
    executions = Executions(world.proxy.dsn)
    cut(world.proxy, "COMMIT;")
    try:
        row = row_of(await executions.request_undo(waiting.execution_id, new_token(), "enough", rows.CANCELLING))
    finally:
        await executions.close()
    assert row is not None
    assert (row["changed"], row["claimed"]) == (True, False), "else nobody would be told that it is ready"


@cuts
async def test_a_watcher_is_written_down_once(world: World, cut: Cut) -> None:
    (claim,) = await world.worker.born(world.direct)
    executions, watcher = Executions(world.proxy.dsn), new_token()
    fault = cut(world.proxy, rows.load("execution/watch").sql)
    try:
        (row,) = await executions.fetch("execution/watch", [claim[0]], watcher)
    finally:
        await executions.close()
    assert (fault.struck, row["execution_id"]) == (1, claim[0])
    assert await world.direct.fetchval("select watchers from durable.execution") == [watcher]
