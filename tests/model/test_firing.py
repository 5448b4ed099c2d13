"""Firings: what becomes of them, and instants in zones against another library."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from durable.errors import DefinitionError
from durable.model.cron import Cron, Every
from durable.model.firing import Overlap, Policy, Standing, plan
from durable.timing import hours, minutes

ZONES = ("America/New_York", "Europe/Berlin", "America/St_Johns", "Africa/Casablanca", "America/Sao_Paulo", "UTC")


def times(rule: Cron | Every, after: str, n: int) -> list[str]:
    return [at.strftime("%d %H:%M") for at in rule.next_times(datetime.fromisoformat(after), n)]


@pytest.mark.parametrize("seed", range(20))
def test_the_instants_are_those_of_another_cron(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        by_the_hour = chance.random() < 0.4
        minute = chance.choice(["0", "30", "5,35", "10-20/5", *(["*/15", "*"] if by_the_hour else [])])
        hour = chance.choice(["*", "*/2", "*/3"] if by_the_hour else ["2", "1", "3", "0,2", "1-3", "0", "9", "23"])
        rest = chance.choice(["* * *", "1 * *", "*/5 * *", "* 3,10,11 sun", "15 mar 1-5", "* * sat,sun"])
        zone, month = chance.choice(ZONES), chance.choice([1, 3, 4, 10, 11])
        after = datetime(chance.choice([2015, 2018, 2026]), month, 1, tzinfo=UTC) + minutes(chance.randrange(43_200))
        expression = f"{minute} {hour} {rest}"
        other = CronSim(expression, after.astimezone(ZoneInfo(zone)))
        expected = [next(other).astimezone(UTC) for _ in range(20)]
        assert Cron(expression, zone).next_times(after, 20) == expected, (expression, zone, after)


START = datetime(2026, 1, 1, tzinfo=UTC)


def standing(policy: Policy, *, live: bool = False, queued: tuple[datetime, ...] = ()) -> Standing:
    return Standing("s", Every(hours(1)), policy, START, queued, live)


def test_nothing_is_planned_before_it_is_due() -> None:
    made = plan(standing(Policy()), START - timedelta(microseconds=1))
    assert (made.started, made.next_at) == ([], START)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy("allow", "latest"), [10]),
        (Policy("allow", "all"), list(range(11))),
        (Policy("allow", "all", hours(2.5)), [8, 9, 10]),
        (Policy("allow", "none"), []),
        (Policy("allow", "latest", minutes(10)), []),
    ],
)
def test_what_was_missed_is_caught_up_as_the_policy_says(policy: Policy, expected: list[int]) -> None:
    made = plan(standing(policy), START + hours(10.5))
    assert made.started == [START + hours(n) for n in expected]
    assert made.next_at == START + hours(11)


@pytest.mark.parametrize(
    ("overlap", "started", "queued", "skipped", "cancelled"),
    [
        ("skip", 0, 0, 2, False),
        ("allow", 2, 0, 0, False),
        ("queue", 0, 2, 0, False),
        ("cancel_previous", 0, 1, 1, True),
    ],
)
def test_a_firing_while_the_one_before_is_not_over(
    overlap: Overlap, started: int, queued: int, skipped: int, cancelled: bool
) -> None:
    made = plan(standing(Policy(overlap, "all"), live=True), START + hours(1))
    assert (len(made.started), len(made.queued), made.skipped, made.cancelled) == (started, queued, skipped, cancelled)


def test_what_is_queued_goes_first_and_one_at_a_time() -> None:
    earlier = START - hours(1)
    made = plan(standing(Policy("queue"), queued=(earlier,)), START)
    assert (made.started, made.queued) == ([earlier], [START])


def test_jitter_is_the_same_for_everybody_and_less_than_the_gap() -> None:
    policy = Policy(jitter=minutes(30)).checked(Every(hours(1)), "it")
    due = [policy.due_at("s", START + hours(n)) - hours(n) for n in range(20)]
    assert all(START <= at < START + minutes(30) for at in due)
    assert len(set(due)) > 1
    assert due == [Policy(jitter=minutes(30)).due_at("s", START + hours(n)) - hours(n) for n in range(20)]
    with pytest.raises(DefinitionError, match="jitter"):
        Policy(jitter=hours(1)).checked(Every(hours(1)), "it")
