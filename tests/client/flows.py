"""Workflows for the tests of the client. Bodies that wait do so on events in their own process."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import Context, Workflow, assign, hours

Data = dict[str, Any]

double = Workflow[int, int]("double")


@double.step
async def twice(number: int) -> int:
    return 2 * number


other = Workflow[int, int]("other")


@other.step
async def same(number: int) -> int:
    return number


order: list[str] = []
began = asyncio.Event()
gate = asyncio.Event()

in_line = Workflow[str, str]("in_line", queue="one")


@in_line.step
async def note(name: str) -> None:
    began.set()
    await gate.wait()
    order.append(name)


failing = Workflow[Data, Data]("failing")


@failing.step
async def break_down(data: Data) -> Data:
    raise ValueError(f"no {data['what']}")


holding = Workflow[Data, Data]("holding", timeout=hours(1))
held: dict[str, asyncio.Event] = {}
cancelled: list[str] = []


@holding.step
async def hold(data: Data, ctx: Context) -> Data:
    began = held.setdefault(ctx.execution_id, asyncio.Event())
    began.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.append(ctx.execution_id)
        raise
    return assign(data, never=True)


nested = Workflow[int, int]("nested")


@nested.step
async def starts_another(number: int) -> int:
    import durable

    handle = await durable.start(double, number)
    return await handle.result(timeout=30)
