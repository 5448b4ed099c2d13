"""Durations by name, so that a workflow reads as it is spoken: ``timeout=minutes(15)``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from durable.errors import UsageError

DURATION_MAX = timedelta(days=36_500)  # beyond, PostgreSQL and the calendar come to their ends


def instant(when: Any, what: str) -> datetime:
    """*when* in UTC; *what* says what it is. Raises `UsageError` for what is no aware datetime, or further off than
    `DURATION_MAX`."""
    try:
        if isinstance(when, datetime) and when.utcoffset() is not None:
            utc = when.astimezone(UTC)
            if utc - datetime.now(UTC) <= DURATION_MAX:
                return utc
    except OverflowError:  # beyond the calendar, in UTC
        pass
    raise UsageError(f"{what} is {when!r}. Give a datetime with a time zone, at most a hundred years from now.")


def seconds(count: float) -> timedelta:
    """*count* seconds."""
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    """*count* minutes."""
    return timedelta(minutes=count)


def hours(count: float) -> timedelta:
    """*count* hours."""
    return timedelta(hours=count)


def days(count: float) -> timedelta:
    """*count* days of 24 hours. For days of the calendar, use an aware datetime."""
    return timedelta(days=count)
