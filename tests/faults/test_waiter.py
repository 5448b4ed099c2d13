"""A result is found by looking when nobody has told of it: its worker was killed between the commit and the message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from durable import Durable
from durable.ids import execution_uuid, new_token
from durable.runtime.waiter import Waiter
from tests.support.crew import Crew
from tests.support.flows import noop
from tests.support.ledger import Ledger

POLL_SECONDS = 0.5


@contextlib.contextmanager
def _running(work: asyncio.Task[None]) -> Iterator[None]:
    try:
        yield
    finally:
        work.cancel()


async def test_a_lost_message_is_made_up_for_while_others_keep_coming(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    await client.start(noop, {}, id="lost")
    await client.start(noop, {}, id="busy", queue="nobody serves it")
    lost, busy = execution_uuid("lost"), execution_uuid("busy")
    waiter = Waiter(crew.dsn, new_token(), lambda _: False, lambda: POLL_SECONDS)  # without a listener, nothing is told

    async def chatter() -> None:
        while True:
            waiter.told(busy)
            await asyncio.sleep(POLL_SECONDS / 10)

    with _running(asyncio.create_task(waiter.run())), _running(asyncio.create_task(chatter())):
        waiting = asyncio.create_task(waiter.wait(lost))
        others = asyncio.create_task(waiter.wait(busy))
        async with asyncio.timeout(30):
            while not await ledger.connection.fetchval(  # noqa: ASYNC110 - another process writes it
                "select watchers is not null from durable.execution where execution_id = $1", lost
            ):
                await asyncio.sleep(0.01)
        with _running(others):
            await crew.start()
            await client.handle("lost").result(30)
            async with asyncio.timeout(20):
                assert (await waiting).status == "completed"
