"""Judges what a storm has left: the history by its laws, and each execution by the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec

from durable.engine.journal import Record
from durable.model.definition import Definition, Step
from durable.model.failure import Failure
from durable.model.paths import node_at
from durable.model.status import Status
from durable.testing.laws import faults_of_end
from tests.engine.trees import POSTSCRIPT
from tests.storm import checker, history, oracle
from tests.storm.driver import Storm
from tests.storm.history import read_bodies
from tests.storm.oracle import Expected
from tests.storm.program import Start
from tests.support.calls import Call, Traces, read_traces
from tests.support.invariants import assert_invariants

AFTER_FREEZE = 1.0  # seconds in which a process that was frozen may find out that it has lost what it ran
ENDS = """
select e.execution_id, e.name, e.status, e.error, case when e.result_seq = 0 then e.input else j.value end as result,
       (select count(*) from durable.execution c where c.parent_id = e.execution_id) as children
  from durable.execution e
  left join durable.journal j on j.execution_id = e.execution_id and j.seq = e.result_seq
 order by e.created_at
"""


async def judge(storm: Storm) -> list[str]:
    """What is wrong. Adds to the figures of the storm."""
    faults = [*storm.problems]
    async with storm.direct() as connection:
        kept = await history.read(connection)
        kept.bodies = read_bodies(storm.bodies, storm.deaths)
        kept.frozen, kept.acked = storm.frozen, storm.acked
        faults += checker.faults(kept)
        faults += await _ends(storm, connection, Counter((paid.execution, paid.path) for paid in kept.paid))
    try:
        await assert_invariants(storm.dsn)
    except AssertionError as broken:
        faults.append(str(broken))
    storm.figures["bodies"] = len(kept.bodies)
    storm.figures["paid"] = len(kept.paid)
    storm.figures["firings"] = len(kept.instants)
    storm.figures["acknowledged"] = len(kept.acked)
    return faults


async def _ends(storm: Storm, connection: asyncpg.Connection[Any], paid: Counter[tuple[str, str]]) -> list[str]:
    rows = await connection.fetch(ENDS)
    traces = await read_traces(connection, [row["execution_id"] for row in rows])
    starts = {start.id: start for start in storm.starts}
    cancelled = {acked.execution for acked in storm.acked if acked.kind == "cancel"}
    faults: list[str] = []
    for row in rows:
        storm.figures["executions"] += 1
        storm.figures[f"ended {row['status']}"] += 1
        found = traces[row["execution_id"]]
        storm.figures["steps"] += sum(record.kind == "completed" for record in found.ever)
        start = starts.get(row["name"] or "")
        if start is None:  # a child, or a firing
            if not Status(row["status"]).ended:
                faults.append(f"{row['name'] or row['execution_id']} is still {row['status']}")
            continue
        expected = storm.expected[start.id]
        found = replace(
            found, calls=[call for call in found.calls if not _is_excused(storm, call)], all_calls=found.calls
        )
        definition = storm.workflows[start.index].definition
        wrong = [*faults_of_start(start, start.id in cancelled, definition, row, found, expected)]
        wrong += unpaid(definition, str(row["execution_id"]), found.ever, paid)
        if wrong:
            story = storm.folder / f"{start.id}.txt"
            story.write_text(
                "\n".join([f"{start} {definition.name}", *wrong, *map(str, found.ever), *map(str, found.calls)])
            )
            faults += (f"{start.id} ({definition.name}): {fault}" for fault in wrong)
            faults += (f"{start.id}: {reason}" for reason in _unplanned(found.ever))
            faults.append(f"{start.id}: all that is known of it is in {story}")
    return faults


def _unplanned(ever: list[Record]) -> Iterator[str]:
    """The errors of bodies that were not drawn, by which a fault of the storm itself is known."""
    for record in ever:
        if record.kind == "failed" and (failure := record.failure).type != "builtins.ValueError":
            yield f"{record.path!r} has failed: {failure.type} {failure.message}\n{failure.traceback[-2000:]}"


def _is_excused(storm: Storm, call: Call) -> bool:
    """Whether a process began it that may not have known what it had lost: it was frozen, or wrote it down late."""
    return call.tries > 1 or any(
        pid == call.pid and began <= call.at <= ended + AFTER_FREEZE for pid, began, ended in storm.frozen_at
    )


def faults_of(definition: Definition, row: Any, traces: Traces, expected: Expected) -> Iterator[str]:
    """What is wrong with how an execution has ended: with the *row* of it, and its *traces*."""
    status = Status(row["status"])
    if not status.ended:
        yield f"it is still {status.value}"
        return
    failure = None if row["error"] is None else msgspec.json.decode(row["error"], type=Failure)
    reason = None if failure is None else (failure.type.rpartition(".")[2], failure.message)
    result = None if row["result"] is None else msgspec.json.decode(row["result"])
    yield from oracle.differences(expected, status.value, result, reason)
    yield from dict.fromkeys(traces.faults(definition, until_death=False))
    yield from faults_of_end(definition, traces.records, status)
    yield from tries(expected, traces)
    yield from answers(expected, traces.ever)
    if not expected.raced and row["children"] != expected.children:
        yield f"it has begun {row['children']} children, and was to begin {expected.children}"


def faults_of_start(
    start: Start, cancelled: bool, definition: Definition, row: Any, traces: Traces, expected: Expected
) -> Iterator[str]:
    """What is wrong with how an execution has ended that may have been *cancelled*: so that a call has said so."""
    if start.cancel_after is not None and is_cancelled(row):
        yield from faults_of_cancelled(definition, row, traces, undo=start.undo)
        return
    yield from faults_of(definition, row, traces, expected)
    if cancelled and (not start.undo or row["status"] == Status.COMPLETED):  # else it has failed at the same moment
        yield f"it was cancelled, and is {row['status']}"


def unpaid(definition: Definition, execution: str, ever: list[Record], paid: Counter[tuple[str, str]]) -> Iterator[str]:
    """Law 1: each transactional step that has a result has written what it writes. *paid* counts that."""
    for record in ever:
        if record.kind != "completed" or record.key is not None:
            continue
        node = node_at(definition, record.path)
        if isinstance(node, Step) and node.transactional and paid[execution, record.path] != 1:
            yield f"{record.path!r} has a result, and was paid {paid[execution, record.path]} times"


def is_cancelled(row: Any) -> bool:
    """Whether an execution has ended, or is ending, because somebody has cancelled it."""
    return row["status"] == Status.CANCELLED or '"durable.errors.ExecutionCancelled"' in (row["error"] or "")


def faults_of_cancelled(definition: Definition, row: Any, traces: Traces, *, undo: bool) -> Iterator[str]:
    """What is wrong with how an execution has ended that was cancelled at some moment, to be undone or not."""
    status = Status(row["status"])
    if not status.ended:
        yield f"it was cancelled, and is still {status.value}"
        return
    yield from dict.fromkeys(traces.faults(definition, until_death=False))
    if status is Status.CANCELLED:
        ending = [record.path for record in traces.ever if record.kind == "failing"]
        if ending or (undo and any(undoable(definition, record) for record in traces.ever)):
            yield "it is cancelled, and what had to be undone was not, or not to its end"
    elif not undo:
        yield f"it was cancelled, not to be undone, and is {status.value}"
    else:
        yield from faults_of_end(definition, traces.records, status)


def undoable(definition: Definition, record: Record) -> bool:
    """Whether a record is of a step that is to be undone."""
    node = node_at(definition, record.path) if record.kind in ("completed", "started") and record.key is None else None
    return isinstance(node, Step) and node.compensation is not None


def tries(expected: Expected, traces: Traces) -> Iterator[str]:
    """Law 1: each step has one result, after as many tries as were drawn; each try was made, and nothing else was."""
    ends = Counter(r.path for r in traces.ever if _is_result(r))
    recorded = Counter(r.path for r in traces.ever if r.kind in ("completed", "failed") and r.attempt)
    called = {(call.path, call.attempt) for call in traces.all_calls}
    for path, wanted in expected.attempts.items():
        if not expected.is_certain(path):
            continue
        # The last step of an iteration may leave its result in the record of the iteration alone.
        absent = ends[path] == 0 and expected.is_repeated(path)
        if ends[path] != 1 and not absent:
            yield f"{path!r} has {ends[path]} results"
        if recorded[path] != wanted - absent:
            yield f"{path!r} has records of {recorded[path]} tries instead of {wanted}"
        missing = [attempt for attempt in range(1, wanted + 1) if (path, attempt) not in called]
        if missing:
            yield f"{path!r} has left no effect of its tries {missing}"
    for path in sorted({path for path, _ in called} - {POSTSCRIPT}):
        if path not in expected.attempts and expected.is_certain(path):
            yield f"{path!r} was run, and was not to be"


def answers(expected: Expected, ever: list[Record]) -> Iterator[str]:
    """Law 3: what comes from outside reaches who waits for it, once."""
    given = Counter[str]()
    for record in ever:
        if record.kind == "answered":
            given.update(topic for topic, _ in msgspec.json.decode(record.value or "[]"))
    by_input = Counter[str]()
    for topic, times in given.items():
        kind, _, name = topic.partition(":")
        by_input[f"input:{name.partition(':')[2]}" if kind == "input" else topic] += times
    for (kind, name), path in expected.awaited.items():
        times = by_input[f"{kind}:{name}"]
        if times > 1 or (times == 0 and kind != "emission" and expected.is_certain(path)):
            yield f"{kind} {name!r} was given {times} times"


def _is_result(record: Record) -> bool:
    return record.key is None and (record.kind == "completed" or (record.kind == "failed" and record.delay is None))
