"""What the journal in memory says of questions is what PostgreSQL says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import durable
from durable import Context, Workflow
from durable.model.status import Status
from durable.testing import crash_everywhere, run

child = Workflow[Any, Any]("child")


@child.step
async def fail() -> None:
    raise ValueError("the child fails")


parent = Workflow[Any, Any]("parent")
both = parent.parallel("both")


@both.step
async def call() -> None:
    await durable.call_workflow(child, None)


@both.step
async def ask() -> None:
    for _ in range(50):  # its sibling has failed before it is here again
        await asyncio.sleep(0)
    await durable.wait_for_text("name")


async def test_an_answer_that_comes_as_a_sibling_fails_is_not_closed() -> None:
    ended = await run(parent, None, inputs=[("name", "Ada")])
    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.type == "durable.errors.ChildFailed"
    assert [record.kind for record in ended.records if record.path == "both/ask"] == ["waiting"]


async def test_a_long_wait_does_not_expire_while_a_sibling_is_busy() -> None:
    together = Workflow[Any, Any]("together")
    both = together.parallel("both", merge="collect")

    @both.step
    async def approve() -> Any:
        return await durable.wait_for_approval("boss", timeout=durable.days(3), timeout_value="nobody")

    @both.step
    def report() -> str:
        time.sleep(0.02)
        return "done"

    ended = await run(together, None, inputs=[("boss", "approved")])
    assert ended.result == {"approve": "approved", "report": "done"}


async def test_what_is_emitted_reaches_all_that_listen_and_true_is_not_one() -> None:
    together = Workflow[Any, Any]("together")
    both = together.parallel("both", merge="collect")
    for name in "ab":

        @both.step(name=name)
        async def listen() -> Any:
            return await durable.wait_for_event("paid", match={"order": 1, "ok": True})

    events = [("paid", {"order": 1, "ok": 1}), ("paid", {"order": 1, "ok": True, "by": "card"})]
    ended = await run(together, None, events=events)
    assert ended.result == {name: {"order": 1, "ok": True, "by": "card"} for name in "ab"}


async def test_a_body_tells_of_its_progress_in_the_crash_harness_too() -> None:
    telling = Workflow[int, int]("telling")

    @telling.step
    async def tells(number: int, ctx: Context) -> int:
        ctx.progress(0.5)
        await ctx.stream.send("half")
        return number

    assert (await crash_everywhere(telling, 1)).uninterrupted.result == 1
