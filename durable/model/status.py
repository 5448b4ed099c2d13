"""The one table of status changes. Every change of the stored status is a compare-and-set that takes its sources from here.

`running` is not stored: an execution is running when a worker holds a claim on it, so that a claim and its loss touch
only narrow rows. What is stored beneath a claim is `pending`: claim and release change no stored status.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where an execution stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"

    @property
    def ended(self) -> bool:
        """True when nothing will happen any more."""
        return self in ENDED


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.COMPENSATED, Status.COMPENSATION_FAILED})
LIVE = frozenset(Status) - ENDED


class Change(StrEnum):
    """What may happen to a status."""

    CLAIM = "claim"
    RELEASE = "release"
    SUSPEND = "suspend"
    WAKE = "wake"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: dict[Change, tuple[frozenset[Status], Status]] = {
    Change.CLAIM: (frozenset({Status.PENDING}), Status.RUNNING),
    Change.RELEASE: (frozenset({Status.RUNNING}), Status.PENDING),
    Change.SUSPEND: (frozenset({Status.RUNNING}), Status.WAITING),
    Change.WAKE: (frozenset({Status.WAITING}), Status.PENDING),
    Change.COMPLETE: (frozenset({Status.RUNNING}), Status.COMPLETED),
    Change.FAIL: (frozenset({Status.RUNNING}), Status.FAILED),
    Change.CANCEL: (frozenset({Status.PENDING, Status.RUNNING, Status.WAITING}), Status.CANCELLED),
}


def stored_sources(change: Change) -> list[str]:
    """The stored statuses from which *change* may happen, for the compare-and-set of a statement."""
    sources, _ = TRANSITIONS[change]
    return sorted({Status.PENDING if status is Status.RUNNING else status for status in sources})
