"""When a step fails: trying again, giving up at once, waiting as long as the service asks, and not waiting for ever.

    python -m examples.retries

Each execution below fails in its own way first. What was tried, and when the next try is due, is in the database: a
crash of the worker between two tries changes nothing, and a pause between two tries occupies nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Context, Durable, ExecutionFailed, NonRetryable, Retry, RetryAfter, Workflow, seconds

Data = dict[str, Any]

# Five tries in all, with pauses of 0.1, 0.2, 0.4 and 0.8 s, each up to a quarter shorter or longer.
patient = Retry(max_attempts=5, backoff="exponential", delay=seconds(0.1))

reports = Workflow[Data, str]("fetch_report", retry=patient)  # for every step without a retry= of its own


@reports.step(timeout=seconds(0.5))  # bounds each try by itself
async def fetch(data: Data, ctx: Context) -> str:
    weather = data["weather"]
    if weather == "forbidden":
        raise NonRetryable("403: this account may not read reports")  # no further try would help
    if weather == "busy" and ctx.attempt == 1:
        raise RetryAfter(seconds(0.3), "429: too many requests")  # the service has said when
    if weather == "hanging" and ctx.attempt == 1:
        await asyncio.sleep(3600)  # cancelled after half a second; that counts as a try
    if weather == "shaky" and ctx.attempt < 4:
        raise ConnectionError("reset by peer")
    return f"the report, at try {ctx.attempt} of {ctx.max_attempts}"


async def main() -> None:
    async with Durable(workflows=[reports]):
        for weather in ("fair", "shaky", "busy", "hanging", "forbidden"):
            handle = await durable.start(reports, {"weather": weather})
            try:
                print(f"{weather}: {await handle.result(timeout=60)}")
            except ExecutionFailed as failed:
                print(f"{weather}: given up. {failed.failure}")
            execution = await durable.get_execution(handle.id, include_steps=True)
            for step in execution.steps or []:
                for attempt in step.attempts:
                    told = f"    try {attempt.number} {attempt.status} after {attempt.seconds:.1f} s"
                    print(told if attempt.error is None else f"{told}: {attempt.error}")


if __name__ == "__main__":
    asyncio.run(main())
