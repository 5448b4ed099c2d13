"""Random workflows of every kind of node on PostgreSQL, under a storm of SIGKILLs: they end as if nothing had happened.

The environment variable STORM is the seed of an earlier storm: the same trees, and a storm like it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from durable import Durable, ExecutionFailed, Workflow
from durable.model.failure import Failure
from durable.model.status import Status
from durable.testing import Run, run
from durable.testing.comparison import differences
from durable.testing.laws import faults_of_end
from tests.engine.trees import INPUT, storm_tree
from tests.support.calls import Traces, read_traces, watch_calls
from tests.support.crew import Program
from tests.support.ledger import Ledger

POSTS = 2
IN_FLIGHT = 60
FAR = timedelta(seconds=0.4)  # long enough to give up the slot
LIFE_SECONDS = 2.5  # of a worker, at most
DIE_STARTING = 0.1  # the share of workers that may be killed before they are ready
END_SECONDS = 60  # for all to end, when the storm is over
OPTIONS = {"lease": 1.0, "far": FAR.total_seconds(), "max_crashes": 1_000_000}
ENDS = """
select e.execution_id, e.name, e.status, e.error, case when e.result_seq = 0 then e.input else j.value end as result
  from durable.execution e
  left join durable.journal j on j.execution_id = e.execution_id and j.seq = e.result_seq
 where e.parent_id is null
 order by e.created_at
"""


@dataclass
class Storm:
    """Two posts that are filled again whenever their worker was killed, and streams of executions."""

    dsn: str
    first: int
    trees: list[Workflow[Any, Any]]
    rng: random.Random
    waits: bool
    kills: int = 0
    end_seconds: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    started: dict[str, int] = field(default_factory=dict[str, int])
    errors: set[str] = field(default_factory=set[str])

    async def rage(self, seconds: float) -> None:
        """Start executions and kill workers for so long, then let all end."""
        async with (
            Durable(self.dsn, workflows=self.trees, worker=False) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(POSTS):
                group.create_task(self._post())
            streams = [group.create_task(self._stream(client)) for _ in range(IN_FLIGHT)]
            await asyncio.sleep(seconds)
            self.over.set()
            calm = time.monotonic()
            _, left = await asyncio.wait(streams, timeout=END_SECONDS)
            self.end_seconds = time.monotonic() - calm
            for stream in left:  # the judge will say what has not ended
                stream.cancel()
            self.ended.set()

    async def _stream(self, client: Durable) -> None:
        while not self.over.is_set():
            number = len(self.started)
            index = number % len(self.trees)
            id = f"tree {self.first + index}, number {number}"
            self.started[id] = index
            handle = await client.start(self.trees[index], INPUT, id=id)
            with contextlib.suppress(ExecutionFailed):
                await handle.result()

    async def _post(self) -> None:
        options = json.dumps({**OPTIONS, "waits": self.waits, "seeds": [self.first, self.first + len(self.trees)]})
        async with await Program.start("tests.support.programs.trees", self.dsn, options) as program:
            while not self.ended.is_set():
                await self._live(program)
                self.errors.update(line for line in program.output.splitlines() if line.startswith("err| ERROR"))

    async def _live(self, program: Program) -> None:
        """A worker's life is cut short, or it lives on when the storm is over."""
        pid = (await program.message("born", 60))["pid"]
        may_die_starting = self.rng.random() < DIE_STARTING
        if not may_die_starting:
            await program.message("ready", 60, pid=pid)
        await self._is_over_within(self.rng.uniform(0, LIFE_SECONDS))
        if self.over.is_set():
            await self.ended.wait()
            if may_die_starting:
                await program.message("ready", 60, pid=pid)
            os.kill(pid, signal.SIGTERM)
            assert await program.wait(60) == 0, program.output
        else:
            os.kill(pid, signal.SIGKILL)
            self.kills += 1
            died = await program.message("died", pid=pid)
            assert died["status"] == -signal.SIGKILL, program.output

    async def _is_over_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


async def judge(storm: Storm, ledger: Ledger) -> tuple[list[str], Counter[str]]:
    """What is wrong with what the storm has left, and figures."""
    plain = {index: await run(storm.trees[index], INPUT) for index in sorted({*storm.started.values()})}
    rows = await ledger.connection.fetch(ENDS)
    traces = await read_traces(ledger.connection, [row["execution_id"] for row in rows])
    faults = sorted(storm.errors)
    figures = Counter(kills=storm.kills, executions=len(rows))
    if len(rows) != len(storm.started):
        faults.append(f"{len(storm.started)} executions were started, and there are {len(rows)}")
    for row in rows:
        name, found = row["name"], traces[row["execution_id"]]
        figures.update(
            {row["status"]: 1, "records": len(found.ever), "calls": len(found.calls), "repeats": found.repeats}
        )
        index = storm.started[name]
        faults += (f"{name}: {fault}" for fault in _faults(storm.trees[index], row, found, plain[index]))
    return faults, figures


def _faults(workflow: Workflow[Any, Any], row: Any, traces: Traces, plain: Run) -> list[str]:
    status, definition = Status(row["status"]), workflow.definition
    if not status.ended:
        return [f"it is still {status.value}"]
    failure = None if row["error"] is None else msgspec.json.decode(row["error"], type=Failure)
    got = Run(status, None, row["result"], failure, traces.records, Counter(), 0.0)
    return [
        *dict.fromkeys(traces.faults(definition)),
        *faults_of_end(definition, got.records, got.status),
        *differences(definition, got, plain),
    ]


@pytest.mark.parametrize(
    ("seconds", "trees", "kills_min", "waits"),
    [
        pytest.param(10, 60, 4, False),
        pytest.param(200, 300, 100, True, marks=[pytest.mark.stress, pytest.mark.timeout(480)]),
    ],
)
async def test_random_trees_end_as_if_nothing_had_happened_when_workers_are_killed_again_and_again(
    database: str, ledger: Ledger, seconds: float, trees: int, kills_min: int, waits: bool
) -> None:
    seed = int(os.environ.get("STORM", random.randrange(2**31)))
    rng = random.Random(seed)
    first = rng.randrange(2**31)
    await watch_calls(ledger.connection)
    began = time.monotonic()
    storm = Storm(database, first, [storm_tree(first + index, FAR, waits) for index in range(trees)], rng, waits)
    await storm.rage(seconds)
    faults, figures = await judge(storm, ledger)
    print(
        f"STORM={seed}: {dict(figures)}, the last of them ended {storm.end_seconds:.0f} s after the storm; "
        f"{time.monotonic() - began:.0f} s in all"
    )

    assert not faults, f"STORM={seed}: {len(faults)} faults\n- " + "\n- ".join(faults[:50])
    assert figures["kills"] >= kills_min
    assert figures["repeats"] > 0, "no kill has hit anything"
