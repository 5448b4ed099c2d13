"""Whoever acts on many executions at once takes its locks in one order: nothing deadlocks, and every call succeeds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

import pytest

from durable.ids import new_token
from durable.store.connection import Connection
from tests.store import rows
from tests.store.rows import Worker
from tests.support.invariants import assert_invariants

EXECUTIONS = 40
CLIENTS = 8
TAKE_BACK = """
update durable.input i set status = 'withdrawn', closed_at = now()
  from durable.execution e where e.execution_id = i.execution_id and i.status = 'pending' and e.ended_at is not null
"""
CHILDREN = """
select c.execution_id, c.token, e.parent_id
  from durable.claim c join durable.execution e using (execution_id)
 where c.owner = $1
"""
A_FEW_CHILDREN = """
select execution_id, parent_id
  from durable.execution
 where parent_id is not null and ended_at is null
 order by random()
 limit 10
"""
A_CHILD = """
select execution_id from durable.execution where parent_id is not null and ended_at is null order by random() limit 1
"""
DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"


class Client:
    """Somebody who does one of everything, over a random part of the executions, in the order in which the library does."""

    def __init__(self, connection: Connection, workers: Sequence[Worker], ids: Sequence[UUID], seed: int) -> None:
        self.connection = connection
        self.workers = workers
        self.ids = ids
        self.random = random.Random(seed)
        self.number = seed % 1000 + 1

    async def act(self) -> None:
        """Do one thing."""
        often = (self.claim, self.claim, self.record, self.finish, self.suspend, self.release, self.send, self.bear)
        people = (self.ask, self.close, self.provide, self.subscribe, self.emit)
        family = (self.end_children, self.end_children, self.cancel_child, self.give_up)
        others = (
            self.fire,
            self.reap,
            self.watch,
            self.cancel,
            self.start,
            self.give_all_back,
            self.answer,
            self.limit,
            self.pause,
            self.hold,
        )
        await self.random.choice((*often, *people, *family, *others))()

    async def claims_of(self, worker: Worker) -> list[tuple[UUID, UUID]]:
        """Some claims of a worker, ascending by id as a flush sorts them. They may be gone by the time of the write."""
        found = await self.connection.fetch("select execution_id, token from durable.claim where owner = $1", worker.id)
        some = self.random.sample(found, self.random.randint(0, len(found)))
        return sorted((row["execution_id"], row["token"]) for row in some)

    async def claim(self) -> None:
        worker, want = self.random.choice(self.workers), self.random.randint(1, EXECUTIONS)
        await worker.take(self.connection, want, plain=self.random.random() < 0.5)

    async def record(self) -> None:
        worker = self.random.choice(self.workers)
        if claims := await self.claims_of(worker):
            seq = self.random.randint(2, 1000)
            kind = self.random.choice((worker.record, worker.record_plain))
            await rows.send(self.connection, kind, *(rows.recorded(*claim, seq) for claim in claims))

    async def finish(self) -> None:
        worker = self.random.choice(self.workers)
        claims = [claim for claim in await self.claims_of(worker) if claim[0] in self.ids][:2]  # no children
        if claims:
            kind = self.random.choice((worker.finish, worker.finish_plain))
            await rows.send(self.connection, kind, *(rows.finished(*claim) for claim in claims))

    async def suspend(self) -> None:
        worker = self.random.choice(self.workers)
        if claims := await self.claims_of(worker):
            asleep = (rows.suspended(*claim, seq=None, delay=0.0, seen=3, topics="{event:go}") for claim in claims)
            await rows.send(self.connection, worker.suspend, *asleep)

    async def send(self) -> None:
        some = sorted(self.random.sample(self.ids, self.random.randint(1, len(self.ids))))
        await rows.send(self.connection, self.workers[0].deliver, *(rows.sent(id, str(new_token())) for id in some))

    async def answer(self) -> None:
        worker = self.random.choice(self.workers)
        if claims := await self.claims_of(worker):
            seq = self.random.randint(1001, 2000)
            mine = f"{{{self.number}}}"  # a message is given to one wait, and so consumed by one write
            await rows.send(self.connection, worker.answer, *(rows.answered(*claim, seq, mine) for claim in claims))

    async def ask(self) -> None:
        worker = self.random.choice(self.workers)
        if claims := await self.claims_of(worker):
            seq = self.random.randint(3000, 3005)
            await rows.send(self.connection, worker.ask, *(rows.asked(*claim, seq) for claim in claims))

    async def close(self) -> None:
        worker = self.random.choice(self.workers)
        if claims := await self.claims_of(worker):
            seq, asked = self.random.randint(4000, 5000), self.random.randint(3000, 3005)
            await rows.send(self.connection, worker.close, *(rows.expired(*claim, seq, asked) for claim in claims))

    async def provide(self) -> None:
        some = sorted(self.random.sample(self.ids, self.random.randint(1, len(self.ids))))
        seq = self.random.randint(3000, 3005)
        await rows.send(self.connection, self.workers[0].provide, *(rows.provided(id, new_token(), seq) for id in some))

    async def bear(self) -> None:
        """Children get ids below and above those of their parents."""
        worker = self.random.choice(self.workers)
        seq = self.random.randint(5000, 6000)
        for claim in (await self.claims_of(worker))[:3]:
            await rows.send(self.connection, worker.bear, rows.born(*claim, new_token(), seq))

    async def end_children(self) -> None:
        worker = self.random.choice(self.workers)
        found = await self.connection.fetch(CHILDREN, worker.id)
        ends = [rows.finished(row["execution_id"], row["token"], None, row["parent_id"]) for row in found]
        if ends:
            await rows.send(self.connection, worker.finish, *sorted(ends, key=lambda end: end[0]))

    async def subscribe(self) -> None:
        worker, seq = self.random.choice(self.workers), self.random.randint(9000, 9999)
        if claims := await self.claims_of(worker):
            await rows.send(self.connection, worker.subscribe, *(rows.subscribed(*claim, seq) for claim in claims))

    async def emit(self) -> None:
        await rows.send(self.connection, self.workers[0].emit, rows.emitted(new_token(), self.random.randint(1, 2)))
        await rows.run(self.connection, "emission/spread", self.random.randint(1, 10))
        await rows.run(self.connection, "message/deliver_posted", self.random.randint(1, 50), 1 << 20)

    async def give_up(self) -> None:
        worker = self.random.choice(self.workers)
        mine, seq = dict(await self.claims_of(worker)), self.random.randint(7000, 8000)
        found = await self.connection.fetch(A_FEW_CHILDREN)
        given = sorted((row["parent_id"], row["execution_id"]) for row in found if row["parent_id"] in mine)
        lost = [rows.given_up(parent, mine[parent], child, seq + n) for n, (parent, child) in enumerate(given)]
        if lost:
            await rows.send(self.connection, worker.give_up, *lost)

    async def cancel_child(self) -> None:
        if child := await self.connection.fetchval(A_CHILD):
            await rows.cancel(self.connection, child, new_token())

    async def release(self) -> None:
        worker = self.random.choice(self.workers)
        if claims := await self.claims_of(worker):
            await rows.send(self.connection, worker.release, *claims)

    async def fire(self) -> None:
        await rows.run(self.connection, "wake/fire", self.random.randint(1, EXECUTIONS), rows.WAKING)

    async def reap(self) -> None:
        await rows.run(self.connection, "claim/reap", self.random.choice(self.workers).id, False, 20, True)

    async def give_all_back(self) -> None:
        await rows.run(self.connection, "claim/release_all", self.random.choice(self.workers).id, 20, [])

    async def watch(self) -> None:
        some = sorted(self.random.sample(self.ids, self.random.randint(1, len(self.ids))))
        await rows.run(self.connection, "execution/watch", some, new_token())

    async def cancel(self) -> None:
        if self.random.random() < 0.2:
            await rows.cancel(self.connection, self.random.choice(self.ids), new_token())

    async def limit(self) -> None:
        """Limits come, go and change under those that they limit."""
        most, rate = self.random.choice([None, 5, 20]), self.random.choice([None, 1000])
        limits = [[rows.QUEUE], [most], [rate], [rate and 1.0], [None], [None], [False], [False]]
        if await rows.run(self.connection, "queue/declare", *limits):
            await rows.run(self.connection, "queue/count_claims", [rows.QUEUE])

    async def pause(self) -> None:
        await rows.run(self.connection, "queue/pause", rows.QUEUE, self.random.random() < 0.3, None, None)

    async def hold(self) -> None:
        first, second = self.random.choice([("act/park", "act/pause"), ("act/unpark", "act/resume")])
        id = self.random.choice(self.ids)
        async with self.connection.transaction():
            if await rows.run(self.connection, "execution/lock", id):
                operation = new_token()
                await rows.run(self.connection, first, id, operation)
                await rows.run(self.connection, second, id, operation, None, None)

    async def start(self) -> None:
        news = [rows.new(id) for id in sorted(self.random.sample(self.ids, 5))]
        await rows.send(self.connection, self.workers[0].start, *(new.row() for new in news))


async def storm(dsn: str, seed: int, rounds: int) -> None:
    """Let many clients act on the same executions at once."""
    ids = [new_token() for _ in range(EXECUTIONS)]
    async with rows.connections(dsn, CLIENTS + 1) as (direct, *connections):
        workers = [await Worker().register(direct) for _ in range(4)]
        news = [rows.new(id) for id in sorted(ids[::2])]  # the others are started in the storm, by several at once
        await rows.send(direct, workers[0].start, *(new.row() for new in news))
        clients = [Client(connection, workers, ids, seed + n) for n, connection in enumerate(connections)]

        async def work(client: Client) -> None:
            for _ in range(rounds):
                await client.act()

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(work(client))
        assert await direct.fetchval(DEADLOCKS) == 0
        # An owner takes back what it has asked before it ends an execution. Here several play one owner.
        await direct.execute(TAKE_BACK)
    await assert_invariants(dsn)


@pytest.mark.parametrize("seed", [1, 2])
async def test_concurrent_writes_over_the_same_executions_never_deadlock(database: str, seed: int) -> None:
    await storm(database, seed * 1000, rounds=150)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(3, 13))
async def test_long_storms_over_the_same_executions_never_deadlock(database: str, seed: int) -> None:
    await storm(database, seed * 1000, rounds=1_000)
