"""Random workflows of every kind of node, crashed at random and at every record: they end as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durable.engine.context import Context
from durable.model.definition import Block, Decision, Definition, Node, Step, parts_of
from durable.testing import crash_everywhere, run
from tests.engine.trees import INPUT, tree

SEEDS = st.integers(0, 2**32 - 1)


# Every time the same trees, so that a change is not blamed for what chance has found: that is for `make stress`.
SAME = settings(max_examples=120, derandomize=True)


@given(SEEDS)
@SAME
def test_any_workflow_ends_the_same_when_workers_crash_now_and_then(seed: int) -> None:
    asyncio.run(crash_everywhere(tree(seed), INPUT, first_crashes=3, second_crashes=2))


@given(SEEDS)
@settings(SAME, max_examples=80)
def test_any_workflow_ends_the_same_when_workers_crash_now_and_then_in_other_places(seed: int) -> None:
    asyncio.run(crash_everywhere(tree(seed), INPUT, first_crashes=5, second_crashes=5))


@given(SEEDS)
@example(7119)  # the reason why a foreach had too many failures was lost with the worker
@settings(SAME, max_examples=15)
def test_any_workflow_ends_the_same_wherever_workers_crash(seed: int) -> None:
    asyncio.run(crash_everywhere(tree(seed), INPUT, second_crashes=20))


@pytest.mark.stress
@pytest.mark.timeout(900)
@given(SEEDS, st.booleans())
@settings(max_examples=1_000)
def test_any_workflow_that_chance_finds_ends_the_same(seed: int, waits: bool) -> None:
    asyncio.run(crash_everywhere(tree(seed, waits=waits), INPUT, first_crashes=5, second_crashes=5))


# --- The trees are worth it -----------------------------------------------------------------------------------------


def nodes_in(block: Block, depth: int = 1) -> Iterator[tuple[Node, int]]:
    for node in block:
        yield node, depth
        if not isinstance(node, Step | Decision):
            for _, inner in parts_of(node):
                yield from nodes_in(inner, depth + 1)


def kinds_in(definition: Definition) -> Iterator[str]:
    for node, depth in nodes_in(definition.body):
        yield type(node).__name__
        yield f"depth {depth}"


async def test_the_trees_have_nodes_of_every_kind_at_every_depth_and_end_in_every_way() -> None:
    ends, kinds, records = Counter[str](), Counter[str](), Counter[str]()
    for seed in range(200):
        workflow = tree(seed)
        kinds.update(kinds_in(workflow.definition))
        ended = await run(workflow, INPUT)
        ends[ended.status.value] += 1
        if ended.failure is not None:
            ends[ended.failure.type.rpartition(".")[2]] += 1
        records.update({record.kind for record in ended.records})
        records.update("visited again" for record in ended.records if "#" in record.path)
        records.update("tried again" for record in ended.records if record.attempt > 1)
    for kind in ("Step", "Decision", "Branch", "Parallel", "Foreach", "Loop", "depth 4"):
        assert kinds[kind] >= 20, kinds
    for end in ("completed", "failed", "compensated", "compensation_failed", "ValueError", "NoMatchingCase"):
        assert ends[end] >= 2, ends
    assert ends["completed"] < 180
    for kind in (
        "completed",
        "failed",
        "started",
        "chosen",
        "items",
        "iterated",
        "failing",
        "visited again",
        "tried again",
    ):
        assert records[kind] >= 10, records


async def test_a_tree_tells_its_log_of_each_call() -> None:
    told: Counter[str] = Counter()

    async def log(here: Context) -> None:
        told[here.path] += 1

    for seed in range(30):
        told.clear()
        assert (await run(tree(seed, log=log), INPUT)).calls - told == Counter()


@given(SEEDS)
@settings(max_examples=60, derandomize=True)
def test_any_workflow_whose_bodies_wait_ends_the_same_when_workers_crash_now_and_then(seed: int) -> None:
    asyncio.run(crash_everywhere(tree(seed, waits=True), INPUT, first_crashes=5, second_crashes=5))
