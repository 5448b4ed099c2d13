"""The oracle and the engine, in memory and undisturbed, agree on every random workflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from durable import Workflow
from durable.testing import run
from tests.engine.trees import FAR, INPUT, OUTSIDE, function, payload_of, tree
from tests.storm.oracle import Expected, differences, foretell

ID = "memory"


def workflows(first: int, count: int) -> Iterator[Workflow[Any, Any]]:
    for seed in range(first, first + count):
        yield tree(seed, waits=seed % 3 == 1, effects=OUTSIDE)
        if seed % 4 == 0:
            yield function(seed, far=FAR, effects=OUTSIDE)


async def faults_of(workflow: Workflow[Any, Any], expected: Expected) -> list[str]:
    names = [name for kind, name in expected.awaited if kind == "event"]
    asked = [name for kind, name in expected.awaited if kind == "input"]
    got = await run(
        workflow,
        INPUT,
        execution_id=ID,
        events_before=[(name, payload_of(name)) for name in names],
        inputs=[(name, str(payload_of(name))) for name in asked],
    )
    failure = None if got.failure is None else (got.failure.type.rpartition(".")[2], got.failure.message)
    faults = [*differences(expected, got.status.value, got.result, failure)]
    tried = Counter[str]()
    for record in [*got.records, *got.dropped]:
        if record.kind in ("completed", "failed") and record.attempt:
            tried[record.path] = max(tried[record.path], record.attempt)
    called = set(got.calls)
    faults += (
        f"{path} was not called" for path in expected.attempts if expected.is_certain(path) and path not in called
    )
    faults += (f"{path} was called" for path in called if expected.is_certain(path) and path not in expected.attempts)
    faults += (
        f"{path} was tried {tries} times instead of {expected.attempts[path]}"
        for path, tries in tried.items()
        if path in expected.attempts and expected.is_certain(path) and tries != expected.attempts[path]
    )
    return faults


@pytest.mark.parametrize(
    ("first", "count"), [(0, 120), pytest.param(1_000_000, 3_000, marks=[pytest.mark.stress, pytest.mark.timeout(900)])]
)
async def test_the_oracle_foretells_what_the_engine_does_when_nothing_happens(first: int, count: int) -> None:
    ends: Counter[str] = Counter()
    for workflow in workflows(first, count):
        expected = foretell(workflow, INPUT, ID)
        assert not (faults := await faults_of(workflow, expected)), f"{workflow.definition.name}: {faults}"
        ends.update(expected.statuses if len(expected.statuses) == 1 else ["by chance"])
        ends["raced"] += bool(expected.raced)
    for end in ("completed", "failed", "compensated", "compensation_failed", "raced"):
        assert ends[end] >= 2, ends
    assert ends["by chance"] < 0.1 * sum(ends.values()), f"the oracle is to commit itself: {ends}"
