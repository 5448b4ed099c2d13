"""`durable doctor` finds what was planted, each with its cure, and `--fix` mends what it says it mends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from durable import Durable, Status, Workflow
from durable.doctor import Finding, Limits, examine
from tests.cli import shop
from tests.cli.calling import Caller
from tests.cli.test_asking_and_acting import until, waiting

Connection: TypeAlias = "asyncpg.Connection[Any]"
Plant: TypeAlias = Callable[[str, Connection], Awaitable[object]]


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def started(dsn: str) -> None:
    async with Durable(dsn, workflows=[shop], worker=False) as client:
        await client.start(shop.quick, 1, id="quick")


async def asleep(dsn: str) -> None:
    async with Durable(dsn, workflows=[shop]) as engine:
        await waiting(engine, "order-7")


async def a_law_is_broken(dsn: str, connection: Connection) -> None:
    await started(dsn)
    await connection.execute("update durable.execution set status = 'waiting'")


async def nobody_serves_a_queue(dsn: str, connection: Connection) -> None:
    await started(dsn)
    await connection.execute("update durable.ready set ready_at = ready_at - interval '1 hour'")


async def code_was_changed(dsn: str, connection: Connection) -> None:
    await asleep(dsn)
    changed = Workflow[Any, Any]("process_order")
    changed.step(shop.charge)
    async with Durable(dsn, workflows=[changed]) as engine:
        await engine.provide_input("order-7", "manager", "approved")
        async with asyncio.timeout(30):
            while (await engine.get_execution("order-7")).hold is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)


async def a_worker_is_dead(dsn: str, connection: Connection) -> None:
    await started(dsn)
    await connection.execute(
        "insert into durable.worker (worker_id, lease_expires_at, started_at, host, pid) "
        "values (gen_random_uuid(), now() - interval '1 hour', now() + interval '1 hour', 'gone', 7)"
    )
    await connection.execute(
        "insert into durable.claim select execution_id, (select worker_id from durable.worker), gen_random_uuid(), now(), 0 "
        "from durable.ready"
    )
    await connection.execute("delete from durable.ready")


async def a_claim_has_no_owner(dsn: str, connection: Connection) -> None:
    await a_worker_is_dead(dsn, connection)
    await connection.execute("delete from durable.worker")


async def nobody_keeps_the_time(dsn: str, connection: Connection) -> None:
    await asleep(dsn)
    await connection.execute("update durable.wake set due_at = now() - interval '1 hour'")


async def a_step_kills_its_process(dsn: str, connection: Connection) -> None:
    await started(dsn)
    await connection.execute("update durable.ready set crashes = 3")


async def an_event_was_refused(dsn: str, connection: Connection) -> None:
    await started(dsn)
    await connection.execute(
        "insert into durable.posted (execution_id, topic, once, refused, payload) "
        "select execution_id, 'event:x', 'o:1', 'a fault', 'null' from durable.execution"
    )


async def nobody_spreads_emissions(dsn: str, connection: Connection) -> None:
    await connection.execute(
        "insert into durable.emission (operation, emitted_at, topic, keys, payload) "
        "values (gen_random_uuid(), now() - interval '10 minutes', 'news', '{}', 'null')"
    )


async def a_transaction_stays_open(dsn: str, connection: Connection) -> None:
    await connection.execute("begin")
    await connection.execute("select from durable.execution")


async def a_worker_is_of_an_older_program(dsn: str, connection: Connection) -> None:
    await connection.execute(
        "insert into durable.worker (worker_id, lease_expires_at, started_at, host, pid) "
        "values (gen_random_uuid(), now() + interval '1 hour', now() - interval '1 year', 'old', 7)"
    )


async def a_table_is_bloated(dsn: str, connection: Connection) -> None:
    await connection.execute("alter table durable.topic set (autovacuum_enabled = off)")
    await connection.execute("insert into durable.topic select 't' || n from generate_series(1, 20000) n")
    await connection.execute("delete from durable.topic")
    await connection.execute("select pg_stat_force_next_flush()")
    await connection.execute("select pg_stat_clear_snapshot()")


async def an_index_is_invalid(dsn: str, connection: Connection) -> None:
    await connection.execute(
        "update pg_index set indisvalid = false where indexrelid = 'durable.wake_by_time'::regclass"
    )


async def a_listener_sleeps_in_a_transaction(dsn: str, connection: Connection) -> None:
    await connection.execute("listen somewhere")
    await connection.execute("begin")
    await connection.execute("select 1")
    other = await asyncpg.connect(dsn)
    for _ in range(40):
        await other.execute("select pg_notify('somewhere', repeat('x', 7000) || n) from generate_series(1, 40) n")
    await other.close()


PLANTED: dict[Plant, tuple[str, str]] = {
    a_law_is_broken: ("invariants", "law_9_status_fits_place is broken by 1 rows"),
    nobody_serves_a_queue: ("stuck", "of queue 'default' 1 execution stood ready and untaken for 1h"),
    code_was_changed: ("held", "1 execution of 'process_order' held: expected step \"calculate_total\" in place 1"),
    a_worker_is_dead: ("dead workers", "(process 7 on gone) has been silent for 1h"),
    a_claim_has_no_owner: ("dead workers", "an owner that is no worker"),
    nobody_keeps_the_time: ("overdue", "1 execution should have been woken, the first 1h"),
    a_step_kills_its_process: ("suspects", "1 execution in flight in up to 3 crashes of workers: quick"),
    an_event_was_refused: ("undelivered", "1 events could not be delivered"),
    nobody_spreads_emissions: ("undelivered", "1 events were emitted, and nobody has spread them"),
    a_transaction_stays_open: ("transactions", "has a transaction open for"),
    a_worker_is_of_an_older_program: ("versions", "1 workers were started before the latest migration"),
    a_table_is_bloated: ("bloat", "table topic has 20,000 dead rows beside 0 live ones"),
    an_index_is_invalid: ("server", "index wake_by_time is invalid and not used"),
    a_listener_sleeps_in_a_transaction: ("notifications", "the queue of notifications is"),
}
STRICT = Limits(transaction=0.0, notify_usage=0.00001)


def faults_of(findings: list[Finding]) -> list[Finding]:
    """Without what is said of the server that the tests run on: it is made to be fast, and lost."""
    return [f for f in findings if f.severity != "note" and f.check != "durability"]


async def examined(dsn: str) -> list[Finding]:
    return faults_of([finding async for _, found in examine(dsn, STRICT) for finding in found])


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_a_planted_fault_is_found_and_nothing_else(database: str, connection: Connection, plant: Plant) -> None:
    assert not [f for f in await examined(database) if f.check != "transactions"]
    await plant(database, connection)
    check, what = PLANTED[plant]
    found = [f for f in await examined(database) if f.check == check or f.check != "transactions"]
    matching = [finding for finding in found if finding.check == check and what in finding.what]
    assert matching, found
    assert all(finding.cure for finding in found)
    assert {f.check for f in found} == {check}, found


async def test_an_index_that_was_once_much_larger_is_a_note(database: str, connection: Connection) -> None:
    limits = Limits(index_bytes=100_000)

    async def told() -> list[str]:
        found = [finding async for name, found in examine(database, limits) if name == "indexes" for finding in found]
        assert all(finding.severity == "note" for finding in found)
        return [finding.what.split(" has ")[0] for finding in found]

    await connection.execute("insert into durable.topic select 't' || n from generate_series(1, 20000) n")
    await connection.execute("vacuum analyze durable.topic")
    assert await told() == [], "it is as large as its rows need"
    await connection.execute("delete from durable.topic")
    await connection.execute("vacuum analyze durable.topic")
    assert await told() == ["index topic_pkey"]
    await connection.execute("reindex index concurrently durable.topic_pkey")
    assert await told() == []


async def test_the_command_tells_of_faults_with_their_cures_and_its_status(
    durable: Caller, database: str, connection: Connection
) -> None:
    await nobody_serves_a_queue(database, connection)
    said = await durable("doctor")
    assert said.status == 1
    assert "error   stuck: of queue 'default' 1 execution stood ready" in said.out
    assert "Start a worker that serves it" in said.out
    told = (await durable("doctor", "--json")).json
    assert not told["ok"]
    assert "invariants" in told["checks"]


async def test_a_database_whose_server_may_lose_what_was_acknowledged_is_told(
    durable: Caller, connection: Connection
) -> None:
    said = (await durable("doctor", "--json")).json
    told = any("fsync is off" in finding["what"] for finding in said["findings"])
    assert told == (await connection.fetchval("show fsync") == "off")


async def test_a_schema_that_is_missing_is_told_first(empty_database: str) -> None:
    said = await Caller(empty_database)("doctor")
    assert said.status == 1
    assert "Run `durable migrate`." in said.out


@pytest.mark.parametrize("plant", [a_worker_is_dead, a_claim_has_no_owner, nobody_keeps_the_time, a_table_is_bloated])
async def test_fix_mends_it(durable: Caller, database: str, connection: Connection, plant: Plant) -> None:
    await plant(database, connection)
    said = (await durable("doctor", "--fix", "--json")).json
    assert said["fixed"]
    assert PLANTED[plant][0] not in {finding["check"] for finding in said["findings"]}
    if plant is not a_table_is_bloated:
        async with Durable(database, workflows=[shop]) as engine:
            if plant is nobody_keeps_the_time:
                await engine.provide_input("order-7", "manager", "approved")
                await engine.send_event("order-7", "shipped")
            await until(engine, "order-7" if plant is nobody_keeps_the_time else "quick", Status.COMPLETED)
