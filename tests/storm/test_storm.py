"""Random workflows in a storm: processes killed and frozen, PostgreSQL stopped, connections cut, clocks wrong, code changed.
All laws hold, and each execution ends as the oracle has foretold.

The environment variable STORM is the seed of an earlier storm: the same workflows, and the same plan of what befalls them,
though not the same moments. STORM_MINUTES is how long the long one goes on (10).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.storm import plan
from tests.storm.driver import POSTS
from tests.storm.program import Program
from tests.storm.rounds import Round, Shape, storms, totals
from tests.support.postgres import DurableCluster

MINUTES = float(os.environ.get("STORM_MINUTES", "10"))
SHORT = Shape(seconds=8, size=20, in_flight=20)
SAME = (
    58  # a seed, so that a change is not blamed for what chance has found: much befalls it, and its workflows are short
)


def assert_clean(rounds: list[Round]) -> None:
    faulty = [str(round_) for round_ in rounds if round_.faults]
    assert not faulty, "\n".join(faulty)


async def test_random_workflows_end_as_foretold_whatever_befalls_them(
    durable_cluster: DurableCluster, tmp_path: Path
) -> None:
    rounds = await storms(durable_cluster, tmp_path, int(os.environ.get("STORM", SAME)), SHORT)
    assert_clean(rounds)
    (round_,) = rounds
    assert round_.figures["executions"] >= SHORT.size
    assert round_.figures["rolled"] == POSTS, "every post has the new code at the end"


def test_the_short_storm_has_much_in_it() -> None:
    kinds = {deed.kind for deed in plan.deeds(SAME, SHORT.seconds, POSTS)}
    assert kinds >= {"kill", "freeze", "restart", "terminate", "sever", "half-open", "partition", "late", "lose"}


@pytest.mark.stress
@pytest.mark.timeout(60 * MINUTES + 600)
async def test_random_workflows_end_as_foretold_whatever_befalls_them_for_long(
    durable_cluster: DurableCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("STORM", random.randrange(2**31)))
    rounds = await storms(durable_cluster, tmp_path, seed, Shape(), minutes=MINUTES)
    with capsys.disabled():
        print(f"\n{totals(rounds)}")
    assert_clean(rounds)


# --- The storms are worth it ------------------------------------------------------------------------------------------


def test_a_seed_says_what_is_run_and_what_befalls_it() -> None:
    for seed in (0, SAME):
        one, other = Program(seed, 4), Program(seed, 4)
        shapes = [workflow.definition.shape for workflow in one.workflows()]
        assert shapes == [workflow.definition.shape for workflow in other.workflows()]
        assert [one.start(n) for n in range(50)] == [other.start(n) for n in range(50)]
        assert [*plan.deeds(seed, 60, POSTS)] == [*plan.deeds(seed, 60, POSTS)]
    assert [*plan.deeds(1, 60, POSTS)] != [*plan.deeds(2, 60, POSTS)]


def test_deeds_of_every_kind_befall_every_post() -> None:
    kinds = Counter((deed.kind, deed.post) for deed in plan.deeds(SAME, 1200, POSTS))
    assert {kind for kind, _ in kinds} == {*plan.KINDS}
    assert {post for _, post in kinds} == {*range(POSTS)}
    frozen = [deed.seconds for deed in plan.deeds(SAME, 1200, POSTS) if deed.kind == "freeze"]
    assert min(frozen) > plan.LEASE, "it is silent for longer than its lease"
    assert {plan.skew(SAME, 0, life) for life in range(20)} == {*plan.SKEWS}
