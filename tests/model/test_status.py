from __future__ import annotations

import pytest

from durable.model.status import ENDED, LIVE, TRANSITIONS, Change, Status, stored_sources


def reachable(start: Status) -> set[Status]:
    found = {start}
    while True:
        more = {target for sources, targets in TRANSITIONS.values() if sources & found for target in targets}
        if more <= found:
            return found
        found |= more


USED = {status for sources, targets in TRANSITIONS.values() for status in (*sources, *targets)}


def test_every_change_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Change)
    assert all(sources for sources, _ in TRANSITIONS.values())


@pytest.mark.parametrize("change", Change)
def test_nothing_leaves_an_ended_status(change: Change) -> None:
    sources, _ = TRANSITIONS[change]
    assert not sources & ENDED or change is Change.RETRY, "but that somebody has it retried"


def test_every_status_is_live_or_ended() -> None:
    assert set(Status) == LIVE | ENDED
    assert not LIVE & ENDED
    assert {status for status in Status if status.ended} == ENDED


def test_every_status_of_the_table_is_reached_from_pending() -> None:
    assert reachable(Status.PENDING) == USED


@pytest.mark.parametrize("status", sorted(USED & LIVE))
def test_every_live_status_can_end_and_can_be_cancelled_unless_it_is_being_ended(status: Status) -> None:
    assert reachable(status) & ENDED
    sources, targets = TRANSITIONS[Change.CANCEL]
    assert (status in sources) is (status is not Status.COMPENSATING)
    assert targets == {Status.CANCELLED}


@pytest.mark.parametrize("change", Change)
def test_running_is_never_stored(change: Change) -> None:
    stored = stored_sources(change)
    sources, _ = TRANSITIONS[change]
    assert stored
    assert Status.RUNNING not in stored
    assert stored == sorted(set(stored))
    assert set(stored) - {Status.PENDING} == sources - {Status.PENDING, Status.RUNNING}
