"""Waiting: a trial that is accompanied for two weeks, here in two seconds.

    python -m examples.trial

While it sleeps it is a few rows in PostgreSQL: no task, no slot, no connection. It wakes in whatever worker has room, after any
number of deploys, and never too early.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import durable
from durable import Durable, Workflow, assign
from examples.services import email

Data = dict[str, Any]

DAY = timedelta(seconds=0.15)  # durable.days(1), in earnest
SUBSCRIBED = {"user-2"}  # who has taken out a subscription meanwhile

trials = Workflow[Data, Data]("accompany_trial")


@trials.step
async def welcome(user: Data) -> Data:
    await email.send(user["email"], "Welcome! Your trial lasts two weeks.")
    return assign(user, trial_ends=(datetime.now(UTC) + 14 * DAY).isoformat())


@trials.step
async def wait_three_days(user: Data) -> None:
    await durable.sleep(3 * DAY)


@trials.step
async def check_in(user: Data) -> None:
    await email.send(user["email"], "Three tips for your first week.")


@trials.step
async def wait_until_the_trial_ends(user: Data) -> None:
    await durable.schedule_at(datetime.fromisoformat(user["trial_ends"]))


@trials.step
async def convert_or_remind(user: Data) -> Data:
    converted = user["id"] in SUBSCRIBED
    if not converted:
        await email.send(user["email"], "Your trial has ended. Stay with us?")
    return assign(user, converted=converted)


async def main() -> None:
    async with Durable(workflows=[trials]):
        users = [
            {"id": f"user-{number}", "email": f"{name}@example.com"} for number, name in enumerate(("ada", "bob"), 1)
        ]
        handles = [await durable.start(trials, user, id=f"trial of {user['id']}") for user in users]
        while (execution := await durable.get_execution(handles[0].id)).wake_at is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        print(f"{execution.id} is {execution.status}: it will go on by itself")
        for handle in handles:
            user = await handle.result(timeout=30)
            print(f"{user['id']} {'stays' if user['converted'] else 'was asked to stay'}")
        steps = (await durable.get_execution(handles[0].id, include_steps=True)).steps or []
        slept = [step.path for step in steps if step.effects]
        print(f"slept in: {', '.join(slept)}")


if __name__ == "__main__":
    asyncio.run(main())
