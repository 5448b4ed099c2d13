"""What the body of a transactional step writes is there exactly once if the step has its record, and not at all if not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

import durable
from durable import Durable, ExecutionFailed, Retry, Status, UsageError, Workflow, context
from durable.engine.journal import Record
from durable.ids import new_token
from durable.runtime import supervisor
from durable.runtime.transacting import OwnedTransaction
from durable.store.connection import Connection
from tests.faults import in_process
from tests.faults.in_process import GUARD, Bodies, body, running_step, settled, statement, until
from tests.store import rows
from tests.support.crew import Crew, first_to_say
from tests.support.flows import paying, planned
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy

RECORD = "transaction/record"
quick = Retry(max_attempts=3, delay=timedelta(milliseconds=1))
Data = dict[str, object]

books = Workflow[Data, Data]("books")
refused = Workflow[Data, Data]("refused", retry=quick)
ending = Workflow[Data, Data]("ending")
swallowing = Workflow[Data, Data]("swallowing")
waiting = Workflow[Data, Data]("waiting")
undone = Workflow[Data, Data]("undone")
fan = Workflow[Data, Data]("fan")
begetting = Workflow[Data, Data]("begetting")
held = Workflow[Data, Data]("held")


async def book(what: str) -> None:
    await context().connection.execute(
        "insert into public.booked (execution, path, what) values ($1, $2, $3)",
        context().execution_id,
        context().path,
        what,
    )


@books.step(transactional=True)
async def debit(data: Data) -> Data:
    async with body():
        await book("debit")
        return {**data, "debit": True}


@books.step(transactional=True)
async def credit(data: Data) -> None:
    async with body():
        await book("credit")


@refused.step(transactional=True)
async def third_time(data: Data, ctx: durable.Context) -> Data:
    async with body():
        await book(f"attempt {ctx.attempt}")
        if ctx.attempt < 3:
            await ctx.connection.execute("insert into public.booked (execution) values ('no path')")
        return data


@ending.step(transactional=True)
async def commits(data: Data, ctx: durable.Context) -> None:
    await ctx.connection.execute("rollback")


@swallowing.step(transactional=True)
async def swallows(data: Data, ctx: durable.Context) -> None:
    await book("before the error")
    with contextlib.suppress(asyncpg.DivisionByZeroError):
        await ctx.connection.execute("select 1/0")


@waiting.step(transactional=True)
async def waits(data: Data) -> None:
    await durable.sleep(timedelta(0))


async def unbook(data: Data) -> None:
    await book("undone")


undone.compensation(unbook, transactional=True)


@undone.step(transactional=True, compensate=unbook)
async def books_and_is_undone(data: Data) -> None:
    await book("done")


@undone.step
async def breaks(data: Data) -> None:
    raise ValueError("broken")


lines = fan.foreach("lines", items=lambda data: data["lines"], concurrency=5)


@lines.step(transactional=True)
async def line(data: Data, item: int) -> int:
    await book(f"line {item}")
    return item


@begetting.step(transactional=True)
async def begets(data: Data, ctx: durable.Context) -> None:
    await durable.start(books, {}, id=f"child of {ctx.execution_id}", connection=ctx.connection)
    if data.get("fails"):
        raise ValueError("and thinks better of it")


@held.step(transactional=True)
async def holds(data: Data) -> Data:
    async with body():
        await book("held")
        await in_process.bodies.gate.wait()
        return data


stubborn = Workflow[Data, Data]("stubborn")
leaving = Workflow[Data, Data]("leaving")
plain = Workflow[Data, Data]("plain")


@stubborn.step(transactional=True)
async def heeds_nothing(data: Data) -> Data:
    async with body():
        await book("stubborn")
        while not in_process.bodies.gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await in_process.bodies.gate.wait()
        return data


@leaving.step(transactional=True)
async def leaves(data: Data, ctx: durable.Context) -> None:
    left = asyncio.ensure_future(ctx.connection.execute("select pg_sleep(5)"))
    left.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.sleep(0.05)


@plain.step
async def nothing(data: Data) -> None:
    """Has the engine open its connections."""


WORKFLOWS = [plain, stubborn, leaving, books, refused, ending, swallowing, waiting, undone, fan, begetting, held]


@pytest.fixture
async def bodies() -> Bodies:
    return in_process.begin_anew()


@pytest.fixture
async def direct(database: str, bodies: Bodies) -> AsyncIterator[Connection]:
    async with rows.connections(database, 1) as (connection,):
        await connection.execute("create table public.booked (execution text, path text not null, what text)")
        yield connection


@pytest.fixture
async def proxy(database: str, direct: Connection) -> AsyncIterator[Proxy]:
    async with Proxy(database) as proxy:
        yield proxy


@pytest.fixture
async def engine(proxy: Proxy) -> AsyncIterator[Durable]:
    async with Durable(proxy.dsn, workflows=WORKFLOWS, lease=timedelta(seconds=2)) as engine:
        await settled(engine)
        yield engine


async def booked(connection: Connection) -> list[str]:
    return [row["what"] for row in await connection.fetch("select what from public.booked order by what")]


async def failure_of(engine: Durable, workflow: Workflow[Data, Data]) -> str:
    handle = await engine.start(workflow, {}, id="fails")
    with pytest.raises(ExecutionFailed) as failed:
        await handle.result(GUARD)
    return str(failed.value)


async def test_what_the_body_writes_commits_with_its_record(engine: Durable, direct: Connection) -> None:
    handle = await engine.start(books, {}, id="order")
    assert await handle.result(GUARD) == {"debit": True}
    assert await booked(direct) == ["credit", "debit"]
    together = await direct.fetch(
        "select b.xmin = j.xmin as one from public.booked b join durable.journal j using (path) order by path"
    )
    assert [row["one"] for row in together] == [True, True], "the same transaction"


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        (RECORD, False),
        (RECORD, True),
        ("COMMIT;", False),
        ("COMMIT;", True),
        ("BEGIN ISOLATION LEVEL READ COMMITTED;", True),
    ],
)
async def test_a_lost_connection_writes_nothing_twice_and_is_no_attempt(
    engine: Durable, proxy: Proxy, direct: Connection, bodies: Bodies, name: str, reply: bool
) -> None:
    match = statement(name)
    fault = proxy.cut_after_commit(match) if reply else proxy.cut_before(match)
    handle = await engine.start(books, {}, id="order")
    assert await handle.result(GUARD) == {"debit": True}
    assert fault.struck == 1
    assert await booked(direct) == ["credit", "debit"]
    assert {attempt for _, _, attempt in bodies.began} == {1}
    committed = (name, reply) == ("COMMIT;", True)
    assert len(bodies.began) == (2 if committed or name.startswith("BEGIN") else 3)


async def test_a_connection_that_is_always_lost_is_a_failure_in_the_end(
    engine: Durable, proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    proxy.cut_before(statement(RECORD), times=100)
    assert "could not be committed 5 times; the last time: ConnectionDoesNotExistError" in await failure_of(
        engine, books
    )
    assert await booked(direct) == []


async def test_what_a_failed_attempt_has_written_is_not_there(engine: Durable, direct: Connection) -> None:
    await (await engine.start(refused, {}, id="order")).result(GUARD)
    assert await booked(direct) == ["attempt 3"]


async def test_an_error_of_postgresql_that_the_body_swallows_fails_the_attempt(
    engine: Durable, direct: Connection
) -> None:
    assert "current transaction is aborted" in await failure_of(engine, swallowing)
    assert await booked(direct) == []


async def test_a_body_that_ends_its_transaction_is_refused(engine: Durable) -> None:
    assert "has ended its transaction" in await failure_of(engine, ending)


async def test_a_transactional_body_cannot_wait(engine: Durable) -> None:
    assert "is transactional" in await failure_of(engine, waiting)


async def test_a_compensation_may_be_transactional(engine: Durable, direct: Connection) -> None:
    handle = await engine.start(undone, {}, id="order")
    with pytest.raises(ExecutionFailed):
        await handle.result(GUARD)
    assert await booked(direct) == ["done", "undone"]
    assert (await handle.status()) is Status.COMPENSATED


async def test_more_items_than_connections_take_turns(proxy: Proxy, direct: Connection) -> None:
    async with Durable(proxy.dsn, workflows=WORKFLOWS, transactions=2) as engine:
        await (await engine.start(fan, {"lines": list(range(20))}, id="order")).result(GUARD)
        assert len(await booked(direct)) == 20
        opened = await direct.fetchval(
            "select count(*) from pg_stat_activity where application_name = 'durable transactions'"
        )
        assert opened == 2


async def test_a_start_in_the_transaction_happens_with_the_step_or_not_at_all(engine: Durable) -> None:
    await (await engine.start(begetting, {}, id="good")).result(GUARD)
    with pytest.raises(ExecutionFailed):
        await (await engine.start(begetting, {"fails": True}, id="bad")).result(GUARD)
    assert await engine.get_execution("child of good")
    with pytest.raises(durable.UnknownExecution):
        await engine.get_execution("child of bad")


async def test_a_cancel_rolls_back(engine: Durable, direct: Connection, bodies: Bodies) -> None:
    handle = await engine.start(held, {}, id="order")
    await running_step("holds")
    await handle.cancel("no more")
    with pytest.raises(durable.ExecutionCancelled):
        await handle.result(GUARD)
    assert bodies.cancelled
    assert await booked(direct) == []


async def test_a_cancel_during_the_commit_does_not_undo_what_is_recorded(
    engine: Durable, proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    commit = proxy.hold_reply(statement("COMMIT;"))
    handle = await engine.start(books, {}, id="order")
    await commit
    await handle.cancel("too late for the first step")
    commit.release()
    with pytest.raises(durable.ExecutionCancelled):
        await handle.result(GUARD)
    steps = [
        record["path"] for record in await direct.fetch("select path from durable.journal where kind = 'completed'")
    ]
    assert await booked(direct) == ["debit"]
    assert steps == ["debit"]


async def test_a_worker_that_was_overtaken_commits_nothing(
    engine: Durable, proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    record = proxy.hold(statement(RECORD))
    await engine.start(books, {}, id="order")
    await record
    await direct.execute("update durable.claim set token = gen_random_uuid()")  # as whoever takes it over does
    record.release()
    await until(lambda: _closed_its_transaction(direct), "the end of the transaction")
    assert await booked(direct) == []
    assert await direct.fetchval("select count(*) from durable.journal") == 0


async def _closed_its_transaction(direct: Connection) -> bool:
    return not await direct.fetchval(
        "select count(*) from pg_stat_activity"
        " where application_name = 'durable transactions' and state like '%in transaction%'"
    )


class Stubborn:
    """A transaction, of an execution that this worker has given up, whose connection breaks when its commit is cancelled; the
    second time that it is cancelled, it is let go."""

    connection = None
    is_lost, is_open = False, True

    def __init__(self) -> None:
        self.committing, self.cancelled, self.let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.asked = 0
        self.execution_id = self.token = new_token()
        self.writes = SimpleNamespace(worker_id=new_token())

    def goes_on_elsewhere(self) -> bool:
        return True

    async def fetch(self, *_: object) -> list[str]:
        return ["3s"]

    async def commit(self) -> None:
        self.committing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.let_go.wait()
            raise ConnectionResetError("cut off while it was cancelled") from None

    def drop(self) -> None:
        """It is broken already."""

    async def is_recorded(self, *_: object) -> bool:
        self.asked += 1
        return False


async def test_a_commit_that_is_given_up_is_nobodys_and_nobody_asks_what_became_of_it() -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about["message"]))
    fake: Any = Stubborn()
    record = Record(1, "pays", "completed", 1)
    task = asyncio.create_task(OwnedTransaction(fake, fake, fake).commit(record))
    await fake.committing.wait()
    task.cancel()
    await fake.cancelled.wait()
    task.cancel()  # once more, before the connection has let go of it
    await asyncio.wait({task}, timeout=GUARD)
    assert task.cancelled()
    fake.let_go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert fake.asked == 0
    assert complaints == []


@contextlib.asynccontextmanager
async def refusing(database: str) -> AsyncIterator[None]:
    """PostgreSQL refuses new connections to the database meanwhile, and keeps those that there are."""
    parts = urlsplit(database)
    name = parts.path.lstrip("/")
    connection = await asyncpg.connect(parts._replace(path="/postgres").geturl())
    try:
        await connection.execute(f'alter database "{name}" allow_connections false')
        yield
    finally:
        await connection.execute(f'alter database "{name}" allow_connections true')
        await connection.close()


@pytest.mark.parametrize("what", ["transactions", "writer"])
async def test_what_needs_a_connection_waits_while_none_can_be_opened(
    engine: Durable, database: str, direct: Connection, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    if what == "transactions":  # all connections but theirs are open
        for number in range(8):
            await (await engine.start(plain, {}, id=f"plain {number}")).result(GUARD)
    async with refusing(database):
        starting = asyncio.create_task(engine.start(books, {}, id="order"))
        await until(lambda: f"did not answer ({what}" in caplog.text, "a refusal")
    await (await starting).result(GUARD)
    assert await booked(direct) == ["credit", "debit"]


async def test_what_was_committed_is_found_once_connections_can_be_opened_again(
    engine: Durable, proxy: Proxy, database: str, direct: Connection, bodies: Bodies, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(8):
        await (await engine.start(plain, {}, id=f"plain {number}")).result(GUARD)
    commit = proxy.hold_reply(statement("COMMIT;"))
    handle = await engine.start(books, {}, id="order")
    await commit
    async with refusing(database):
        proxy.sever(statement("COMMIT;"))
        await until(lambda: "not currently accepting" in caplog.text, "a refusal")
    commit.release()
    await handle.result(GUARD)
    assert await booked(direct) == ["credit", "debit"]
    assert len(bodies.began) == 2


async def test_what_is_found_out_about_a_commit_waits_for_no_other_body(
    proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    async with Durable(proxy.dsn, workflows=WORKFLOWS, transactions=1) as engine:
        commit = proxy.hold_reply(statement("COMMIT;"))
        order = await engine.start(books, {}, id="order")
        await commit
        await engine.start(held, {}, id="held")
        proxy.sever(statement("COMMIT;"))
        await running_step("holds")
        await until(lambda: _completed(direct, "debit"), "the first step")
        commit.release()
        bodies.gate.set()
        await order.result(GUARD)
    assert await booked(direct) == ["credit", "debit", "held"]


async def _completed(direct: Connection, path: str) -> bool:
    found: bool = await direct.fetchval("select exists (select from durable.journal where path = $1)", path)
    return found


async def test_a_body_that_outlasts_its_engine_ends_when_that_is_closed(
    proxy: Proxy, direct: Connection, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_SECONDS", 0.2)
    async with Durable(proxy.dsn, workflows=WORKFLOWS, drain=timedelta(0)) as engine:
        await engine.start(stubborn, {}, id="order")
        await running_step("heeds_nothing")
        (owned,) = engine.parts().supervisor._owned.values()  # type: ignore[union-attr]
        assert owned.task is not None
    bodies.gate.set()
    await asyncio.wait({owned.task}, timeout=GUARD)
    assert owned.task.done()
    assert await booked(direct) == []


async def test_a_statement_that_the_body_leaves_behind_is_its_fault(engine: Durable, bodies: Bodies) -> None:
    assert "has left a statement behind" in await failure_of(engine, leaving)


async def test_draining_rolls_back_and_the_next_worker_writes_it_once(
    proxy: Proxy, direct: Connection, bodies: Bodies
) -> None:
    async with Durable(proxy.dsn, workflows=WORKFLOWS, drain=timedelta(0)) as engine:
        await engine.start(held, {}, id="order")
        await running_step("holds")
    assert await booked(direct) == []
    bodies.gate.set()
    async with Durable(proxy.dsn, workflows=WORKFLOWS) as engine:
        await engine.handle("order").result(GUARD)
    assert await booked(direct) == ["held"]


async def test_outside_a_transactional_step_there_is_no_connection(engine: Durable) -> None:
    plain = Workflow[Data, Data]("plain")

    @plain.step
    async def asks(data: Data, ctx: durable.Context) -> None:
        with pytest.raises(UsageError, match="not transactional"):
            ctx.connection  # noqa: B018

    run = await durable.testing.run(plain, {})
    assert run.status is Status.COMPLETED


async def paid(ledger: Ledger) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in await ledger.connection.fetch("select execution, what from public.paid order by execution, what"):
        found.setdefault(row["execution"], []).append(row["what"])
    return found


async def test_a_worker_killed_in_the_transaction_leaves_nothing_of_it(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = await crew.start_two(lease=1.5)
    handle = await client.start(paying, planned(pay={"stuck": 1}), id="order")
    (await first_to_say(workers, "begin", path="pay")).kill()
    await handle.result(60)
    assert await paid(ledger) == {"order": ["after", "before"]}


async def test_a_worker_frozen_in_the_transaction_writes_nothing_on_waking(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    workers = await crew.start_two(lease=1.5)
    handle = await client.start(paying, planned(pay={"hold_first": 1.0}), id="order")
    zombie = await first_to_say(workers, "begin", path="pay")
    zombie.stop()
    await handle.result(60)
    zombie.cont()  # the body's pause is over: its end and the loss of the claim race
    next(worker for worker in workers if worker is not zombie).kill()
    await (await client.start(paying, {}, id="other")).result(60)
    assert await paid(ledger) == {"order": ["after", "before"], "other": ["after", "before"]}


@pytest.mark.parametrize("executions", [60, pytest.param(1_500, marks=pytest.mark.stress)])
async def test_transactions_amid_kills_and_lost_replies_are_made_exactly_once(
    database: str, ledger: Ledger, executions: int
) -> None:
    rng = random.Random(executions)
    async with Proxy(database, own_thread=True) as proxy, Crew(proxy.dsn) as crew:
        proxy.delay = lambda: rng.uniform(0, 0.01)
        options = {"lease": 1.5, "max_crashes": 1_000_000, "ledger_dsn": database}
        workers = list(await crew.start_two(**options))
        async with Durable(database, workflows=[paying], worker=False) as client:
            handles = [await client.start(paying, {}, id=f"order {number}") for number in range(executions)]
            ends = asyncio.gather(*(handle.result(120) for handle in handles))
            while not ends.done():
                await asyncio.wait({ends}, timeout=rng.uniform(0.1, 1.0))
                if rng.random() < 0.3:
                    victim = rng.randrange(2)
                    workers[victim].kill()
                    workers[victim] = await crew.start(**options)
                else:
                    proxy.cut_after_commit(statement("COMMIT;"), times=rng.randrange(3) + 1)
                    proxy.cut_before(statement(RECORD))
            await ends
    assert await paid(ledger) == {f"order {number}": ["after", "before"] for number in range(executions)}
