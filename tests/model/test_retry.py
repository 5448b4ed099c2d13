from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import DefinitionError, NonRetryable, RetryAfter
from durable.model.retry import DELAY_MAX, Retry

DELAYS = st.timedeltas(timedelta(0), DELAY_MAX)
SPREADS = st.floats(-1, 1)
ATTEMPTS = st.integers(1, 10**6)


@st.composite
def policies(draw: st.DrawFn) -> Retry:
    delay, max_delay = sorted(draw(st.tuples(DELAYS, DELAYS)))
    return Retry(
        max_attempts=draw(st.integers(1, 10**6)),
        backoff=draw(st.sampled_from(["exponential", "linear", "constant"])),
        delay=delay,
        max_delay=max_delay,
        jitter=draw(st.floats(0, 1)),
    )


@given(policies(), ATTEMPTS, SPREADS)
def test_a_step_is_tried_again_exactly_while_attempts_are_left(policy: Retry, attempt: int, spread: float) -> None:
    assert (policy.next_delay(attempt, ValueError(), spread) is None) == (attempt >= policy.max_attempts)


@given(policies(), SPREADS)
def test_a_delay_stays_within_the_jitter_of_its_bounds(policy: Retry, spread: float) -> None:
    delay = policy.next_delay(1, ValueError(), spread)
    if delay is None:
        return
    base = policy.delay
    assert timedelta(0) <= delay <= DELAY_MAX
    assert abs(delay - base) <= base * policy.jitter + timedelta(microseconds=1)


@given(policies(), ATTEMPTS)
def test_no_base_delay_is_above_max_delay(policy: Retry, attempt: int) -> None:
    delay = policy.next_delay(attempt, ValueError(), 0)
    assert delay is None or delay <= policy.max_delay


@given(policies(), ATTEMPTS)
def test_delays_never_shrink_from_one_attempt_to_the_next(policy: Retry, attempt: int) -> None:
    earlier = policy.next_delay(attempt, ValueError(), 0)
    later = policy.next_delay(attempt + 1, ValueError(), 0)
    assert earlier is None or later is None or earlier <= later


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [("exponential", [2, 4, 8, 10, 10]), ("linear", [2, 4, 6, 8, 10]), ("constant", [2, 2, 2, 2, 2])],
)
def test_each_backoff_has_its_series(backoff: Any, seconds: list[int]) -> None:
    policy = Retry(6, backoff, delay=timedelta(seconds=2), max_delay=timedelta(seconds=10), jitter=0)
    delays = [policy.next_delay(attempt, ValueError(), 1) for attempt in range(1, 6)]
    assert delays == [timedelta(seconds=s) for s in seconds]


@given(policies(), ATTEMPTS, SPREADS)
def test_non_retryable_is_never_tried_again(policy: Retry, attempt: int, spread: float) -> None:
    assert policy.next_delay(attempt, NonRetryable("no"), spread) is None


@given(st.timedeltas(), SPREADS)
def test_retry_after_sets_the_delay_itself_within_what_timestamps_hold(delay: timedelta, spread: float) -> None:
    policy = Retry(max_attempts=2, delay=timedelta(hours=1), retry_on=(OSError,))
    assert policy.next_delay(1, RetryAfter(delay), spread) == min(max(delay, timedelta(0)), DELAY_MAX)
    assert policy.next_delay(2, RetryAfter(delay), spread) is None


def test_only_chosen_errors_are_tried_again() -> None:
    policy = Retry(max_attempts=3, retry_on=(OSError,), give_up_on=(FileNotFoundError,))
    assert policy.next_delay(1, OSError(), 0) is not None
    assert policy.next_delay(1, ConnectionError(), 0) is not None
    assert policy.next_delay(1, FileNotFoundError(), 0) is None
    assert policy.next_delay(1, ValueError(), 0) is None


def test_the_default_is_a_single_attempt() -> None:
    assert Retry().next_delay(1, ValueError(), 0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"backoff": "quadratic"},
        {"delay": timedelta(seconds=-1)},
        {"delay": 5},
        {"max_delay": DELAY_MAX + timedelta(1)},
        {"delay": timedelta(hours=2)},  # longer than max_delay: it would silently be an hour
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": True},
        {"jitter": "0.25"},
        {"jitter": float("nan")},
        {"retry_on": ValueError},
        {"retry_on": [ValueError]},
        {"retry_on": (int,)},
        {"give_up_on": ("ValueError",)},
    ],
    ids=str,
)
def test_an_option_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"Retry: {next(iter(wrong))} is"):
        Retry(**wrong)
