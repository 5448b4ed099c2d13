"""One rule from an id to a UUID, in Python and in SQL."""

from __future__ import annotations

import asyncio

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.ids import execution_uuid

BATCH = 200
EXAMPLES = [
    "order-123",
    "8f14e45f-ceea-467f-a5a5-0123456789ab",  # canonical: itself
    "8F14E45F-CEEA-467F-A5A5-0123456789AB",  # not lower case: hashed
    "{8f14e45f-ceea-467f-a5a5-0123456789ab}",
    "8f14e45fceea467fa5a50123456789ab",
    "urn:uuid:8f14e45f-ceea-467f-a5a5-0123456789ab",
    "8f14e45f-ceea-467f-a5a5-0123456789ab\n",
    "\n8f14e45f-ceea-467f-a5a5-0123456789ab",
    "8f14e45f-ceea-467f-a5a5-0123456789ab\n8f14e45f-ceea-467f-a5a5-0123456789ab",
    "00000000-0000-0000-0000-000000000000",
    "8f14e45f-ceea-467f-a5a5-0123456789a\u0661",  # a digit, but not an ASCII one
    "\uff46f14e45f-ceea-467f-a5a5-0123456789ab",
    " ",
    "é",
    "e\u0301",
    "💸" * 500,
    "'; drop schema durable; --",
]

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
uuid = st.uuids().map(str)
nearly = st.one_of(
    uuid,
    uuid.map(str.upper),
    uuid.flatmap(lambda u: st.tuples(st.integers(0, 35), text).map(lambda at: u[: at[0]] + at[1][0] + u[at[0] + 1 :])),
    uuid.flatmap(lambda u: text.map(lambda t: u + t)),
    uuid.flatmap(lambda u: text.map(lambda t: t + u)),
)


@settings(max_examples=15)
@given(ids=st.lists(st.one_of(text, nearly), min_size=BATCH // 4, max_size=BATCH))
def _agree(ids: list[str], loop: asyncio.AbstractEventLoop, connection: asyncpg.Connection) -> None:
    query = "select durable.execution_id(id) from unnest($1::text[]) with ordinality as g(id, n) order by n"
    rows = loop.run_until_complete(connection.fetch(query, ids))
    for id, row in zip(ids, rows, strict=True):
        assert row[0] == execution_uuid(id), id


def _connected(dsn: str) -> None:
    loop = asyncio.new_event_loop()
    try:
        connection = loop.run_until_complete(asyncpg.connect(dsn))
        try:
            _agree.hypothesis.inner_test(EXAMPLES, loop, connection)
            _agree(loop=loop, connection=connection)
        finally:
            loop.run_until_complete(connection.close())
    finally:
        loop.close()


async def test_sql_and_python_give_an_id_the_same_uuid(database: str) -> None:
    await asyncio.to_thread(_connected, database)  # hypothesis calls plain functions: a loop of their own, in a thread
