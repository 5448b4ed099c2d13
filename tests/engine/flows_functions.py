"""Code-first workflows, and how each must end, with and without crashes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import durable
from durable import Context, NonRetryable, Retry, days, hours
from tests.engine.cases import CASES, Case


@dataclass
class Report:
    title: str
    pages: list[str]


async def fetch(page: str) -> str:
    return page.upper()


async def write(pages: list[str]) -> Report:
    return Report("all", pages)


@durable.workflow("research")
async def research(question: str) -> Report:
    pages = await asyncio.gather(*(durable.run(fetch, f"{question} {n}") for n in range(3)))
    decision = await durable.wait_for_approval("editor")
    assert decision == "approved"
    return await durable.run(write, pages)


@durable.workflow
async def nothing(data: int) -> None:
    await durable.sleep(hours(1))


@durable.workflow("maybe", retry=Retry(2))
async def maybe(data: int, context: Context) -> Report | None:
    if context.attempt == 1:
        raise ValueError("once")
    return None


@durable.workflow("same runs")
async def same_runs(data: list[str]) -> list[list[str]]:
    async def arm() -> list[str]:
        return [await durable.run(fetch, page) for page in data]

    async with asyncio.TaskGroup() as group:
        arms = [group.create_task(arm()) for _ in range(2)]
    return [task.result() for task in arms]


@durable.workflow("lives")
async def lives(count: int) -> list[Any]:
    said = [await durable.run(fetch, f"{count}"), await durable.wait_for_event("go", timeout=days(1))]
    await durable.sleep(hours(1))
    if count < 3:
        await durable.continue_as(count + 1)
    return said


@durable.workflow("too early")
async def too_early(data: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(durable.run(asyncio.sleep, 0.05))
        await asyncio.sleep(0)
        await durable.continue_as(2)


pipeline = durable.Workflow[int, int]("pipeline that continues")


@pipeline.step
async def goes_on(data: int) -> int:
    await durable.continue_as(2)


@durable.workflow("refuses")
async def refuses(data: int) -> None:
    raise NonRetryable("never")


CASES += [
    Case(research, "q", Report("all", ["Q 0", "Q 1", "Q 2"]), inputs=[("editor", "approved")]),
    Case(nothing, 5, None),
    Case(maybe, 5, None),
    Case(same_runs, ["a", "b"], [["A", "B"], ["A", "B"]]),
    Case(lives, 1, ["3", "third"], events=[("go", "first"), ("go", "second"), ("go", "third")]),
    Case(too_early, 1, error="builtins.ExceptionGroup", by_the_clock=True),
    Case(pipeline, 1, error="durable.errors.UsageError", message="for the body of a @durable.workflow"),
    Case(refuses, 1, error="durable.errors.NonRetryable"),
]
