"""What the simulated workers run, what is written down while they do, and how each has to end."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import durable
from durable.ids import execution_uuid
from tests.simulation.loop import PROCESS, SimLoop
from tests.simulation.store import Record, Store

ledger_of = SimpleNamespace()  # `current`: that of the scenario which is played


@dataclass
class Ledger:
    """Which bodies ran where and when. *knowingly* tells whether a process is what it believes to be."""

    loop: SimLoop
    store: Store
    rng: random.Random
    knowingly: Callable[[str], bool]
    ids: dict[str, str] = field(default_factory=dict)
    running: dict[tuple[str, str], str] = field(default_factory=dict)  # (execution, path) -> process
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], float] = field(default_factory=dict)
    undone: dict[str, list[str]] = field(default_factory=dict)
    runs: Iterator[int] = field(
        default_factory=lambda: count(1)
    )  # of bodies: each leaves its number in what it returns
    violations: list[str] = field(default_factory=list)

    def begins(self, id: str, path: str) -> None:
        process = PROCESS.get()
        t = self.store.tables
        execution_id = execution_uuid(id)
        self.attempts[id, path] += 1
        self.first.setdefault((id, path), self.loop.time())
        e = t.executions.get(execution_id)
        if e is None:
            self.violations.append(f"{id} {path} runs, but there is no such execution")
            return
        if not self.knowingly(process):
            return
        for (other, at), where in self.running.items():
            if other == id and where != process and self.knowingly(where):
                self.violations.append(f"{id} runs in {process} ({path}) and in {where} ({at})")
        if later := [at for at in "abc" if at > path and (id, at) in self.attempts]:
            self.violations.append(f"{id} {path} runs again in {process}, though {later} had begun after it")
        if any(r.path == path and r.kind == "completed" for r in t.journal.get(execution_id, {}).values()):
            self.violations.append(f"{id} {path} is recorded, and runs again in {process}")
        claim = t.claims.get(execution_id)
        if claim is None and e.ended_at is None and e.undo is None:
            self.violations.append(f"{id} {path} runs in {process} without a claim")

    def check_the_end(self) -> None:
        for execution_id, journal in self.store.tables.journal.items():
            done = Counter(r.path for r in journal.values() if r.kind == "completed")
            for path, times in done.items():
                if times > 1:
                    self.violations.append(f"{execution_id} has {times} results of {path}")
            self._check_chain(execution_id, journal)
        for id, undone in self.undone.items():
            first = list(dict.fromkeys(undone))
            if first != sorted(first, reverse=True):
                self.violations.append(f"{id} was undone in the order {undone}")

    def _check_chain(self, execution_id: UUID, journal: dict[int, Record]) -> None:
        """Each step was given what is recorded of the one before, not what somebody else has made of it."""
        chain: list[int] = []
        for _, record in sorted(journal.items()):
            if record.kind == "completed" and record.value is not None and not record.path.startswith("~"):
                runs = json.loads(record.value).get("runs", chain)
                if runs[: len(chain)] != chain:
                    self.violations.append(f"{execution_id} {record.path} went on from {runs}, but {chain} is recorded")
                chain = runs


async def _body(data: dict[str, Any], path: str, *, flaky: bool = False) -> dict[str, Any]:
    ledger: Ledger = ledger_of.current
    id = durable.context().execution_id
    ledger.begins(id, path)
    key = (id, path)
    ledger.running[key] = PROCESS.get()
    try:
        if data["slow"]:
            await asyncio.sleep(data["slow"] * ledger.rng.random())
        if flaky and ledger.attempts[key] <= data["fails"]:
            raise ValueError("not yet")
        return {**data, "path": [*data.get("path", ()), path], "runs": [*data.get("runs", ()), next(ledger.runs)]}
    finally:
        if ledger.running.get(key) == PROCESS.get():
            del ledger.running[key]


child = durable.Workflow("child")


@child.step
async def a(data: dict) -> dict:
    return await _body(data, "a")


pipeline = durable.Workflow("pipeline")


@pipeline.step(name="a")
async def pipeline_a(data: dict) -> dict:
    return await _body(data, "a")


@pipeline.step(name="b", retry=durable.Retry(10, delay=durable.seconds(0.2)))
async def pipeline_b(data: dict) -> dict:
    return await _body(data, "b", flaky=True)


@pipeline.step(name="c", retry=durable.Retry(10, delay=durable.seconds(8)))
async def pipeline_c(data: dict) -> dict:
    return await _body(data, "c", flaky=True)


sleeps = durable.Workflow("sleeps", timeout=durable.seconds(2_000))


@sleeps.step(name="a")
async def sleeps_a(data: dict) -> dict:
    ledger: Ledger = ledger_of.current
    id = durable.context().execution_id
    began = ledger.first.setdefault((id, "sleep"), ledger.loop.time())
    await durable.sleep(durable.seconds(4))
    if ledger.loop.time() < began + 4:
        ledger.violations.append(f"{id} has woken after {ledger.loop.time() - began:.3f} s of 4")
    return {**data, "path": ["a"]}


@sleeps.step(name="b")
async def sleeps_b(data: dict) -> dict:
    return await _body(data, "b")


listens = durable.Workflow("listens")


@listens.step(name="a")
async def listens_a(data: dict) -> dict:
    first = await durable.wait_for_event("go")
    second = await durable.wait_for_event("go")
    return {**data, "path": [first, second]}


calls = durable.Workflow("calls")


@calls.step(name="a")
async def calls_a(data: dict) -> dict:
    return await _body(data, "a")


@calls.step(name="b")
async def calls_b(data: dict) -> dict:
    inner = await durable.call_workflow(child, {**data, "path": []})
    return {**data, "path": [*data["path"], inner["path"]]}


endless = durable.Workflow("endless")


@endless.step(name="a")
async def endless_a(data: dict) -> dict:
    """Only a cancellation ends it."""
    return await _body({**data, "slow": 1e9}, "a")


undone = durable.Workflow("undone")


async def _undo(path: str) -> None:
    ledger: Ledger = ledger_of.current
    ledger.undone.setdefault(durable.context().execution_id, []).append(path)
    await asyncio.sleep(0)


async def undo_a(data: Any) -> None:
    await _undo("a")


async def undo_b(data: Any) -> None:
    await _undo("b")


@undone.step(name="a", compensate=undo_a)
async def undone_a(data: dict) -> dict:
    return await _body(data, "a")


@undone.step(name="b", compensate=undo_b)
async def undone_b(data: dict) -> dict:
    return await _body(data, "b")


@undone.step(name="c")
async def undone_c(data: dict) -> dict:
    await _body(data, "c")
    raise durable.NonRetryable("never")


def _passed(*path: Any) -> Callable[[dict[str, Any]], tuple[str, Any]]:
    return lambda data: ("completed", {**data, "path": list(path)})


EXPECTED: dict[str, Callable[[dict[str, Any]], tuple[str, Any]]] = {
    "pipeline": _passed("a", "b", "c"),
    "sleeps": _passed("a", "b"),
    "listens": _passed(0, 1),
    "calls": _passed("a", ["a"]),
    "endless": lambda data: ("cancelled", None),
    "undone": lambda data: ("compensated", None),
}
WORKFLOWS = [child, pipeline, sleeps, listens, calls, endless, undone]
