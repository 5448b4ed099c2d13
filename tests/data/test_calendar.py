"""Instants by the calendar: weekends, holidays, and the two days of the year that have not 24 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import UsageError, end_of_day, next_business_day, next_weekday

PARIS = "Europe/Paris"
NEW_YORK = "America/New_York"


def at(text: str, zone: str = PARIS) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def test_the_next_business_day_is_after_today_and_no_weekend() -> None:
    assert next_business_day(tz=PARIS, now=at("2026-11-25T08:00")) == at("2026-11-26T09:00")  # a Wednesday
    assert next_business_day(17, 30, tz=PARIS, now=at("2026-11-27T23:59")) == at("2026-11-30T17:30")  # a Friday
    assert next_business_day(tz=PARIS, now=at("2026-11-28T08:00")) == at("2026-11-30T09:00")  # a Saturday
    holidays = {date(2026, 12, 25)}
    assert next_business_day(tz=PARIS, holidays=holidays, now=at("2026-12-24T08:00")) == at("2026-12-28T09:00")


def test_today_is_that_of_the_place() -> None:
    late = datetime(2026, 11, 26, 3, tzinfo=UTC)  # still Wednesday in New York
    assert next_business_day(tz=NEW_YORK, now=late) == at("2026-11-26T09:00", NEW_YORK)
    assert end_of_day(tz=NEW_YORK, now=late).date() == date(2026, 11, 25)


def test_the_next_weekday_is_today_if_it_is_still_to_come() -> None:
    assert next_weekday("friday", 17, tz=PARIS, now=at("2026-11-27T16:59")) == at("2026-11-27T17:00")
    assert next_weekday("friday", 17, tz=PARIS, now=at("2026-11-27T17:00")) == at("2026-12-04T17:00")
    assert next_weekday("monday", tz=PARIS, now=at("2026-11-27T16:59")) == at("2026-11-30T09:00")


def test_a_time_that_the_clocks_leave_out_is_an_hour_later_and_one_that_comes_twice_the_first() -> None:
    gap = next_weekday("sunday", 2, 30, tz=PARIS, now=at("2027-03-27T12:00"))
    assert (gap.hour, gap.utcoffset()) == (3, timedelta(hours=2))
    twice = next_weekday("sunday", 2, 30, tz=PARIS, now=at("2026-10-24T12:00"))
    assert (twice.hour, twice.utcoffset()) == (2, timedelta(hours=2))
    assert next_weekday("sunday", 2, 30, tz=PARIS, now=at("2026-10-24T12:00")) > at("2026-10-24T12:00")


def test_the_days_on_which_the_clocks_change_end_like_all_others() -> None:
    for day in ("2027-03-28", "2026-10-25"):
        end = end_of_day(tz=PARIS, now=at(f"{day}T00:00"))
        assert end.isoformat().startswith(f"{day}T23:59:59.999999")


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.sampled_from([PARIS, NEW_YORK, "Australia/Lord_Howe"])
)
def test_what_comes_next_lies_ahead_and_not_far(moment: datetime, zone: str) -> None:
    now = moment.replace(tzinfo=UTC)
    assert now < end_of_day(tz=zone, now=now) + timedelta(microseconds=1)
    for when, most in ((next_business_day(tz=zone, now=now), 5), (next_weekday("friday", 2, 30, tz=zone, now=now), 8)):
        assert now < when < now + timedelta(days=most)


@pytest.mark.parametrize(
    "call",
    [
        lambda: next_business_day(tz="Mars/Olympus"),
        lambda: next_business_day(25, tz=PARIS),
        lambda: next_weekday("fryday", tz=PARIS),  # type: ignore[arg-type]
        lambda: end_of_day(tz=PARIS, now=datetime(2026, 1, 1)),
    ],
)
def test_what_is_no_instant_is_a_usage_error(call: Any) -> None:
    with pytest.raises(UsageError):
        call()
    assert end_of_day(tz=timezone(timedelta(hours=1))).utcoffset() == timedelta(hours=1)
