"""Rules of schedules: a rule -> its instants. Pure: the caller says from when; only the data of time zones is read.

What croniter would read as something else than was meant is refused here, when the rule is made.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterBadDateError

from durable.errors import DefinitionError
from durable.model.cron_fields import parse

INTERVAL_MIN = timedelta(seconds=1)
INTERVAL_MAX = timedelta(days=3650)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MICROSECOND = timedelta(microseconds=1)
_MINUTE = timedelta(minutes=1)
_REFERENCE = datetime(
    2000, 1, 1, tzinfo=UTC
)  # rules are tried from here: a leap year, which has every date that there is
_AROUND = timedelta(hours=26)  # the clocks of a place are never moved by more: those of Samoa were, by a day
_SAMPLE = 200  # instants, to find how close to each other they come


class _Instants:
    """What all rules have in common."""

    def next_after(self, instant: datetime) -> datetime | None:
        """The first instant after *instant* (aware), in UTC; None when there is none within fifty years."""
        raise NotImplementedError

    def next_times(self, after: datetime, n: int = 5) -> list[datetime]:
        """The next *n* instants after *after*, an aware datetime, in UTC. Raises `DefinitionError` for one without a time
        zone, or at an end of the calendar."""
        if after.utcoffset() is None:
            raise DefinitionError(
                f"{self!r}: {after!r} has no time zone. Give an aware datetime, e.g. with tzinfo=UTC."
            )
        found: list[datetime] = []
        try:
            instant: datetime | None = after.astimezone(UTC)
            while len(found) < n and (instant := self.next_after(instant)) is not None:
                found.append(instant)
        except OverflowError as error:
            raise DefinitionError(
                f"{self!r}: after {after} the calendar ends, or it has not begun. Give an instant of these days."
            ) from error
        return found

    def from_on(self, instant: datetime) -> datetime | None:
        """The first instant that is *instant* or after it."""
        return self.next_after(instant - _MICROSECOND)

    def shortest_gap(self) -> timedelta:
        """How close to each other its instants come, in an ordinary year."""
        times = self.next_times(_REFERENCE, _SAMPLE)
        return min(later - sooner for sooner, later in itertools.pairwise(times))


@dataclass(frozen=True, slots=True)
class Cron(_Instants):
    """A cron rule of five fields (minute, hour, day of month, month, weekday) by the clocks of *timezone*, an IANA name.

    Fields hold ``*``, numbers, names as ``mon`` and ``jan``, ranges ``1-5``, steps ``*/15`` and ``8-18/2``, and lists of those;
    weekdays are 0 to 7, Sunday being 0 and 7. Where both the day of month and the weekday are restricted, either is enough.
    ``@hourly``, ``@daily``, ``@weekly``, ``@monthly`` and ``@yearly`` are rules, too.

    Where the hour is ``*`` or ``*/n``, it fires whenever the clocks show it: in both passes of an hour that comes twice. Else
    each time of a day is meant once: of an hour that comes twice the first pass counts, and what the clocks leave out fires
    when they have been put forward. Raises `DefinitionError`.
    """

    expression: str
    timezone: str = "UTC"
    _fields: str = field(init=False, repr=False, compare=False)
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _by_the_hour: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        read = parse(self.expression)
        object.__setattr__(self, "_fields", read.normalised)
        object.__setattr__(self, "_by_the_hour", read.by_the_hour)
        object.__setattr__(self, "_zone", _zone(self))
        if self.next_after(_REFERENCE) is None:
            raise DefinitionError(f"{self!r} never fires: there is no such date.")

    def next_after(self, instant: datetime) -> datetime | None:
        """See `_Instants.next_after`."""
        here = instant.astimezone(self._zone).replace(tzinfo=None, fold=0)
        moved = self._moved_by(instant)
        best: datetime | None = None
        for shown in self._shown_after(here - moved - _MINUTE):
            for at in self._instants_of(shown):
                if at > instant and (best is None or at < best):
                    best = at
            # Before a change of the clocks, what they show later may come sooner.
            if best is not None and (shown >= here + moved or not self._by_the_hour):
                return best
        return best

    def _moved_by(self, instant: datetime) -> timedelta:
        """By how much the clocks are moved around an instant."""
        offsets = [
            cast("timedelta", at.astimezone(self._zone).utcoffset())
            for at in (instant - _AROUND, instant, instant + _AROUND)
        ]
        return max(offsets) - min(offsets)

    def _shown_after(self, shown: datetime) -> Iterator[datetime]:
        """What the clocks show, whatever else happens to them, when the rule fires."""
        rule: Any = croniter(self._fields, shown)
        while True:
            try:
                yield cast("datetime", rule.get_next(datetime))
            except (CroniterBadDateError, OverflowError, ValueError):
                return

    def _instants_of(self, shown: datetime) -> list[datetime]:
        """When the clocks show that: mostly once; in a change twice, or not at all."""
        first = shown.replace(tzinfo=self._zone).astimezone(UTC)
        second = shown.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        if first == second:
            return [first]
        if first < second:
            return [first, second] if self._by_the_hour else [first]
        if self._by_the_hour:
            return []
        # Left out: `first` is reckoned by the clocks before the change and so lies behind it, `second` before it.
        return [_change_between(second, first, self._zone)]


@dataclass(frozen=True, slots=True)
class Every(_Instants):
    """An interval: at each whole number of *interval*s since the beginning of 1970 (UTC), plus *offset*, which is shorter. So
    ``Every(minutes(15))`` fires at full quarters of an hour, whoever is started when. From a second to ten years. Raises
    `DefinitionError`."""

    interval: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        interval: Any = self.interval
        offset: Any = self.offset
        if not isinstance(interval, timedelta) or not INTERVAL_MIN <= interval <= INTERVAL_MAX:
            raise DefinitionError(
                f"Every: the interval is {interval!r}. Give a timedelta from a second to ten years, e.g. minutes(15)."
            )
        if not isinstance(offset, timedelta) or not timedelta(0) <= offset < interval:
            raise DefinitionError(
                f"Every: the offset is {offset!r}. Give a timedelta from zero to below the interval, {interval}."
            )

    def next_after(self, instant: datetime) -> datetime | None:
        """See `_Instants.next_after`."""
        number = (instant - EPOCH - self.offset) // self.interval + 1
        return EPOCH + self.offset + number * self.interval


@dataclass(frozen=True, slots=True)
class UnreadableRule(_Instants):
    """The rule of a stored schedule that this program cannot read, because its time zone is not known on this host or because a
    newer version of durable has written it; others may know it. `problem` says why, `text` is what is stored. To ask it for
    instants raises `DefinitionError`."""

    text: str
    problem: str

    def next_after(self, instant: datetime) -> datetime | None:
        """Raises `DefinitionError`."""
        raise DefinitionError(self.problem)


RuleOf: TypeAlias = Cron | Every
"""What says when a schedule fires."""


def check_rule(rule: Any, where: str) -> RuleOf:
    """Return *rule*, or raise `DefinitionError`."""
    if isinstance(rule, UnreadableRule):
        raise DefinitionError(f"{where}: its rule cannot be read here: {rule.problem}")
    if not isinstance(rule, Cron | Every):
        raise DefinitionError(
            f'{where}: {rule!r} is no rule. Give Cron("0 9 * * *", timezone="Europe/Paris") or Every(minutes(15)).'
        )
    return rule


def written(rule: RuleOf | UnreadableRule) -> dict[str, Any]:
    """A rule as it is stored."""
    if isinstance(rule, UnreadableRule):
        return cast("dict[str, Any]", json.loads(rule.text))
    if isinstance(rule, Cron):
        return {"cron": rule.expression, "timezone": rule.timezone}
    return {"every": rule.interval / _MICROSECOND, "offset": rule.offset / _MICROSECOND}


def read(stored: dict[str, Any]) -> RuleOf:
    """The other way round. Raises `DefinitionError` for one that is not known here, such as a new time zone."""
    try:
        match stored:
            case {"cron": expression, "timezone": timezone, **more} if not more:
                return Cron(expression, timezone)
            case {"every": interval, "offset": offset, **more} if not more:
                return Every(interval * _MICROSECOND, offset * _MICROSECOND)
            case _:
                pass
    except (AttributeError, OverflowError, TypeError):  # a value of another kind than we would have written
        pass
    raise DefinitionError(f"{stored!r} is no rule that this version of durable knows. Use the version that wrote it.")


def read_or_tell(stored: dict[str, Any]) -> RuleOf | UnreadableRule:
    """The same for whoever only shows it, or leaves it as it is."""
    try:
        return read(stored)
    except DefinitionError as error:
        return UnreadableRule(json.dumps(stored), str(error))


def _zone(rule: Cron) -> ZoneInfo:
    name: Any = rule.timezone
    try:
        if isinstance(name, str) and name:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise DefinitionError(
        f"Cron({rule.expression!r}): timezone is {name!r}, which is not known here. Give an IANA name, e.g. 'Europe/Paris'; "
        "on a system without time zones install the package tzdata."
    )


def _change_between(sooner: datetime, later: datetime, zone: ZoneInfo) -> datetime:
    """When the clocks are put forward between two instants, to the second."""
    before = sooner.astimezone(zone).utcoffset()
    low, high = int(sooner.timestamp()), int(later.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
