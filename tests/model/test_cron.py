"""Rules and their instants, against the clocks of places and against another library; and rules that crons misread."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import Cron, DefinitionError, Every, hours, minutes, seconds
from durable.model.cron import read, written

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("55-55/2 * * * *", "never comes to a second value"),
        ("5-1 * * * *", "goes backwards"),
        ("0 0 * * fri-mon", "goes backwards"),
        ("0 0 31 2 *", "never fires"),
        ("0 0 30 feb *", "never fires"),
        ("* * * * * *", "has 6 fields"),
        ("* * * *", "has 4 fields"),
        ("60 * * * *", "give 0 to 59"),
        ("0 24 * * *", "give 0 to 23"),
        ("0 0 0 * *", "give 1 to 31"),
        ("0 0 * 13 *", "give 1 to 12"),
        ("0 0 * * 8", "give 0 to 7"),
        ("0 0 L * *", "is not known"),
        ("0 0 * * 5#2", "is none of"),
        ("*/0 * * * *", "never comes to a second value"),
        ("5/15 * * * *", "has a step, but no range"),
        ("H * * * *", "is not known"),
        ("@reboot", "give five fields"),
        ("", "is no rule"),
        (None, "is no rule"),
        ("0 0 */2 * mon", "one thing here and another there"),
    ],
)
def test_a_rule_that_crons_read_differently_is_refused(expression: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Cron(expression)


@pytest.mark.parametrize("timezone", ["Europe/Nowhere", "", None, "../etc/passwd"])
def test_a_time_zone_that_is_not_known_is_refused(timezone: Any) -> None:
    with pytest.raises(DefinitionError, match="timezone is"):
        Cron("0 9 * * *", timezone=timezone)


def test_a_range_of_one_value_is_that_value() -> None:
    assert Cron("55-55 * * * *").next_times(datetime(2027, 1, 1, tzinfo=UTC), 2) == [
        datetime(2027, 1, 1, 0, 55, tzinfo=UTC),
        datetime(2027, 1, 1, 1, 55, tzinfo=UTC),
    ]


def shown(rule: Cron, after: datetime, n: int, zone: ZoneInfo) -> list[str]:
    return [at.astimezone(zone).strftime("%d %H:%M %Z") for at in rule.next_times(after, n)]


def test_an_hour_that_comes_twice_fires_a_fixed_time_once_in_its_first_pass() -> None:
    rule = Cron("30 2 * * *", timezone="Europe/Berlin")
    assert shown(rule, datetime(2027, 10, 30, 12, tzinfo=UTC), 2, BERLIN) == ["31 02:30 CEST", "01 02:30 CET"]
    rule = Cron("30 1 * * *", timezone="America/New_York")
    assert shown(rule, datetime(2027, 11, 6, 12, tzinfo=UTC), 2, NEW_YORK) == ["07 01:30 EDT", "08 01:30 EST"]


def test_a_time_that_the_clocks_leave_out_fires_once_when_they_are_put_forward() -> None:
    rule = Cron("30 2 * * *", timezone="Europe/Berlin")
    assert shown(rule, datetime(2027, 3, 27, 12, tzinfo=UTC), 2, BERLIN) == ["28 03:00 CEST", "29 02:30 CEST"]
    rule = Cron("0,30 2 * * *", timezone="Europe/Berlin")
    assert shown(rule, datetime(2027, 3, 27, 12, tzinfo=UTC), 2, BERLIN) == ["28 03:00 CEST", "29 02:00 CEST"]


def test_a_rule_by_the_hour_fires_in_both_passes_and_in_none_that_is_left_out() -> None:
    rule = Cron("*/30 * * * *", timezone="Europe/Berlin")
    assert shown(rule, datetime(2027, 10, 30, 23, 45, tzinfo=UTC), 5, BERLIN) == [
        "31 02:00 CEST",
        "31 02:30 CEST",
        "31 02:00 CET",
        "31 02:30 CET",
        "31 03:00 CET",
    ]
    assert shown(rule, datetime(2027, 3, 28, 0, 15, tzinfo=UTC), 3, BERLIN) == [
        "28 01:30 CET",
        "28 03:00 CEST",
        "28 03:30 CEST",
    ]


def test_a_change_of_half_an_hour_is_reckoned_as_one_of_an_hour_is() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    rule = Cron("45 1 * * *", timezone="Australia/Lord_Howe")
    assert shown(rule, datetime(2027, 4, 3, 0, tzinfo=UTC), 2, zone) == ["04 01:45 +11", "05 01:45 +1030"]
    rule = Cron("15 2 * * *", timezone="Australia/Lord_Howe")
    assert shown(rule, datetime(2027, 10, 2, 0, tzinfo=UTC), 2, zone) == ["03 02:30 +11", "04 02:15 +11"]


FIELD = st.sampled_from
EXPRESSIONS = st.builds(
    " ".join,
    st.tuples(
        FIELD(["*", "0", "*/7", "5,50", "10-20", "59", "3-40/9"]),
        FIELD(["*", "0", "23", "*/5", "8-18", "1,2,3"]),
        FIELD(["*", "1", "31", "29-31", "1,15"]),
        FIELD(["*", "2", "jan", "3-9/2", "feb,nov"]),
        FIELD(["*", "0", "7", "mon-fri", "sun", "2,4"]),
    ),
)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))


@given(EXPRESSIONS, INSTANTS)
@settings(max_examples=400, derandomize=True)
def test_instants_are_those_of_another_library(expression: str, after: datetime) -> None:
    try:
        rule = Cron(expression)
    except DefinitionError:
        return  # 31 February
    other = CronSim(expression, after)
    assert rule.next_times(after, 5) == [next(other) for _ in range(5)]


@given(
    st.sampled_from(["30 1 * * *", "30 2 * * *", "*/20 * * * *", "0 */3 * * *", "15 0,2,12 * * mon-fri"]),
    st.sampled_from(
        ["America/New_York", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"]
    ),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
@settings(max_examples=300, derandomize=True)
def test_instants_go_forward_and_do_not_depend_on_from_when_they_are_reckoned(
    expression: str, timezone: str, after: datetime
) -> None:
    rule = Cron(expression, timezone=timezone)
    times = rule.next_times(after, 8)
    assert all(sooner < later for sooner, later in zip([after, *times], times, strict=False))
    for sooner, later in itertools.pairwise(times):
        middle = sooner + (later - sooner) / 2
        assert rule.next_after(middle) == later
        assert rule.next_after(later - timedelta(microseconds=1)) == later
        assert rule.next_after(sooner) == later


def test_an_interval_fires_at_the_same_instants_whoever_reckons_them() -> None:
    rule = Every(minutes(15))
    assert rule.next_times(datetime(2027, 1, 1, 0, 7, tzinfo=UTC), 2) == [
        datetime(2027, 1, 1, 0, 15, tzinfo=UTC),
        datetime(2027, 1, 1, 0, 30, tzinfo=UTC),
    ]
    assert Every(hours(24), offset=hours(5)).next_times(datetime(2027, 1, 1, tzinfo=UTC), 1) == [
        datetime(2027, 1, 1, 5, tzinfo=UTC)
    ]
    for wrong in (seconds(0), seconds(0.5), 15, timedelta(days=5_000)):
        with pytest.raises(DefinitionError, match="the interval is"):
            Every(wrong)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="the offset is"):
        Every(hours(1), offset=hours(1))


@pytest.mark.parametrize("rule", [Cron("0 9 * * mon-fri", timezone="Europe/Paris"), Every(minutes(15), seconds(7))])
def test_a_rule_is_read_as_it_was_written(rule: Cron | Every) -> None:
    assert read(written(rule)) == rule
    with pytest.raises(DefinitionError, match="no rule that this version"):
        read({"sun": "rises"})


def test_instants_of_a_naive_time_are_refused() -> None:
    with pytest.raises(DefinitionError, match="has no time zone"):
        Every(hours(1)).next_times(datetime(2027, 1, 1))
