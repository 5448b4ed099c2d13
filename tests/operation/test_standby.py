"""The primary dies and a standby is promoted: executions go on there. With synchronous replication nothing is lost."""

from __future__ import annotations

import asyncio
import sys

import pytest

from durable import Durable, UnknownExecution
from tests.support import flows
from tests.support.crew import Crew
from tests.support.flows import noop, threaded
from tests.support.invariants import assert_invariants
from tests.support.ledger import Ledger
from tests.support.pair import pair

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it finds the server's processes in /proc"),
]


@pytest.mark.parametrize("synchronous", [True, False])
async def test_a_promoted_standby_goes_on_where_the_primary_was(synchronous: bool) -> None:
    acknowledged: list[str] = []
    lost: list[str] = []
    async with pair(synchronous=synchronous) as servers:
        async with (
            Durable(servers.dsn, workflows=[flows], worker=False) as client,
            Ledger(servers.dsn),
            Crew(servers.dsn) as crew,
        ):
            await crew.start_two(lease=2.0)
            over = asyncio.Event()

            async def start(stream: int) -> None:
                number = 0
                while not over.is_set():
                    number += 1
                    id = f"{stream}-{number}"
                    flow, data = (threaded, {"hold": 0.02}) if number % 5 == 0 else (noop, {})
                    await client.start(flow, data, id=id)
                    acknowledged.append(id)

            async def reached(count: int) -> None:
                while len(acknowledged) < count:  # noqa: ASYNC110 - eight tasks count
                    await asyncio.sleep(0.05)

            async with asyncio.TaskGroup() as group:
                for stream in range(8):
                    group.create_task(start(stream))
                await reached(500)
                apart = len(acknowledged)
                if not synchronous:  # what the standby has not got when the primary dies
                    servers.part()
                    await reached(apart + 100)
                await servers.crash_primary()
                before = len(acknowledged)
                await servers.promote()
                await reached(before + 500)
                over.set()
            for id in acknowledged:
                try:
                    await client.handle(id).result(60)
                except UnknownExecution:
                    lost.append(id)
            print(f"{len(acknowledged)} acknowledged, {before} of them before the crash; {len(lost)} lost: {lost[:10]}")
        await assert_invariants(servers.dsn)
    if synchronous:
        assert not lost
    else:
        # Those that were on their way when it was parted may have got through.
        assert 0 < len(lost) <= before - apart + 8
        assert set(lost) <= set(acknowledged[apart - 8 : before + 8])
