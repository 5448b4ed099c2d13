"""One e-mail to each of many people, ten at a time, and one bad address that does not stop the others.

    python -m examples.campaign

Each item is recorded when it is done, under a path and an idempotency key of its own. A worker that takes over sends to those
who have no record, and to nobody else.
"""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Durable, ItemResults, NonRetryable, Retry, Workflow, assign, seconds
from examples.services import BadAddress, email

Data = dict[str, Any]

campaigns = Workflow[Data, Data]("send_campaign", retry=Retry(max_attempts=3, delay=seconds(0.2)))


def recipients(campaign: Data) -> list[str]:  # asked once, and recorded: who it goes to does not change any more
    return [str(address) for address in campaign["recipients"]]


def count(campaign: Data, results: ItemResults) -> Data:
    """What became of the items, in their order, made into the data that goes on."""
    return assign(campaign, sent_count=len(results.ok), failed=[failure.message for failure in results.errors])


send_all = campaigns.foreach("send_all", items=recipients, concurrency=10, on_error="continue", into=count)


@send_all.step
async def send(campaign: Data, address: str) -> None:
    try:
        await email.send(address, campaign["subject"])
    except BadAddress as error:
        raise NonRetryable(str(error)) from error  # a further try would not mend the address


@campaigns.step
async def report(campaign: Data) -> None:
    await email.send("marketing@example.com", f"{campaign['sent_count']} were sent")


async def main() -> None:
    everybody = [f"reader-{number}@example.com" for number in range(1, 25)]
    everybody.insert(7, "reader-at-example.com")
    async with Durable(workflows=[campaigns]):
        handle = await durable.start(campaigns, {"subject": "Spring has come", "recipients": everybody})
        campaign = await handle.result(timeout=60)
        print(f"{campaign['sent_count']} of {len(everybody)} were sent; failed: {campaign['failed']}")
        execution = await durable.get_execution(handle.id, include_steps=True)
        for step in execution.steps or []:
            if step.status == "failed":
                print(f"{step.path} has failed after {len(step.attempts)} try")


if __name__ == "__main__":
    asyncio.run(main())
