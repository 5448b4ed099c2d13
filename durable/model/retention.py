"""How long executions are kept that have ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from durable.model.status import Status

LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long executions are kept after their end, by how they ended; None keeps them for ever.
    ``Retention(completed=days(7))`` keeps all others for ever."""

    completed: timedelta | None = None
    failed: timedelta | None = None
    cancelled: timedelta | None = None
    compensated: timedelta | None = None
    compensation_failed: timedelta | None = None

    @classmethod
    def of(cls, given: Retention | timedelta | None) -> Retention | None:
        """A duration is for all of them."""
        if given is None or isinstance(given, Retention):
            return given
        return cls(**{field.name: given for field in fields(cls)})

    def periods(self) -> Iterator[tuple[Status, timedelta]]:
        """Which statuses are not kept for ever."""
        for field in fields(self):
            if (period := getattr(self, field.name)) is not None:
                yield Status(field.name), period


def fault_of(given: Any) -> str | None:
    """What is wrong with what was given as a retention, if anything."""
    if given is None or isinstance(given, timedelta | Retention):
        kept = Retention.of(given)
        periods = [getattr(kept, field.name) for field in fields(kept)] if kept is not None else []
        if all(
            period is None or (isinstance(period, timedelta) and timedelta(0) <= period <= LONGEST)
            for period in periods
        ):
            return None
    return f"retention is {given!r}. Give a timedelta from zero to a hundred years, or a Retention of such."
