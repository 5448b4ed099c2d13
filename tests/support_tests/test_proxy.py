"""The fault proxy, between asyncpg and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.proxy import Proxy

Connect = Callable[[str], Awaitable[asyncpg.Connection]]

BROKEN = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open connections that are ended with the test, in whatever state a fault left them."""
    opened: list[asyncpg.Connection] = []

    async def open_one(dsn: str) -> asyncpg.Connection:
        opened.append(await asyncpg.connect(dsn))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.terminate()
    await asyncio.sleep(0)  # lets the transports close before the loop does


@pytest.fixture(params=[False, True], ids=["same-loop", "own-thread"])
async def proxy(request: pytest.FixtureRequest, empty_database: str) -> AsyncIterator[Proxy]:
    async with Proxy(empty_database, own_thread=request.param) as proxy:
        yield proxy


@pytest.fixture
async def direct(connect: Connect, empty_database: str) -> asyncpg.Connection:
    """A connection past the proxy, and a table to write to."""
    direct = await connect(empty_database)
    await direct.execute("CREATE TABLE t (n int)")
    return direct


@pytest.fixture
async def client(connect: Connect, proxy: Proxy, direct: asyncpg.Connection) -> asyncpg.Connection:
    """A connection through the proxy, its start not counted."""
    client = await connect(proxy.dsn)
    proxy.reset()
    return client


async def _rows(direct: asyncpg.Connection) -> list[int]:
    return [row["n"] for row in await direct.fetch("SELECT n FROM t ORDER BY n")]


async def _until(direct: asyncpg.Connection, sql: str, *args: object) -> None:
    """Ask until the server says yes: it has no signal for what another session waits for."""
    async with asyncio.timeout(30):
        while not await direct.fetchval(sql, *args):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _listening(connection: asyncpg.Connection) -> AsyncIterator[asyncio.Queue[str]]:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("news", lambda *event: heard.put_nowait(event[-1]))
    yield heard


# --- Counting -----------------------------------------------------------------------------------------------


async def test_executions_are_counted_with_their_sql_and_preparations_apart(
    proxy: Proxy, client: asyncpg.Connection
) -> None:
    for n in (1, 2):
        await client.execute("INSERT INTO t VALUES ($1)", n)
    assert await client.fetchval("SELECT count(*) FROM t") == 2
    await client.execute("DELETE FROM t")
    insert, select = "INSERT INTO t VALUES ($1)", "SELECT count(*) FROM t"
    assert proxy.statements == [insert, insert, select, "DELETE FROM t"]
    assert proxy.preparations == [insert, select]
    assert proxy.count("INSERT") == 2
    assert proxy.count(lambda sql: sql.endswith("t")) == 2
    proxy.reset()
    assert proxy.log == []


async def test_a_transaction_counts_its_begin_and_commit(proxy: Proxy, client: asyncpg.Connection) -> None:
    async with client.transaction():
        await client.execute("INSERT INTO t VALUES (1)")
    assert proxy.statements == ["BEGIN;", "INSERT INTO t VALUES (1)", "COMMIT;"]


