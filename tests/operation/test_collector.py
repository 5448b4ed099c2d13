"""A worker process has the garbage collector look less often, and leaves it as it was."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator

import pytest

from durable import Durable
from durable.runtime.collector import YOUNG_OBJECTS, patient_collector
from tests.support import flows


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)


def test_the_collector_is_patient_for_as_long_as_the_worker_runs() -> None:
    before = gc.get_threshold()
    with patient_collector():
        assert gc.get_threshold() == (YOUNG_OBJECTS, *before[1:])
        assert gc.get_freeze_count() > 1_000
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("young", [0, 10 * YOUNG_OBJECTS])
def test_what_the_process_has_set_itself_is_kept(young: int) -> None:
    gc.set_threshold(young, 10, 10)
    with patient_collector():
        assert gc.get_threshold()[0] == young


async def test_a_worker_process_collects_seldom_until_it_is_told_to_stop(database: str) -> None:
    before = gc.get_threshold()
    running = asyncio.create_task(Durable(database, workflows=[flows]).run())
    try:
        async with asyncio.timeout(30):
            while gc.get_threshold() == before:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    finally:
        running.cancel()
    assert gc.get_threshold() == before
