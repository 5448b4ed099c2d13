"""Events, answers and ends of children at random moments around their waits, with latency at every statement, workers killed in
between: each that was acknowledged is consumed exactly once, and no execution hangs.

The environment variable STORM is the seed of an earlier storm: the same moments, as far as they can be the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from typing import Any

import pytest

from durable import Durable, ExecutionEnded, NoPendingInput
from tests.support import flows
from tests.support.crew import Crew
from tests.support.flows import CHILDREN, EVENTS, INPUTS, listening
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy

LATENCY = 0.05  # seconds at most, at every statement
SPREAD = 0.6  # seconds over which the events of one execution are sent, about as long as it takes
LEASE = 1.5
LIFE = 2.0  # seconds at most between two kills
LONG_LIFE = 6.0  # in the long storm: who is to find others dead has to live for longer than a lease
HANGS = 600  # seconds: with so many in flight, and workers that live for some seconds, each takes its time


class Storm:
    """Streams of executions with their senders, two workers, and somebody who kills one of them now and then."""

    def __init__(self, dsn: str, executions: int, in_flight: int, life: float, rng: random.Random) -> None:
        self.dsn = dsn
        self.life = life
        self.rng = rng
        self.in_flight = in_flight
        self.numbers = iter(range(executions))
        self.kills = 0
        self.faults: list[str] = []

    async def rage(self) -> None:
        async with (
            Proxy(self.dsn, own_thread=True) as proxy,
            Durable(proxy.dsn, workflows=[flows], worker=False) as client,
            Crew(proxy.dsn) as crew,
        ):
            proxy.delay = lambda: self.rng.uniform(0, LATENCY)
            killer = asyncio.create_task(self._kill(crew))
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.in_flight):
                        group.create_task(self._stream(client))
            finally:
                killer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await killer

    async def _kill(self, crew: Crew) -> None:
        workers = list(await crew.start_two(lease=LEASE, max_crashes=1_000_000, ledger_dsn=self.dsn))
        while True:
            await asyncio.sleep(self.rng.uniform(0, self.life))
            victim = self.rng.randrange(2)
            workers[victim].kill()
            self.kills += 1
            workers[victim] = await crew.start(lease=LEASE, max_crashes=1_000_000, ledger_dsn=self.dsn)

    async def _stream(self, client: Durable) -> None:
        for number in self.numbers:
            id = f"listener {number}"
            handle = await client.start(listening, {}, id=id)
            sending = [asyncio.create_task(self._send(client, id, name)) for name in EVENTS]
            sending += [asyncio.create_task(self._answer(client, id, name)) for name in INPUTS]
            try:
                result = await handle.result(HANGS)
            except TimeoutError:
                seen = await client.get_execution(id, include_steps=True)
                self.faults.append(f"{id} hangs: {seen.status.value}, waits for {seen.waits_for}")
                continue
            finally:
                await asyncio.gather(*sending)
            expected: dict[str, Any] = {name: f"{id}: {name}" for name in (*EVENTS, *INPUTS)}
            expected |= {"never": "nothing", "nobody": None, "late": True}
            expected["children"] = [f"child {name}" for name in CHILDREN]
            if result != expected:
                self.faults.append(f"{id} has heard {result}")

    async def _send(self, client: Durable, id: str, name: str) -> None:
        await asyncio.sleep(self.rng.uniform(0, SPREAD))
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            await client.send_event(id, name, f"{id}: {name}", dedupe_key="once")

    async def _answer(self, client: Durable, id: str, name: str) -> None:
        await asyncio.sleep(self.rng.uniform(0, SPREAD))
        with contextlib.suppress(ExecutionEnded):  # the other one's answer was taken
            while True:
                try:
                    await client.provide_input(id, name, f"{id}: {name}", by="storm")
                except NoPendingInput:
                    await asyncio.sleep(self.rng.uniform(0.1, 0.3))
                else:
                    return


@pytest.mark.parametrize(
    ("executions", "in_flight", "life", "kills_min"),
    [
        pytest.param(60, 40, LIFE, 1, marks=pytest.mark.timeout(HANGS + 60)),
        pytest.param(5_000, 150, LONG_LIFE, 20, marks=[pytest.mark.stress, pytest.mark.timeout(3_600)]),
    ],
)
async def test_every_event_is_consumed_exactly_once_and_nobody_hangs(
    database: str, ledger: Ledger, executions: int, in_flight: int, life: float, kills_min: int
) -> None:
    seed = int(os.environ.get("STORM", random.randrange(2**31)))
    storm = Storm(database, executions, in_flight, life, random.Random(seed))
    began = time.monotonic()
    await storm.rage()
    print(f"STORM={seed}: {executions} executions, {storm.kills} kills, {time.monotonic() - began:.0f} s")

    assert not storm.faults, f"STORM={seed}: {len(storm.faults)} faults\n- " + "\n- ".join(storm.faults[:20])
    sums: Any = await ledger.connection.fetchrow(
        "select count(*) as sent, count(consumed_by) as consumed from durable.message where topic !~ '^child:'"
    )
    answers = await ledger.connection.fetchval(
        "select sum(json_array_length(value)) from durable.journal where kind = 'answered' and key !~ '^child:'"
    )
    born: Any = await ledger.connection.fetchval("select count(*) from durable.execution where parent_id is not null")
    assert born == executions * (len(CHILDREN) + 1), "each child was born once"
    assert (sums["sent"], sums["consumed"], answers) == (executions * (len(EVENTS) + len(INPUTS)),) * 3
    asked: Any = await ledger.connection.fetch(
        "select status, count(*) from durable.input group by status order by status"
    )
    assert [tuple(row) for row in asked] == [("answered", executions * len(INPUTS)), ("expired", executions)]
    assert storm.kills >= kills_min
