"""Durations by name, so that a workflow reads as it is spoken: ``timeout=minutes(15)``."""

from __future__ import annotations

from datetime import timedelta

DURATION_MAX = timedelta(days=36_500)  # beyond, PostgreSQL and the calendar come to their ends


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
