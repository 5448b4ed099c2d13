"""Whatever is given as a rule of a schedule is one, or is refused with what it should be."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import Cron, DefinitionError, Every
from durable.model.cron import read, written

ATOM = st.sampled_from(
    [*"*0123456789-/,LW#?@", "mon", "jan", "60", "2147483648", "*/", "1-5", " ", "\t", "\0", "é", "٣", "\ud800"]
)
FIELD = st.lists(ATOM, min_size=1, max_size=5).map("".join)
EXPRESSION = st.lists(FIELD, min_size=4, max_size=6).map(" ".join) | st.text(max_size=30) | st.none() | st.integers()
ZONE = st.sampled_from(
    ["UTC", "Europe/Berlin", "", "..", "/etc/passwd", "a\0b", "\ud800", "Europe", "x" * 5_000]
) | st.text(max_size=12)
AFTER = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
ENDS = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
ENDS += [end.replace(tzinfo=timezone(timedelta(hours=hours))) for end in ENDS for hours in (-23, 23)]


@settings(max_examples=120)
@given(EXPRESSION, ZONE, AFTER)
def test_a_cron_rule_fires_or_is_refused(expression: Any, zone: str, after: datetime) -> None:
    try:
        rule = Cron(expression, zone)
    except DefinitionError:
        return
    times = rule.next_times(after, 2)
    assert times == sorted(times)
    assert all(time > after for time in times)
    assert read(written(rule)) == rule


@pytest.mark.parametrize("after", ENDS, ids=str)
@pytest.mark.parametrize(
    "rule", [Cron("* * * * *", "Asia/Tokyo"), Cron("0 0 29 2 *"), Every(timedelta(days=3650))], ids=str
)
def test_at_an_end_of_the_calendar_a_rule_says_so(rule: Any, after: datetime) -> None:
    with contextlib.suppress(DefinitionError):  # whether there are two more instants depends on the zones
        assert all(time > after for time in rule.next_times(after, 2))


DURATION = st.timedeltas() | st.sampled_from([None, 5, "1h", float("nan"), timedelta(seconds=1), timedelta(days=3650)])


@settings(max_examples=100)
@given(DURATION, DURATION, AFTER)
def test_an_interval_fires_or_is_refused(interval: Any, offset: Any, after: datetime) -> None:
    try:
        rule = Every(interval, offset)
    except DefinitionError:
        return
    times = rule.next_times(after, 2)
    assert all(time > after for time in times)
    assert read(written(rule)) == rule
