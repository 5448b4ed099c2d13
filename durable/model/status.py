"""The one table of status changes. Every change of the stored status is a compare-and-set that takes its sources from here.

`running` is not stored: an execution is running when a worker holds a claim on it, so that a claim and its loss touch
only narrow rows. What is stored beneath a claim is `pending`: claim and release change no stored status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias


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
FAILED = (Status.FAILED, Status.COMPENSATED, Status.COMPENSATION_FAILED)


class Change(StrEnum):
    """What may happen to a status, each from some statuses to one of some."""

    CLAIM = "claim"
    RELEASE = "release"
    SUSPEND = "suspend"
    WAKE = "wake"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    BEGIN_ENDING = "begin_ending"
    PUT_OFF_ENDING = "put_off_ending"
    FINISH_ENDING = "finish_ending"
    RETRY = "retry"


_Statuses: TypeAlias = frozenset[Status]
_ONLY = frozenset[Status]

TRANSITIONS: dict[Change, tuple[_Statuses, _Statuses]] = {
    Change.CLAIM: (_ONLY({Status.PENDING}), _ONLY({Status.RUNNING})),
    Change.RELEASE: (_ONLY({Status.RUNNING}), _ONLY({Status.PENDING})),
    Change.SUSPEND: (_ONLY({Status.RUNNING}), _ONLY({Status.WAITING})),
    Change.WAKE: (_ONLY({Status.WAITING}), _ONLY({Status.PENDING})),
    Change.COMPLETE: (_ONLY({Status.RUNNING}), _ONLY({Status.COMPLETED})),
    Change.FAIL: (_ONLY({Status.RUNNING}), _ONLY({Status.FAILED})),
    Change.CANCEL: (_ONLY({Status.PENDING, Status.RUNNING, Status.WAITING}), _ONLY({Status.CANCELLED})),
    # It has failed, or is to be undone: compensations and `on_failure` are being run. No cancel and no deadline stops that.
    Change.BEGIN_ENDING: (_ONLY({Status.RUNNING}), _ONLY({Status.COMPENSATING})),
    Change.PUT_OFF_ENDING: (_ONLY({Status.COMPENSATING}), _ONLY({Status.COMPENSATING})),
    Change.FINISH_ENDING: (
        _ONLY({Status.COMPENSATING}),
        _ONLY({Status.FAILED, Status.COMPENSATED, Status.COMPENSATION_FAILED}),
    ),
    # Somebody wants it so. What was undone is not done again: that is for a new execution.
    Change.RETRY: (_ONLY({Status.FAILED}), _ONLY({Status.PENDING})),
}


def stored_sources(change: Change) -> list[str]:
    """The stored statuses from which *change* may happen, for the compare-and-set of a statement."""
    sources, _ = TRANSITIONS[change]
    return sorted({Status.PENDING if status is Status.RUNNING else status for status in sources})