async def test_executemany_is_one_round_trip(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    await client.executemany("INSERT INTO t VALUES ($1)", [(n,) for n in range(5000)])
    assert proxy.statements == ["INSERT INTO t VALUES ($1)"]
    assert await _rows(direct) == list(range(5000))


async def test_round_trips_are_counted_by_connection(
    proxy: Proxy, client: asyncpg.Connection, connect: Connect
) -> None:
    other = await connect(proxy.dsn)
    assert proxy.connections == 2
    await client.execute("SELECT 1")
    await other.fetchval("SELECT $1::int", 1)
    assert proxy.round_trips == {1: 1, 2: 2}


async def test_a_cursor_counts_one_execution_for_each_fetch(proxy: Proxy, client: asyncpg.Connection) -> None:
    async with client.transaction():
        cursor = await client.cursor("SELECT generate_series(1, 4)")
        assert [len(await cursor.fetch(2)) for _ in range(2)] == [2, 2]
    assert proxy.count("generate_series") == 2


# --- Carrying -----------------------------------------------------------------------------------------------


async def test_large_values_pass_unchanged_in_both_directions(client: asyncpg.Connection) -> None:
    value = "x" * 3_000_000
    assert await client.fetchval("SELECT $1::text", value) == value


async def test_copy_passes_in_both_directions(proxy: Proxy, client: asyncpg.Connection) -> None:
    await client.copy_records_to_table("t", records=[(n,) for n in range(20_000)])
    copied: list[bytes] = []

    async def keep(data: bytes) -> None:
        copied.append(data)

    await client.copy_from_query("SELECT n FROM t ORDER BY n", output=keep)
    assert b"".join(copied).split() == [str(n).encode() for n in range(20_000)]
    assert proxy.count("COPY") == 2


async def test_a_connection_survives_a_statement_that_fails(client: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await client.fetch("SELEKT $1", 1)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await client.fetch("SELECT 1 / $1::int", 0)
    assert await client.fetchval("SELECT 1") == 1


async def test_a_cancel_request_reaches_the_server(client: asyncpg.Connection) -> None:
    with pytest.raises(TimeoutError):
        await client.execute("SELECT pg_sleep(600)", timeout=0.05)
    assert await client.fetchval("SELECT 1") == 1


async def test_a_client_that_would_like_tls_is_answered_no(proxy: Proxy) -> None:
    connection = await asyncpg.connect(proxy.dsn.replace("sslmode=disable", "sslmode=prefer"))
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is False
    await connection.close()


async def test_the_server_is_reached_by_tcp_and_by_unix_socket(empty_database: str, direct: asyncpg.Connection) -> None:
    name = await direct.fetchval("SELECT current_database()")
    user = await direct.fetchval("SELECT current_user")
    port = await direct.fetchval("SHOW port")
    directory = (await direct.fetchval("SHOW unix_socket_directories")).split(",")[0].strip()
    hosts = [directory] if directory else []
    if await direct.fetchval("SHOW listen_addresses"):
        hosts.append("127.0.0.1")
    assert hosts
    for host in hosts:
        async with Proxy(f"postgresql://{user}@/{name}?host={host}&port={port}") as proxy:
            connection = await asyncpg.connect(proxy.dsn)
            assert await connection.fetchval("SELECT current_database()") == name
            await connection.close()


async def test_the_answer_of_a_fatal_error_reaches_the_client(
    client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    async with asyncio.TaskGroup() as group:
        pid = client.get_server_pid()
        sleeping = group.create_task(_broken(client.execute("SELECT pg_sleep(600)")))
        await _until(direct, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1", pid)
        await direct.execute("SELECT pg_terminate_backend($1)", pid)
    assert "due to administrator command" in str(sleeping.result())


async def _broken(statement: Awaitable[object]) -> BaseException:
    with pytest.raises((asyncpg.PostgresError, *BROKEN)) as broken:
        await statement
    return broken.value


# --- Notifications ------------------------------------------------------------------------------------------


async def test_dropped_notifications_never_arrive(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    async with _listening(client) as heard:
        proxy.drop_notifications = True
        await direct.execute("NOTIFY news, 'dropped'")
        # The server sends a session its notifications before the answer to its next statement.
        await client.execute("SELECT 1")
        proxy.drop_notifications = False
        await direct.execute("NOTIFY news, 'kept'")
        assert await asyncio.wait_for(heard.get(), 30) == "kept"


# --- Delays -------------------------------------------------------------------------------------------------


async def test_a_delay_comes_before_each_batch(proxy: Proxy, client: asyncpg.Connection) -> None:
    loop = asyncio.get_running_loop()
    proxy.delay = 0.05
    began = loop.time()
    await client.fetchval("SELECT $1::int", 1)  # prepare, execute
    assert loop.time() - began >= 0.1


async def test_a_delay_may_be_drawn_anew_for_each_batch(proxy: Proxy, client: asyncpg.Connection) -> None:
    delays = iter([0.001, 0.002, 0.0])
    proxy.delay = lambda: next(delays)
    await client.fetchval("SELECT $1::int", 1)
    await client.fetchval("SELECT $1::int", 1)
    assert list(delays) == []


# --- Cuts ---------------------------------------------------------------------------------------------------


async def test_a_statement_cut_after_commit_has_happened_and_its_answer_is_lost(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    await client.execute("SELECT pg_advisory_lock(1)")
    lost = proxy.cut_after_commit("INSERT")
    with pytest.raises(BROKEN):
        await client.execute("INSERT INTO t VALUES ($1)", 1)
    await lost
    assert lost.struck == 1
    assert await _rows(direct) == [1]
    # Granted only once the server's session has ended as well.
    await direct.execute("SELECT pg_advisory_lock(1)", timeout=30)


async def test_a_transaction_cut_after_its_commit_has_happened(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    lost = proxy.cut_after_commit("COMMIT")
    with pytest.raises(BROKEN):
        async with client.transaction():
            await client.execute("INSERT INTO t VALUES (1)")
    await lost
    assert await _rows(direct) == [1]


async def test_a_copy_cut_after_commit_has_happened(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    lost = proxy.cut_after_commit("COPY")
    with pytest.raises(BROKEN):
        await client.copy_records_to_table("t", records=[(1,), (2,)])
    await lost
    assert await _rows(direct) == [1, 2]


async def test_a_statement_cut_before_has_not_happened(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    lost = proxy.cut_before(lambda sql: sql.startswith("INSERT"))
    with pytest.raises(BROKEN):
        await client.execute("INSERT INTO t VALUES ($1)", 1)
    await lost
    assert proxy.statements == []
    assert await _rows(direct) == []


async def test_a_cut_strikes_as_often_as_told_and_preparing_is_no_strike(proxy: Proxy, connect: Connect) -> None:
    lost = proxy.cut_after_commit("SELECT $1", times=2)
    for strike in (1, 2):
        client = await connect(proxy.dsn)
        statement = await client.prepare("SELECT $1::int")
        assert lost.struck == strike - 1
        with pytest.raises(BROKEN):
            await statement.fetchval(1)
        await lost.wait(strike)
    client = await connect(proxy.dsn)
    assert await client.fetchval("SELECT $1::int", 1) == 1


async def test_a_cut_strikes_only_the_connection_that_matches(
    proxy: Proxy, client: asyncpg.Connection, connect: Connect
) -> None:
    other = await connect(proxy.dsn)
    lost = proxy.cut_after_commit("SELECT 2")
    assert await client.fetchval("SELECT 1") == 1
    with pytest.raises(BROKEN):
        await other.fetchval("SELECT 2")
    await lost
    assert await client.fetchval("SELECT 3") == 3


async def test_a_fault_whose_connection_ends_first_says_so(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    lost = proxy.cut_after_commit("pg_sleep")
    await direct.execute("SELECT pg_advisory_lock(1)")
    pid = client.get_server_pid()
    async with asyncio.TaskGroup() as group:
        group.create_task(_broken(client.execute("SELECT pg_advisory_lock(1), pg_sleep(0)")))
        await _until(direct, "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $1", pid)
        await direct.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(ConnectionError, match="before it could strike"):
        await lost
    assert lost.struck == 0


async def test_a_cut_after_commit_strikes_even_when_its_client_has_gone(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    lost = proxy.cut_after_commit("INSERT")
    await direct.execute("SELECT pg_advisory_lock(1)")
    insert = asyncio.create_task(_broken(client.execute("INSERT INTO t SELECT 1 FROM pg_advisory_lock(1)")))
    await _until(direct, "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $1", client.get_server_pid())
    client.terminate()
    await insert
    await direct.execute("SELECT pg_advisory_unlock(1)")
    await lost
    assert await _rows(direct) == [1]


async def test_a_fault_that_never_strikes_fails_the_wait(proxy: Proxy) -> None:
    with pytest.raises(TimeoutError, match="'COMMIT'"):
        await proxy.cut_before("COMMIT").wait(timeout=0.01)


# --- Holds --------------------------------------------------------------------------------------------------


async def test_a_held_statement_happens_only_after_its_release(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    hold = proxy.hold("INSERT")
    async with asyncio.TaskGroup() as group:
        insert = group.create_task(client.execute("INSERT INTO t VALUES ($1)", 1))
        await hold
        assert await _rows(direct) == []
        assert not insert.done()
        hold.release()
    assert await _rows(direct) == [1]


async def test_a_held_statement_lands_late_even_when_its_client_has_gone(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    hold = proxy.hold("INSERT")
    await client.execute("SELECT pg_advisory_lock(1)")
    insert = asyncio.create_task(_broken(client.execute("INSERT INTO t VALUES (1)")))
    await hold
    client.terminate()
    await insert
    assert await _rows(direct) == []
    hold.release()
    await direct.execute("SELECT pg_advisory_lock(1)", timeout=30)  # its session has ended
    assert await _rows(direct) == [1]


async def test_a_held_answer_comes_only_after_its_release(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection
) -> None:
    hold = proxy.hold_reply("INSERT")
    async with asyncio.TaskGroup() as group:
        insert = group.create_task(client.fetchval("INSERT INTO t VALUES ($1) RETURNING n", 1))
        await hold
        assert await _rows(direct) == [1]
        assert not insert.done()
        hold.release()
    assert insert.result() == 1


async def test_a_hold_holds_one_statement_only(proxy: Proxy, client: asyncpg.Connection) -> None:
    hold = proxy.hold("SELECT 1")
    hold.release()
    hold.release()
    assert [await client.fetchval("SELECT 1") for _ in range(2)] == [1, 1]
    assert hold.struck == 1


async def test_a_hold_does_not_outlive_the_proxy(empty_database: str, connect: Connect) -> None:
    async with Proxy(empty_database) as proxy:
        client = await connect(proxy.dsn)
        hold = proxy.hold("SELECT 1")
        held = asyncio.create_task(_broken(client.fetchval("SELECT 1")))
        await hold
    await held


# --- Connections --------------------------------------------------------------------------------------------


async def test_refused_clients_find_nobody_and_are_accepted_again_on_the_same_port(
    proxy: Proxy, client: asyncpg.Connection, connect: Connect
) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy.dsn)
    assert await client.fetchval("SELECT 1") == 1
    proxy.accept()
    assert await (await connect(proxy.dsn)).fetchval("SELECT 1") == 1


async def test_severed_connections_are_closed_and_new_ones_work(
    proxy: Proxy, client: asyncpg.Connection, connect: Connect
) -> None:
    assert proxy.sever() == 1
    with pytest.raises(BROKEN):
        await client.fetchval("SELECT 1")
    assert await (await connect(proxy.dsn)).fetchval("SELECT 1") == 1


async def test_only_connections_that_executed_a_match_are_severed(
    proxy: Proxy, client: asyncpg.Connection, connect: Connect
) -> None:
    listener = await connect(proxy.dsn)
    ended = asyncio.Event()
    listener.add_termination_listener(lambda _: ended.set())
    async with _listening(listener):
        assert proxy.sever("LISTEN") == 1
        await asyncio.wait_for(ended.wait(), 30)
    assert await client.fetchval("SELECT 1") == 1


async def test_a_half_open_connection_carries_nothing_until_it_heals(
    proxy: Proxy, client: asyncpg.Connection, direct: asyncpg.Connection, connect: Connect
) -> None:
    async with _listening(client) as heard:
        assert proxy.half_open() == 1
        insert = asyncio.create_task(client.execute("INSERT INTO t VALUES (1)"))
        await direct.execute("NOTIFY news, 'late'")
        other = await connect(proxy.dsn)
        for _ in range(20):  # time enough for a proxy that would forward
            assert await other.fetchval("SELECT count(*) FROM t") == 0
        assert heard.empty()
        assert not insert.done()
        proxy.heal()
        await asyncio.wait_for(insert, 30)
        assert await asyncio.wait_for(heard.get(), 30) == "late"
    assert await _rows(direct) == [1]


async def test_a_server_that_is_down_ends_the_clients_connection(connect: Connect) -> None:
    async with Proxy("postgresql://nobody@/nowhere?host=/nonexistent") as proxy:
        with pytest.raises(BROKEN):
            await connect(proxy.dsn)


# --- Life ---------------------------------------------------------------------------------------------------


async def test_a_blocked_loop_does_not_block_a_proxy_in_its_own_thread(empty_database: str) -> None:
    async with Proxy(empty_database, own_thread=True) as proxy:
        answers: list[int] = []

        async def ask() -> None:
            connection = await asyncpg.connect(proxy.dsn)
            answers.append(await connection.fetchval("SELECT 1"))
            await connection.close()

        thread = threading.Thread(target=lambda: asyncio.run(ask()), daemon=True)
        thread.start()
        thread.join(30)  # this blocks our loop
        assert answers == [1]
        assert proxy.count("SELECT 1") == 1


async def test_what_the_proxy_cannot_follow_fails_the_test(empty_database: str) -> None:
    async def speak_tls() -> None:
        async with Proxy(empty_database) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.dsn).port)
            writer.write(b"\x16\x03\x01\x02")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    with pytest.raises(ExceptionGroup) as failure:
        await speak_tls()
    assert "no startup packet" in str(failure.value.exceptions[0])


async def test_a_proxy_that_was_not_entered_says_so(empty_database: str) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        Proxy(empty_database).refuse()


async def test_what_was_counted_can_be_read_when_the_proxy_has_been_left(empty_database: str, connect: Connect) -> None:
    async with Proxy(empty_database, own_thread=True) as proxy:
        await (await connect(proxy.dsn)).execute("SELECT 1")
    assert proxy.statements == ["SELECT 1"]
    assert proxy.connections == 0
