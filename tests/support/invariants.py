"""The laws that SQL can say: every file in ``sql/invariants`` must return no rows, at any moment."""

from __future__ import annotations

import asyncpg

from durable.store.queries import sql_folder


async def assert_invariants(dsn: str) -> None:
    """Run every invariant on the database of *dsn*. Raises AssertionError with the rows of each that is broken."""
    files = sorted((sql_folder() / "invariants").glob("*.sql"))
    assert files, "there is no invariant to check"
    connection = await asyncpg.connect(dsn)
    try:
        broken = {file.stem: rows for file in files if (rows := await connection.fetch(file.read_text("utf-8")))}
    finally:
        await connection.close()
    assert not broken, "\n".join(
        f"{law} is broken by {len(rows)} rows: {[dict(row) for row in rows[:5]]}" for law, rows in broken.items()
    )
