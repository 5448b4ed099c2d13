"""`durable migrate`: alone, as SQL for somebody else to run, and for an application that may not change the schema."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import pytest

import durable as library
from durable import Durable, ExecutionFailed
from durable.store.migrate import migrations
from tests.cli import shop
from tests.cli.calling import Caller
from tests.support.invariants import assert_invariants

NEWEST = migrations()[-1].version
GUARD = 30


async def test_it_tells_what_is_missing_applies_it_and_finds_nothing_more(empty_database: str) -> None:
    durable = Caller(empty_database)
    told = await durable("migrate", "--check")
    assert told.status == 1
    assert f"missing {1:04} foundation" in told.out
    done = await durable("migrate")
    assert done.status == 0
    assert done.out.splitlines()[-1] == f"the schema is at version {NEWEST}"
    again = await durable("migrate", "--check", "--json")
    assert (again.status, again.json["version"], again.json["missing"]) == (0, NEWEST, [])


async def test_the_sql_that_it_prints_makes_the_same_schema(empty_database: str) -> None:
    durable = Caller(empty_database)
    script = (await durable("migrate", "--sql")).out
    connection = await asyncpg.connect(empty_database)
    assert await connection.fetchval("select to_regclass('durable.execution')") is None, "it has only printed"
    await connection.execute(script)
    await connection.close()
    assert (await durable("migrate", "--check")).status == 0
    async with Durable(empty_database, workflows=[shop]) as engine:
        assert await (await engine.start(shop.quick, 4)).result(GUARD) == 8


async def test_a_newer_schema_is_refused(durable: Caller, database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("insert into durable.migration values (9999, 'later', now())")
    await connection.close()
    for words in (["migrate"], ["list"]):
        said = await durable(*words)
        assert said.status == 5
        assert "newer than this program" in said.err


# --- A role for the application --------------------------------------------------------------------------------------


@pytest.fixture
async def role(database: str) -> AsyncIterator[str]:
    """A new role that may log in and nothing else."""
    name = f"durable_test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(database)
    await connection.execute(f"create role {name} login password 'x'")
    try:
        yield name
    finally:
        await connection.execute(f"drop owned by {name}")
        await connection.execute(f"drop role {name}")
        await connection.close()


def as_role(dsn: str, role: str) -> str:
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:x@{host}", query=urlencode(parse_qsl(parts.query))))


async def test_a_role_that_was_granted_runs_everything_that_an_engine_does(
    durable: Caller, database: str, role: str
) -> None:
    said = await durable("migrate", "--grant", role)
    assert said.status == 0, said.err
    assert (await durable("migrate", "--grant", role, "--json")).json["granted"], "it may be repeated"
    app = as_role(database, role)
    async with Durable(app, workflows=[shop]) as engine:
        order = await engine.start(shop.orders, {"id": 7, "items": []}, id="order", tags={"a": 1})
        other = await engine.start(shop.orders, {"id": 8, "items": []}, id="other")
        async for event in order.events():
            if event.kind == "waiting":
                break
        (asked,) = (await engine.get_execution("order", include_steps=True)).inputs or ()
        assert asked.name == "manager"
        await engine.provide_input("order", "manager", "approved")
        await engine.send_event("order", "shipped", "post")
        assert (await order.result(GUARD))["by"] == "post"
        listener = await engine.start(shop.listeners, {"topic": "rain"})
        await engine.emit("news", {"topic": "rain"})
        async for event in listener.events():
            if event.kind == "waiting":
                await engine.emit("news", {"topic": "rain"})
        assert await other.cancel("never mind", compensate=True)
        with pytest.raises(ExecutionFailed):
            await other.result(GUARD)
        connection = await asyncpg.connect(app)
        async with connection.transaction():
            within = await library.start(shop.quick, 2, connection=connection)
        assert await within.result(GUARD) == 4
        await connection.close()
    as_app = Caller(app)
    assert (await as_app("list")).status == 0
    assert (await as_app("doctor")).err == ""
    await assert_invariants(database)


@pytest.mark.parametrize(
    "statement",
    [
        "create table durable.mine (x int)",
        "drop table durable.wake",
        "alter table durable.wake add column x int",
        "truncate durable.journal",
        "insert into durable.migration values (9999, 'mine', now())",
        "delete from durable.migration",
        "create or replace function durable.clock() returns timestamptz language sql as 'select now()'",
        "create trigger mine before insert on durable.journal execute function suppress_redundant_updates_trigger()",
        "select * from public.others",
    ],
)
async def test_and_it_may_do_nothing_else(durable: Caller, database: str, role: str, statement: str) -> None:
    owner = await asyncpg.connect(database)
    await owner.execute("create table public.others (x int)")
    await owner.close()
    assert (await durable("migrate", "--grant", role)).status == 0
    connection = await asyncpg.connect(as_role(database, role))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize("option", ["--sql", "--check"])
async def test_a_grant_beside_what_changes_nothing_is_refused(durable: Caller, option: str) -> None:
    said = await durable("migrate", option, "--grant", "somebody")
    assert said.status == 2
    assert "Give --grant alone" in said.err


async def test_a_role_that_is_not_there_or_needs_no_grant_is_refused(durable: Caller) -> None:
    said = await durable("migrate", "--grant", "nobody_here")
    assert said.status == 2
    assert "create role nobody_here login" in said.err


async def test_a_role_without_grants_is_told_what_it_needs(durable: Caller, database: str, role: str) -> None:
    said = await Caller(as_role(database, role))("list")
    assert said.status == 5
    assert "durable migrate --grant" in said.err


@pytest.mark.parametrize("option", ["--check", "--sql"])
async def test_whoever_only_asks_makes_no_database(tmp_path: Path, option: str) -> None:
    said = await Caller(None, cwd=tmp_path)("migrate", option)
    assert said.status == 2
    assert "there is no .durable/ here" in said.err
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240
