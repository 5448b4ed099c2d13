"""How an execution ends that does not complete: what has to be undone is undone, then the author's `on_failure` is run.

Why it ends is recorded before anything of that begins. From then on nothing else is done: neither a deadline nor a cancel
stops it, and whoever takes it over goes on with it. Compensations run one after the other, the step completed last first; those
that were begun and not completed come before all others. One that fails does not stop the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from durable.engine.journal import ENDING_PATH, Blocked, Failed, Outcome, Past, Record, Value
from durable.engine.strands import NodeFailed
from durable.errors import DeadlineExceeded
from durable.model.definition import Definition, Step
from durable.model.failure import Failure
from durable.model.paths import compensation_path, node_at
from durable.model.status import Status

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter

CANCELLED = "durable.errors.ExecutionCancelled"

_encode = msgspec.json.Encoder().encode


def deadline_failure(definition: Definition) -> Failure:
    """Why an execution ends that did not end in time."""
    limit = definition.timeout
    return Failure.of(DeadlineExceeded(f"the execution did not end within its workflow's timeout of {limit}"))


def cancellation(reason: str) -> Failure:
    """Why an execution ends that was cancelled and is to be undone."""
    return Failure(CANCELLED, reason or "it was cancelled, to be undone")


async def begin(run: Interpreter, failure: Failure, records: list[Record], *, cancelled: str | None = None) -> Outcome:
    """End the execution because of *failure*; *records* say so, the innermost first. *cancelled* is the reason of a cancel."""
    pending, run.root.pending = run.root.pending, []
    records = [*pending, *records]
    failing = run.subject.history.failing
    if failing is not None:  # it has failed at the same moment, and what was recorded first stands
        await run.write(run.root, *reversed(records))
        return await go_on(run, failing.failure)
    undone = any(True for _ in _undoable(run))
    if not undone and (cancelled is not None or run.definition.on_failure is None):
        await run.write(run.root, *reversed(records[1:]))
        status = Status.FAILED if cancelled is None else Status.CANCELLED
        return Failed(failure, records[0] if records else None, status, cancelled)
    await run.write(run.root, *reversed(records))
    text = _encode(failure).decode()
    await run.write(run.root, Record(run.subject.history.take_seq(), ENDING_PATH, "failing", error=text))
    return await go_on(run, failure)


async def go_on(run: Interpreter, failure: Failure) -> Outcome:
    """Do what is left to be done of the ending."""
    run.failure = failure
    status = Status.FAILED
    for path, step, value in to_undo(run):
        done = await _undo(run, path, step, value)
        if isinstance(done, Blocked):
            return done
        if not done:
            status = Status.COMPENSATION_FAILED
        elif status is Status.FAILED:
            status = Status.COMPENSATED
    last = run.definition.on_failure
    if last is not None:
        done = await _undo(run, _begun_last(run) or last.name, last, run.input())
        if isinstance(done, Blocked):
            return done
    return Failed(failure, status=status)


async def _undo(run: Interpreter, path: str, step: Step, value: Value) -> bool | Blocked:
    """Run one of the steps of an ending; whether it succeeded."""
    try:
        done = await run.step(step, path, value, run.root, hold=False)
    except NodeFailed as failed:
        await run.write(run.root, *reversed(failed.records))
        return False
    return done if isinstance(done, Blocked) else True


def _begun_last(run: Interpreter) -> str | None:
    """Where the step of `on_failure` is recorded, if it was begun. It may have had another name then."""
    history = run.subject.history
    if history.failing is None:
        return None
    for path, past in history.by_path.items():
        # A step of the flow has records from before, also where a wait of it is taken back now.
        if "/" not in path and all(record.seq > history.failing.seq for record in past.records()):
            return path
    return None


def _undoable(run: Interpreter) -> Iterator[tuple[str, Step, Past]]:
    """The steps that were completed, or begun where that is enough, and have a compensation."""
    for path, past in run.subject.history.by_path.items():
        if past.completed is not None or past.note is not None:
            node = node_at(run.definition, path)
            if isinstance(node, Step) and node.compensation is not None:
                yield path, node, past


def to_undo(run: Interpreter) -> list[tuple[str, Step, Value]]:
    """The compensations in their order: path, step and data."""
    history = run.subject.history
    # Inside a step there is only its compensation. One that was begun goes on where it is recorded, whatever its name is now.
    begun = {path.rpartition("/")[0]: path for path in history.by_path}
    found: list[tuple[bool, int, str, Step, Value]] = []
    for path, step, past in _undoable(run):
        record = past.completed or past.note
        assert record is not None
        assert step.compensation is not None
        if record.value is not None:
            value = Value(record.value, record.seq)
        else:
            seq = record.data_seq or 0
            value = Value(history.pinned[seq] if seq else run.subject.input, seq)
        place = begun.get(path) or compensation_path(path, step)
        found.append((past.completed is None, record.seq, place, step.compensation, value))
    found.sort(key=lambda undo: undo[:2], reverse=True)
    return [undo[2:] for undo in found]
