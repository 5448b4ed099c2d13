"""Instants by the calendar of a place, for `schedule_at`: days there may have 23 or 25 hours."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from durable.errors import UsageError

Weekday: TypeAlias = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

WEEKDAYS: tuple[Weekday, ...] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SATURDAY = 5


def next_business_day(
    hour: int = 9,
    minute: int = 0,
    *,
    tz: str | tzinfo,
    holidays: Collection[date] = (),
    now: datetime | None = None,
) -> datetime:
    """The next day after today, by the calendar of *tz*, that is no Saturday, Sunday or one of *holidays*, at that time.

    *tz* is an IANA name as ``"Europe/Paris"``, or a `tzinfo`; *now* is the present unless given (aware). A time that a change
    of the clocks leaves out is as much later as they are put forward; of one that comes twice it is the first. Raises
    `UsageError`.
    """
    zone, here = _here(tz, now)
    day = here.date() + timedelta(days=1)
    while day.weekday() >= _SATURDAY or day in holidays:
        day += timedelta(days=1)
    return _at(day, _time(hour, minute), zone)


def next_weekday(
    weekday: Weekday, hour: int = 9, minute: int = 0, *, tz: str | tzinfo, now: datetime | None = None
) -> datetime:
    """The next *weekday* at *hour* and *minute* by the clocks of *tz*: today, if it is that day and earlier. See
    `next_business_day`."""
    if weekday not in WEEKDAYS:
        raise UsageError(f"{weekday!r} is no weekday. Give one of {', '.join(WEEKDAYS)}.")
    zone, here = _here(tz, now)
    day = here.date() + timedelta(days=(WEEKDAYS.index(weekday) - here.weekday()) % 7)
    when = _at(day, _time(hour, minute), zone)
    return when if when > here else _at(day + timedelta(days=7), _time(hour, minute), zone)


def end_of_day(*, tz: str | tzinfo, now: datetime | None = None) -> datetime:
    """The last microsecond of today by the clocks of *tz*. See `next_business_day`."""
    zone, here = _here(tz, now)
    midnight = _at(here.date() + timedelta(days=1), time(), zone)
    return (midnight.astimezone(UTC) - timedelta(microseconds=1)).astimezone(zone)


def _here(tz: str | tzinfo, now: datetime | None) -> tuple[tzinfo, datetime]:
    try:
        zone = ZoneInfo(tz) if isinstance(tz, str) else tz
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UsageError(f"{tz!r} is no time zone that is known here. Give one as 'Europe/Paris'.") from error
    if now is not None and now.utcoffset() is None:
        raise UsageError(f"now is {now!r}, which has no time zone. Give an aware datetime.")
    return zone, (now or datetime.now(UTC)).astimezone(zone)


def _time(hour: int, minute: int) -> time:
    try:
        return time(hour, minute)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{hour!r}:{minute!r} is no time of day: {error}.") from error


def _at(day: date, at: time, zone: tzinfo) -> datetime:
    # Through UTC: a time that does not exist there becomes the one that the clocks show then.
    return datetime.combine(day, at, zone).astimezone(UTC).astimezone(zone)
