"""The workflows that are measured. Their steps do nothing, so that what is measured is the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import durable
from durable import Retry, Workflow, hours
from tests.support.report import say

Data = dict[str, Any]

INPUT: Data = {"x": 1}


class Meter:
    """Sees a pipeline's first step begin and its last step being called for the *expected*-th time."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.count = 0
        self.began = self.processor_began = 0.0
        self.all_called = asyncio.Event()

    def first(self) -> None:
        """A first step begins."""
        if not self.began:
            self.began, self.processor_began = time.perf_counter(), time.process_time()

    def last(self) -> None:
        """A last step begins."""
        self.count += 1
        if self.count == self.expected:
            self.all_called.set()


def pipeline(steps: int, meter: Meter | None = None, say: Callable[[], None] | None = None) -> Workflow[Data, Data]:
    """A pipeline of *steps* no-op steps that hand their data on, each result being recorded. They call *say*, if given."""
    workflow = Workflow[Data, Data](f"noop_{steps}")

    def add(number: int) -> None:
        @workflow.step(name=f"step_{number}")
        async def noop(data: Data) -> Data:
            if meter is not None:
                if number == 1:
                    meter.first()
                if number == steps:
                    meter.last()
            if say is not None:
                say()
            return data

    for number in range(1, steps + 1):
        add(number)
    return workflow


falters = Workflow[Data, Data]("falters")


@falters.step(retry=Retry(max_attempts=2, delay=hours(1), max_delay=hours(1), jitter=0.0))
async def fail(data: Data) -> Data:
    """Fails, to be tried again in an hour."""
    raise ConnectionError("the service is away")


hears = Workflow[Data, Data]("hears")


@hears.step
async def hear(data: Data) -> Data:
    """Tells when it was woken by an event."""
    await durable.wait_for_event("go")
    return {"woke": time.perf_counter()}


wakes = Workflow[Data, Data]("wakes")


@wakes.step
async def wake(data: Data) -> Data:
    """Tells when it was woken by its time."""
    await durable.schedule_at(datetime.fromisoformat(data["at"]))
    return {"woke": time.time()}


dreams = Workflow[Data, Data]("dreams")


@dreams.step
async def dream(data: Data) -> None:
    """Sleeps for a day."""
    await durable.sleep(hours(24))


stays = Workflow[Data, Data]("stays")


@stays.step
async def stay(data: Data) -> Data:
    """Tells whoever started this process that it has begun, and stays."""
    say("begun", execution=durable.context().execution_id)
    await asyncio.Event().wait()
    return data
