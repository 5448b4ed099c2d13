"""What becomes of a schedule's firings: a schedule as it stands and the time -> what is started, put off, and left out.

Pure, and so the same on every worker: whoever writes the plan first has made it everybody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, get_args

from durable.errors import DefinitionError
from durable.model.cron import RuleOf, check_rule

Overlap: TypeAlias = Literal["skip", "allow", "queue", "cancel_previous"]
CatchUp: TypeAlias = Literal["latest", "all", "none"]

GRACE = timedelta(minutes=1)  # what is later than this was missed, for a schedule that catches nothing up
ALL_WITHIN = timedelta(days=1)
ROWS_MAX = 100  # of one schedule at once
QUEUED_MAX = 1_000

_REACH = timedelta(hours=1)
_WINDOW_MAX = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Policy:
    """How a schedule fires. `jitter` delays each firing by its own share of it, which is the same on every worker.

    `overlap` says what a firing does while the execution of the one before is not over; `catch_up` what is done about firings
    that no worker was there for, at most `catch_up_window` old (None: however old, for ``"latest"``, and a day for ``"all"``).
    """

    overlap: Overlap = "skip"
    catch_up: CatchUp = "latest"
    catch_up_window: timedelta | None = None
    jitter: timedelta | None = None

    def checked(self, rule: Any, where: str) -> Policy:
        """Return it, or raise `DefinitionError` for what cannot be kept, with *rule*."""
        rule = check_rule(rule, where)
        for name, value, choices in (("overlap", self.overlap, Overlap), ("catch_up", self.catch_up, CatchUp)):
            if value not in get_args(choices):
                raise DefinitionError(f"{where}: {name} is {value!r}. Choose one of {', '.join(get_args(choices))}.")
        for name, value in (("catch_up_window", self.catch_up_window), ("jitter", self.jitter)):
            if value is not None and not (isinstance(value, timedelta) and timedelta(0) < value <= _WINDOW_MAX):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DefinitionError(f"{where}: {name} is {value!r}. Give a timedelta above zero, or None.")
        if self.catch_up_window is not None and self.catch_up == "none":
            raise DefinitionError(f'{where}: catch_up="none" catches nothing up. Leave out catch_up_window.')
        if self.jitter is not None and self.jitter >= (gap := rule.shortest_gap()):
            raise DefinitionError(
                f"{where}: jitter is {self.jitter}. Give less than {gap}, in which the rule fires again."
            )
        return self

    def due_at(self, name: str, instant: datetime) -> datetime:
        """When the firing of *instant* is due: then, or by its share of the jitter later."""
        if self.jitter is None:
            return instant
        share = int.from_bytes(hashlib.sha256(f"{name}|{instant.isoformat()}".encode()).digest()[:4]) / (1 << 32)
        return instant + self.jitter * share


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule as it stands: `next_at` is the first of its instants that nothing was decided about, `queued` are those that
    wait for the execution before; `live`: whether that is not over."""

    name: str
    rule: RuleOf
    policy: Policy
    next_at: datetime | None
    queued: Sequence[datetime] = ()
    live: bool = False


@dataclass(slots=True)
class Plan:
    """What is to be done: executions to be `started`, each for an instant; how many firings were `skipped` because of the one
    before, whether that is to be `cancelled`, what is `queued` now, and from where it goes on. `missed` is the first
    instant that is too old to be caught up."""

    next_at: datetime | None
    due_at: datetime | None
    started: list[datetime] = field(default_factory=list[datetime])
    queued: list[datetime] = field(default_factory=list[datetime])
    skipped: int = 0
    cancelled: bool = False
    missed: datetime | None = None


def plan(schedule: Standing, now: datetime) -> Plan:
    """What is to be done about *schedule* at *now*: nothing for an instant that is not due."""
    due, next_at = _due(schedule, now)
    made = Plan(next_at, None if next_at is None else schedule.policy.due_at(schedule.name, next_at))
    if schedule.next_at is not None and schedule.next_at != (due[0] if due else next_at):
        made.missed = schedule.next_at
    waiting = [*schedule.queued, *due]
    match schedule.policy.overlap:
        case "allow":
            made.started = waiting
        case "skip":
            made.started = [] if schedule.live else waiting[:1]
            made.skipped = len(waiting) - len(made.started)
        case "queue":
            made.started, rest = ([], waiting) if schedule.live else (waiting[:1], waiting[1:])
            made.queued = rest[:QUEUED_MAX]
            made.skipped = len(rest) - len(made.queued)
        case "cancel_previous":
            made.skipped = max(len(waiting) - 1, 0)
            made.cancelled = schedule.live and bool(waiting)
            made.started, made.queued = ([], waiting[-1:]) if schedule.live else (waiting[-1:], [])
    return made


def _due(schedule: Standing, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The instants that are due and not too old, in order, and the first that is left for later."""
    rule, policy, first = schedule.rule, schedule.policy, schedule.next_at
    if first is None or policy.due_at(schedule.name, first) > now:
        return [], first
    if (oldest := _oldest(policy, now)) is not None and first < oldest:
        first = rule.from_on(oldest)
    if policy.catch_up == "latest" and first is not None:
        first = _latest(schedule, first, now)
    due: list[datetime] = []
    while first is not None and len(due) < ROWS_MAX and policy.due_at(schedule.name, first) <= now:
        due.append(first)
        first = rule.next_after(first)
    return due, first


def _oldest(policy: Policy, now: datetime) -> datetime | None:
    match policy.catch_up:
        case "none":
            return now - GRACE - (policy.jitter or timedelta(0))
        case "all":
            return now - (policy.catch_up_window or ALL_WITHIN)
        case "latest":
            return None if policy.catch_up_window is None else now - policy.catch_up_window


def _latest(schedule: Standing, first: datetime, now: datetime) -> datetime:
    """The last instant from *first* on that is due; *first*, when none is. Looked for from the near past backwards, for there
    may be years of them."""
    reach = _REACH
    while True:
        begin = max(first, now - reach)
        found = None
        instant = schedule.rule.from_on(begin)
        while instant is not None and instant <= now:
            if schedule.policy.due_at(schedule.name, instant) <= now:
                found = instant
            instant = schedule.rule.next_after(instant)
        if found is not None:
            return found
        if begin == first:
            return first
        reach *= 8


def utc(instant: datetime) -> str:
    """An instant as it stands in ids and tags."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
