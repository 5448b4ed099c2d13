"""Pages of lists: rows, and cursors, which say where the next page begins, as a text that callers pass back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from durable.errors import UsageError

PAGE_MAX = 1_000


class Row(Protocol):
    """A row as PostgreSQL gives it, by column name."""

    def __getitem__(self, column: str, /) -> Any: ...


def check_limit(limit: int) -> None:
    """Raise `UsageError` for a page that is too big or empty."""
    if not 1 <= limit <= PAGE_MAX:
        raise UsageError(f"limit is {limit}. Give a number from 1 to {PAGE_MAX}, and page with cursor.")


def write_cursor(call: str, *place: Any) -> str:
    """The cursor of a place in a list that *call* gives."""
    told = [part.isoformat() if isinstance(part, datetime) else str(part) for part in place]
    return base64.urlsafe_b64encode(json.dumps([call, *told]).encode()).decode()


def read_cursor(cursor: str, call: str, *kinds: Callable[[str], Any]) -> list[Any]:
    """The other way round, each part as its kind reads it. Raises `UsageError` when *call* has not given it."""
    try:
        told: list[str] = json.loads(base64.urlsafe_b64decode(cursor))
        given, *place = told
        if given == call:
            return [kind(part) for kind, part in zip(kinds, place, strict=True)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise UsageError(f"the cursor is not one that {call} gave.")
