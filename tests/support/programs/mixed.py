"""A worker process under a load of every kind. Usage: mixed.py DSN. It says `ready`."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import timedelta
from typing import Any

import durable
from durable import Durable, Retention, Retry, Workflow, seconds
from tests.support.report import say

CONCURRENCY = 200
KEPT = timedelta(seconds=60)

pipeline: Workflow[Any, Any] = Workflow("pipeline", retention=Retention(completed=KEPT))
flaky: Workflow[Any, Any] = Workflow("flaky", retention=Retention(completed=KEPT))
sleeps: Workflow[Any, Any] = Workflow("sleeps", retention=Retention(completed=KEPT))
hears: Workflow[Any, Any] = Workflow("hears", retention=Retention(completed=KEPT))
calls: Workflow[Any, Any] = Workflow("calls", retention=Retention(completed=KEPT))
ALL = (pipeline, flaky, sleeps, hears, calls)


@pipeline.step
async def one(data: Any) -> Any:
    return data


@pipeline.step
async def two(data: Any) -> Any:
    return data


@pipeline.step
async def three(data: Any) -> Any:
    return data


@flaky.step(retry=Retry(3, delay=seconds(0.01)))
async def fails_once(data: Any) -> Any:
    if durable.context().attempt == 1:
        raise ValueError("the first time")
    return data


@sleeps.step
async def sleep(data: Any) -> Any:
    await durable.sleep(seconds(6))
    return data


@hears.step
async def hear(data: Any) -> Any:
    return await durable.wait_for_event("go")


@calls.step
async def call(data: Any) -> Any:
    return await durable.call_workflow(pipeline, data)


async def main(dsn: str) -> None:
    """Work until ended."""
    async with Durable(dsn, workflows=ALL, queues={"default": CONCURRENCY}):
        say("ready")
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(sys.argv[1]))
