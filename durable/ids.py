"""Execution ids: the caller's own, kept as given, or one made here; and the one rule that maps them to UUIDs."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from uuid import UUID

from asyncpg.pgproto import pgproto

from durable.errors import UsageError

ID_CHARACTERS_MAX = 500  # an id is shown in lists and logs; longer ones are a mistake

# What asyncpg makes of the UUIDs that it reads. It is a `uuid.UUID`, and made, hashed, shown and sent several times as fast.
_quick: Callable[[bytes | str], UUID] = pgproto.UUID  # pyright: ignore[reportAssignmentType] - its stub is narrower

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562, section 5.7): the time in milliseconds, then randomness, so that new rows lie together."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return _quick(value.to_bytes(16, "big"))


def new_token() -> UUID:
    """A random UUID that names one claim, one operation or one worker's boot. Never a counter: counters repeat."""
    return _quick(os.urandom(16))


def execution_uuid(id: str) -> UUID:
    """The UUID of an execution id: a canonical lower-case UUID is itself, anything else the first 16 bytes of the
    SHA-256 of its UTF-8. The SQL function ``durable.execution_id(text)`` is the same rule. Raises `UsageError` for what
    cannot be an id."""
    if _CANONICAL.fullmatch(id):
        return _quick(id)
    if not id or len(id) > ID_CHARACTERS_MAX or "\0" in id:
        raise UsageError(
            f"{id[:50]!r} cannot be an execution id. Give a string of 1 to {ID_CHARACTERS_MAX} characters without NUL."
        )
    try:
        return _quick(hashlib.sha256(id.encode()).digest()[:16])
    except UnicodeEncodeError as error:
        raise UsageError(f"{id[:50]!r} cannot be an execution id: it has no UTF-8 form.") from error


def given_name(id: str) -> str | None:
    """What is stored beside the UUID so that the id is shown as it was given: nothing when it is the UUID itself."""
    return None if _CANONICAL.fullmatch(id) else id


def shown_id(execution_id: UUID, name: str | None) -> str:
    """The id as its owner knows it."""
    return name if name is not None else str(execution_id)
