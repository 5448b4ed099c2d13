"""Messages as rows: how they are sent."""

from __future__ import annotations

from durable.store.connection import Connection
from durable.store.group_commit import Kind
from durable.store.queries import load

DELIVERING = Kind(load("message/deliver"))


async def post_in(
    connection: Connection, id: str, name: str, payload: str, dedupe_key: str | None, *, notify: bool
) -> bool:
    """Send an event in the caller's own transaction; False when it was sent before. Raises what the function
    ``durable.send_event`` raises."""
    rows = await connection.fetch(load("message/post").sql, id, name, payload, dedupe_key, notify)
    return bool(rows[0]["posted"])
