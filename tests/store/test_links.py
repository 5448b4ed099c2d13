"""A connection whose reply is overdue is broken off; one whose reply takes its time is not."""

from __future__ import annotations

import asyncio

import pytest

from durable.store.connection import Link
from durable.store.queries import load
from tests.faults.in_process import GUARD, statement
from tests.support.proxy import Proxy

NOW = load("clock/now")


async def test_a_reply_that_does_not_come_in_time_counts_as_lost_and_the_next_statement_connects_anew(
    database: str,
) -> None:
    async with Proxy(database) as proxy, asyncio.timeout(GUARD):
        link = Link(proxy.dsn, "test", reply_seconds=1.0)
        await link.fetch(NOW)
        assert proxy.half_open() == 1
        for _ in range(2):  # the timer that looks after the first is not the one that looks after the second
            with pytest.raises(TimeoutError, match="no reply within 1 s"):
                await link.fetch(NOW)
            assert await link.fetch(NOW)
            proxy.half_open()
        await link.close()


async def test_patience_begins_when_a_statement_is_sent_and_not_with_those_before_it(database: str) -> None:
    async with Proxy(database) as proxy, asyncio.timeout(GUARD):
        link = Link(proxy.dsn, "test", reply_seconds=1_000.0)
        await link.fetch(NOW)  # a timer is set for it
        held = proxy.hold(statement("clock/now"))
        fetching = asyncio.create_task(link.fetch(NOW))
        await held
        link._watch()  # as if the time of the first were over
        held.release()
        assert await fetching
        await link.close()


async def test_who_gives_up_waiting_does_not_leave_a_reply_for_the_next(database: str) -> None:
    async with Proxy(database) as proxy, asyncio.timeout(GUARD):
        link = Link(proxy.dsn, "test")
        await link.fetch(NOW)
        held = proxy.hold_reply(statement("clock/now"))
        fetching = asyncio.create_task(link.fetch(NOW))
        await held
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        held.release()
        assert await link.fetch(load("workflow/count"), ["completed"], 10) == []
        await link.close()
