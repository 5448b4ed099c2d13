"""A worker process of one version of an application. Usage: deploy.py DSN before|after

It says `ready`. Each execution waits once for the event ``go``, in the step that its data names.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from typing import Any

import durable
from durable import Durable, Workflow
from tests.support.report import say

Data = dict[str, Any]
_which = "before"


@dataclass
class Before:
    """What `quote` takes before the deploy."""

    stop: str
    amount: int


@dataclass
class After:
    """And after it."""

    stop: str
    amount: int
    currency: str


async def stop_here(data: Any) -> None:
    """Wait, if this is the step."""
    stop = data["stop"] if isinstance(data, dict) else data.stop
    if stop == durable.context().path:
        await durable.wait_for_event("go")


async def pass_on(data: Data) -> Data:
    await stop_here(data)
    return data


async def ask(data: Data) -> Data:
    """What follows it after the deploy gets all that it takes."""
    await stop_here(data)
    return {**data, "currency": "EUR"} if _which == "after" else data


async def undo(data: Data) -> None:
    """Nothing to be done."""


async def undo_typed(data: After) -> None:
    """It takes more than was recorded."""


def steps_of(name: str, *steps: str) -> Workflow[Any, Any]:
    workflow = Workflow[Any, Any](name)
    for step in steps:
        workflow.step(name=step)(pass_on)
    return workflow


def quotes(kind: Any) -> Workflow[Any, Any]:
    """Steps that take data of one type, but the first."""

    async def typed(data: Any) -> Any:
        await stop_here(data)
        return data

    typed.__annotations__ = {"data": kind, "return": kind}
    workflow = Workflow[Any, Any]("quote")
    workflow.step(name="ask")(ask)
    workflow.step(name="offer")(typed)
    workflow.step(name="accept")(pass_on)
    return workflow


def batches(*steps: str) -> Workflow[Any, Any]:
    workflow = Workflow[Any, Any]("batch")
    each = workflow.foreach("each", items=lambda data: data["items"], concurrency=2)
    for step in steps:

        async def body(data: Any, item: Any = None) -> Any:
            stop = item["stop"] if item is not None else data["stop"]
            if stop == durable.context().path:
                await durable.wait_for_event("go")
            return item if item is not None else data

        each.step(name=step)(body)
    return workflow


def trips(undoing: Any) -> Workflow[Any, Any]:
    workflow = Workflow[Any, Any]("trip")
    workflow.step(name="book", compensate=undoing)(pass_on)
    workflow.step(name="travel")(pass_on)
    return workflow


def choices(**cases: list[str]) -> Workflow[Any, Any]:
    workflow = Workflow[Any, Any]("choose")
    way = workflow.branch("way", on=lambda data: data["way"])
    for case, steps in cases.items():
        for step in steps:
            way.case(case).step(name=step)(pass_on)
    workflow.step(name="last")(pass_on)
    return workflow


def flows(which: str) -> list[Workflow[Any, Any]]:
    """The application, before or after the deploy."""
    if which == "before":
        return [
            steps_of("fulfil", "prepare", "ship", "bill"),
            steps_of("review", "read", "judge", "tell", "close"),
            quotes(Before),
            batches("fetch", "send"),
            trips(undo),
            choices(left=["a", "b"], right=["c"]),
            steps_of("dropped", "only"),
        ]
    return [
        steps_of("fulfil", "prepare", "ship", "bill", "thank"),  # more at the end
        steps_of("review", "read", "judge", "close"),  # one is gone
        quotes(After),  # more is wanted than was recorded
        batches("fetch", "check", "send"),  # one was put between
        trips(undo_typed),  # which would be felt only if it were undone
        choices(left=["b", "a"], right=["d"]),  # a case in another order, another with another step
    ]


STOPS: dict[str, list[Data]] = {
    "fulfil": [{"stop": step} for step in ("prepare", "ship", "bill")],
    "review": [{"stop": step} for step in ("read", "judge", "tell", "close")],
    "quote": [{"stop": step, "amount": 5} for step in ("ask", "offer", "accept")],
    "batch": [
        {"items": [{"stop": "each[0]/fetch"}, {"stop": ""}]},
        {"items": [{"stop": "each[0]/send"}, {"stop": ""}]},
        {"items": [{"stop": ""}, {"stop": ""}, {"stop": "each[2]/send"}]},
    ],
    "trip": [{"stop": "book"}, {"stop": "travel"}],
    "choose": [
        {"way": "left", "stop": "way/left/a"},
        {"way": "left", "stop": "way/left/b"},
        {"way": "right", "stop": "way/right/c"},
        {"way": "right", "stop": "last"},
    ],
    "dropped": [{"stop": "only"}],
}


async def main() -> None:
    global _which
    _which = sys.argv[2]
    async with Durable(sys.argv[1], workflows=flows(sys.argv[2])):
        say("ready")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    asyncio.run(main())
