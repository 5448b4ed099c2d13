"""A batch is sent in as few values as say the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from durable.store.connection import Connection, columns
from durable.store.queries import Query, load
from tests.store import rows
from tests.store.rows import Worker

FILLED = Query("test", "", (), (), frozenset({1}))
CELL = st.sampled_from([None, None, 1, 1, 2])


def test_a_column_of_nothing_is_left_out_and_one_of_equal_values_is_sent_as_one_where_it_is_filled() -> None:
    assert columns(FILLED, [(1, 1, None), (1, 1, None)]) == [(1, 1), (1,), None]
    assert columns(FILLED, [(1, None, 2), (1, None, 3)]) == [(1, 1), None, (2, 3)]
    assert columns(FILLED, [(1, 1, 2), (1, 2, None), (1, 1, 2)]) == [(1, 1, 1), (1, 2, 1), (2, None, 2)]


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_what_is_sent_says_what_it_was_made_of(made: list[tuple[Any, ...]]) -> None:
    def whole(column: tuple[Any, ...] | None) -> tuple[Any, ...]:
        if column is None:
            return (None,) * len(made)
        return column * len(made) if len(column) == 1 else column

    assert [*zip(*map(whole, columns(FILLED, made)), strict=True)] == made


async def test_rows_that_are_alike_and_rows_that_are_not_are_stored_the_same(database: str) -> None:
    names = ("execution/start", "journal/record", "execution/finish")
    assert all(load(name).filled and load(f"{name}_plain").filled for name in names)
    async with rows.connections(database, 1) as (connection,):
        worker = await Worker().register(connection)
        (one,), (other,), many = [await worker.born(connection, count) for count in (1, 1, 3)]
        for claims in ([one], [other], many):
            await rows.send(connection, worker.record, *(rows.recorded(*claim) for claim in claims))
        assert await _stored(connection, "journal", "execution_id", "recorded_at") == 1
        for claims in ([one], [other], many):
            await rows.send(connection, worker.finish, *(rows.finished(*claim, 1) for claim in claims))
        ignored = ("execution_id", "started_by", "created_at", "due_at", "ended_at", "released_by")
        assert await _stored(connection, "execution", *ignored) == 1


async def _stored(connection: Connection, table: str, *ignored: str) -> int:
    """How many different rows there are in a table, but for some columns."""
    assert await connection.fetchval(f"select count(*) from durable.{table}") == 5
    return await connection.fetchval(
        f"select count(distinct to_jsonb(t) - $1::text[]) from durable.{table} t", list(ignored)
    )
