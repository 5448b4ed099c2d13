"""Transactional steps in tests without an engine: with a connection of the test, or a mock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from durable import Context, Status, Workflow
from durable.store.connection import Connection
from durable.testing import Run, crash_everywhere, run
from tests.store import rows

books = Workflow[list[str], list[str]]("books")
both = books.parallel("both", merge="last_wins")


@both.step(transactional=True)
async def debit(lines: list[str], ctx: Context) -> None:
    await ctx.connection.execute("insert into booked values ('debit')")


@both.step(transactional=True)
async def credit(lines: list[str], ctx: Context) -> None:
    await ctx.connection.execute("insert into booked values ('credit')")


@books.step
async def tell(lines: list[str]) -> list[str]:
    return [*lines, "told"]


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    async with rows.connections(empty_database, 1) as (connection,):
        await connection.execute("create table booked (what text)")
        yield connection


async def test_bodies_write_on_the_connection_of_the_test(connection: Connection) -> None:
    ended = await run(books, [], connection=connection)
    assert ended.result == ["told"]
    assert sorted(r["what"] for r in await connection.fetch("select what from booked")) == ["credit", "debit"]


async def test_a_crash_before_the_record_takes_back_what_was_written(connection: Connection) -> None:
    async def check(_: Run) -> None:
        rows = await connection.fetch("delete from booked returning what")
        assert sorted(row["what"] for row in rows) == ["credit", "debit"]

    report = await crash_everywhere(books, [], connection=connection, check=check)
    assert report.runs > 10
    assert report.unkeyed == {"tell"}
    assert "in its transaction" in str(report)


async def test_a_deferred_constraint_fails_the_attempt(connection: Connection) -> None:
    await connection.execute("alter table booked add unique (what) deferrable initially deferred")
    await connection.execute("insert into booked values ('debit')")
    ended = await run(books, [], connection=connection)
    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.type.endswith("UniqueViolationError")


@pytest.mark.parametrize("statement", ["select 1 / 0", "rollback"])
async def test_a_transaction_that_cannot_commit_fails_the_attempt(connection: Connection, statement: str) -> None:
    broken = Workflow[list[str], list[str]]("broken")

    @broken.step(transactional=True)
    async def swallows(lines: list[str], ctx: Context) -> None:
        await ctx.connection.execute("insert into booked values ('lost')")
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await ctx.connection.execute(statement)

    assert (await run(broken, [], connection=connection)).status is Status.FAILED
    assert not await connection.fetch("select from booked")


async def test_without_a_connection_the_step_says_what_to_give() -> None:
    ended = await run(books, [])
    assert ended.failure is not None
    assert "run(..., connection=...), or a mock" in ended.failure.message


async def test_mocks_need_no_connection() -> None:
    mocks: dict[str, Any] = {"debit": None, "credit": None}
    assert (await run(books, [], mocks=mocks)).result == ["told"]
