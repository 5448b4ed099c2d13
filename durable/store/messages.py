"""Messages as rows: how they are sent."""

from __future__ import annotations

from typing import Any

from durable.store.connection import Connection, columns
from durable.store.group_commit import Kind
from durable.store.queries import load

DELIVERING = Kind(load("message/deliver"))
ANSWERING = Kind(load("input/answer"))
EMITTING = Kind(load("emission/emit"), lane="any")


async def emit_in(connection: Connection, row: tuple[Any, ...]) -> None:
    """Emit an event in the caller's own transaction."""
    await connection.fetch(EMITTING.query.sql, *columns(EMITTING.query, [row]))


async def post_in(
    connection: Connection, id: str, name: str, payload: str, dedupe_key: str | None, *, notify: bool
) -> str:
    """Send an event in the caller's own transaction: sent, duplicate, ended or unknown. No outcome aborts it."""
    rows = await connection.fetch(load("message/post").sql, id, name, payload, dedupe_key, notify)
    return str(rows[0]["outcome"])
