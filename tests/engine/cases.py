"""Workflows and how each must end, with and without crashes. The files of this folder that declare some add theirs to `CASES`.

Their bodies depend on their data and on `context()` alone, so that a run may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from durable import Context, Workflow, context
from durable.testing.memory import Outside


@dataclass(frozen=True)
class Case:
    """A workflow, its input, and how it must end. `calls` is how often each body runs when nothing crashes."""

    workflow: Workflow[Any, Any]
    input: Any
    result: Any = None
    error: str | None = None  # the type of the failure
    message: str = ""  # a part of the failure's message
    status: str = ""  # when it is neither completed nor failed
    calls: dict[str, int] = field(default_factory=dict[str, int])
    values: dict[str, Any] = field(default_factory=dict[str, Any])  # what is recorded as the result of these paths
    undone: Sequence[str] | None = None  # the compensations, in their order
    crashes: int = 0
    events: Sequence[tuple[str, Any]] = ()  # sent once they are waited for
    events_before: Sequence[tuple[str, Any]] = ()  # sent before it begins
    inputs: Sequence[tuple[str, Any]] = ()  # answers, given once they are asked for
    by_the_clock: bool = False  # what is recorded depends on real time, so a crash may rightly change it
    to_children: bool = False  # what comes from outside comes to its children
    slow: bool = False  # a run takes a good part of a second: fewer pairs of crashes are tried

    @property
    def outside(self) -> Outside:
        """What comes to it from outside."""
        return {"events": self.events, "events_before": self.events_before, "inputs": self.inputs}


CASES: list[Case] = []


def case(
    input: Any, *, of: Callable[..., Workflow[Any, Any]] = Workflow, **expected: Any
) -> Callable[[Callable[[Workflow[Any, Any]], None]], None]:
    """A case whose workflow the decorated function declares; it is called like that function."""

    def add(declare: Callable[[Workflow[Any, Any]], None]) -> None:
        workflow = of(declare.__name__)
        declare(workflow)
        CASES.append(Case(workflow, input, **expected))

    return add


# --- Bodies that many of them use ---------------------------------------------------------------------------------


def fail_until(attempt: int) -> None:
    if context().attempt < attempt:
        raise ValueError(f"not before attempt {attempt}")


async def silent() -> None: ...


async def hangs() -> None:
    await asyncio.Event().wait()


async def same(data: Any) -> Any:
    return data


async def increment(data: int) -> int:
    return data + 1


def puts(**changes: Any) -> Callable[[Any], Any]:
    """A body that returns its data with *changes*."""

    async def put(data: Any) -> Any:
        return {**data, **changes}

    return put


def logs(word: str) -> Callable[[Any], Any]:
    """A body that adds *word* to the list that is its data."""

    async def log(data: list[Any]) -> list[Any]:
        return [*data, word]

    return log


def fails(message: str = "no", *, attempts: int = 1_000) -> Callable[[Any], Any]:
    """A body that fails in its first *attempts* attempts, then returns its data."""

    async def fail(data: Any) -> Any:
        if context().attempt <= attempts:
            raise ValueError(message)
        return data

    return fail


async def undo(data: Any, here: Context) -> Any:
    """A compensation. What it saw is recorded."""
    assert here.failure is not None
    return [data, here.failure.message]
