"""Hooks hold up nothing, and break nothing, whatever they do."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import durable
from durable import Durable, ExecutionEvent, ExecutionFailed, Input, Workflow, days
from durable.runtime import hooks, reminder
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

works = Workflow[Data, Data]("works")


@works.step
async def work(data: Data) -> Data:
    if data.get("bad"):
        raise ValueError("bad")
    return data


asks = Workflow[Data, Data]("asks")


@asks.step
async def ask(data: Data) -> Data:
    return {"said": await durable.wait_for_text("who", remind_every=days(1))}


class Hook:
    """A hook that does something bad for some executions, and remembers of which it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.finished: list[str] = []
        self.news = asyncio.Event()
        self.over = asyncio.Event()  # lets those go that heed nothing else

    async def __call__(self, event: ExecutionEvent | Input) -> None:
        id = event.id
        self.told.append(id)
        self.news.set()
        match id.partition("-")[0]:
            case "hangs":
                await asyncio.Event().wait()
            case "heedless":
                while not self.over.is_set():
                    try:
                        await self.over.wait()
                    except asyncio.CancelledError:
                        continue
            case "cancelled":
                raise asyncio.CancelledError
            case "exits":
                sys.exit(3)
            case "slow":
                await asyncio.sleep(0.05)
                self.finished.append(id)
            case "raises":
                raise RuntimeError("the pager is broken")
            case _:
                pass

    async def until(self, id: str) -> None:
        async with asyncio.timeout(20):
            while id not in self.told:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def dsn(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr("durable.app.HOOK_SECONDS", 0.2)
    monkeypatch.setattr(hooks, "SECONDS", 0.2)
    monkeypatch.setattr(hooks, "HEED_SECONDS", 0.1)
    monkeypatch.setattr(reminder, "HOOK_SECONDS", 0.2)
    yield database
    await assert_invariants(database)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook()
    yield hook
    hook.over.set()
    await asyncio.sleep(0)


def engine_with(dsn: str, hook: Hook, **options: Any) -> Durable:
    async def tell(event: ExecutionEvent) -> None:
        await hook(event)

    return Durable(dsn, workflows=[works, asks], on_execution_failed=tell, **options)


async def fail(engine: Durable, id: str) -> None:
    with pytest.raises(ExecutionFailed):
        await (await engine.start(works, {"bad": True}, id=id)).result(20)


async def test_a_hook_may_come_to_its_end_when_the_worker_stops(dsn: str, hook: Hook) -> None:
    async with engine_with(dsn, hook) as engine:
        for number in range(2):
            await fail(engine, f"slow-{number}")
    assert sorted(hook.finished) == ["slow-0", "slow-1"]


@pytest.mark.parametrize("bad", ["hangs", "heedless"])
async def test_hooks_that_do_not_return_hold_up_neither_executions_nor_each_other_nor_the_end(
    dsn: str, hook: Hook, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(60):
        async with engine_with(dsn, hook) as engine:
            for number in range(2 * hooks.AT_ONCE):
                await fail(engine, f"{bad}-{number}")
            await (await engine.start(works, {})).result(20)
            await fail(engine, "next")
            await hook.until("next")
            assert (await engine.health()).live
            await fail(engine, f"{bad}-last")
            await hook.until(f"{bad}-last")
    (late,) = (text for text in caplog.messages if f"id='{bad}-0'" in text and "has not returned within 0.2 s" in text)
    assert late.startswith("on_execution_failed(ExecutionEvent(")
    assert ("does not heed its cancellation" in caplog.text) == (bad == "heedless")


@pytest.mark.parametrize("bad", ["raises", "cancelled", "exits"])
async def test_whatever_a_hook_raises_the_next_one_is_told(
    dsn: str, hook: Hook, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine_with(dsn, hook) as engine:
        for number in range(2 * hooks.AT_ONCE):
            await fail(engine, f"{bad}-{number}")
        await fail(engine, "next")
        await hook.until("next")
        assert (await engine.health()).live
    logged = [record for record in caplog.records if record.message.startswith("on_execution_failed(")]
    assert len(logged) == 2 * hooks.AT_ONCE
    assert all(record.levelno == logging.ERROR and ") has failed" in record.message for record in logged)


async def test_a_reminder_that_does_not_return_holds_up_neither_the_others_nor_the_end(
    dsn: str, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.asking.duration_seconds", lambda duration, what: 1.0)

    async def remind(asked: Input) -> None:
        await hook(asked)

    async with asyncio.timeout(60):
        async with engine_with(dsn, hook, on_reminder=remind) as engine:
            await engine.start(asks, {}, id="heedless-1")
            await hook.until("heedless-1")
            await engine.start(asks, {}, id="next")
            await hook.until("next")
            for id in ("heedless-1", "next"):
                await engine.cancel(id)
