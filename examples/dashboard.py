"""Several things fetched at the same time, put together, and used: a page about a customer.

    python -m examples.dashboard

The arms of a parallel all get the same data. What each of them changes is merged; two arms that change the same place
would be a failure, not a silent loss. The result of each step is recorded by itself: a crash in the middle repeats only
what was not there yet.
"""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Durable, Retry, Workflow, assign
from examples.services import customers

Data = dict[str, Any]

dashboards = Workflow[Data, str]("customer_dashboard", retry=Retry(max_attempts=3))

fetch = dashboards.parallel("fetch")


@fetch.step  # an arm of one step
async def orders(data: Data) -> Data:
    return assign(data, orders=await customers.orders(data["customer"]))


person = fetch.arm("person")  # an arm of several: its steps run one after the other, beside the other arms


@person.step
async def profile(data: Data) -> Data:
    return assign(data, profile=await customers.profile(data["customer"]))


@person.step
async def offers(data: Data) -> Data:
    return assign(data, offers=await customers.offers(data["profile"]["city"]))


@dashboards.step
async def render(data: Data) -> str:  # after all arms, on the merged data
    name, found = data["profile"]["name"], ", ".join(data["orders"])
    return f"Hello {name}. You ordered {found}. For you: {', '.join(data['offers'])}."


async def main() -> None:
    async with Durable(workflows=[dashboards]):
        handle = await durable.start(dashboards, {"customer": "customer-7"})
        print(await handle.result(timeout=60))
        execution = await durable.get_execution(handle.id, include_steps=True)
        print("recorded:", ", ".join(sorted(step.path for step in execution.steps or [])))


if __name__ == "__main__":
    asyncio.run(main())
