"""What holds in every run, whatever crashes: judged by the journal alone, when a body is about to run and when all has ended.

A recorded result is not computed again, a crash is not an attempt, what is over is not entered again; compensations run for
what is recorded, the last completed first, and the status says how they went.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from durable.engine.context import Context
from durable.engine.journal import Record
from durable.model.definition import Definition, Foreach, Parallel, Step
from durable.model.paths import compensation_path, node_at, outer_paths
from durable.model.status import Status


def faults_of_call(definition: Definition, records: Sequence[Record], context: Context) -> Iterator[str]:
    """What is wrong with calling the body of *context* now that *records* are durable."""
    path = context.path
    body = f"the body of {path!r} (attempt {context.attempt})"
    known = [record for record in records if record.path == path and record.kind in ("completed", "failed")]
    if any(record.kind == "completed" for record in known):
        yield f"{body} ran although its result was durable"
    elif any(record.delay is None for record in known):
        yield f"{body} ran although its final failure was durable"
    elif context.attempt != len(known) + 1:
        yield f"{body} ran after {len(known)} attempts: a crash is not an attempt"
    ending = any(record.kind == "failing" for record in records)
    last = definition.on_failure
    if last is not None and path == last.name:
        undone = None
    elif (undone := _undone_by(definition, path)) is None:
        if ending:
            yield f"{body} ran although the execution was being ended"
        yield from _entered_again(records, path, body)
        return
    if not ending:
        yield f"{body} ran although the execution had not failed"
    order = _to_undo(definition, records)
    if undone is not None and undone not in order:
        yield f"{body} ran although {undone!r} was neither completed nor begun"
        return
    for step in order if undone is None else order[: order.index(undone)]:
        if _settled(definition, records, step) is None:
            yield f"{body} ran before {step!r} was undone"


def faults_of_end(definition: Definition, records: Sequence[Record], status: Status) -> Iterator[str]:
    """What is wrong with an execution that has ended with *records* and *status*."""
    holding = {record.seq for record in records if record.value is not None}
    for record in records:
        if record.data_seq and record.data_seq not in holding:
            yield f"the data to undo {record.path!r} with, in record {record.data_seq}, is not there any more"
    order = _to_undo(definition, records)
    settled = [_settled(definition, records, step) for step in order]
    ending = any(record.kind == "failing" for record in records)
    if not ending:
        if any(settled) or status not in (Status.COMPLETED, Status.FAILED):
            yield f"it is {status.value}, and no record says that it is to be ended"
        if order and status is not Status.COMPLETED:
            yield f"{order} had to be undone, and no record says so"
        return
    yield from (f"{step!r} was not undone" for step, record in zip(order, settled, strict=True) if record is None)
    numbers = [record.seq for record in settled if record is not None]
    if numbers != sorted(numbers):
        yield f"{order} were not undone in this order, but in that of {numbers}"
    failed = any(record is not None and record.kind == "failed" for record in settled)
    wanted = Status.COMPENSATION_FAILED if failed else Status.COMPENSATED if order else Status.FAILED
    if status is not wanted:
        yield f"it is {status.value}, but its journal says {wanted.value}"


def is_beside_others(definition: Definition, path: str) -> bool:
    """Whether what stands at *path* may run at the same time as something else."""
    return any(is_concurrent(definition, outer) for outer in outer_paths(path))


def is_concurrent(definition: Definition, path: str) -> bool:
    """Whether the node at *path* runs several things at once."""
    match node_at(definition, path):
        case Parallel(arms=arms):
            return len(arms) > 1
        case Foreach(concurrency=concurrency):
            return concurrency > 1
        case _:
            return False


def _entered_again(records: Sequence[Record], path: str, body: str) -> Iterator[str]:
    outer = set(outer_paths(path))
    latest = {record.path: record.attempt for record in records if record.kind == "iterated"}  # others may be pinned
    for record in records:
        if record.path not in outer:
            continue
        if record.kind == "completed" or (record.kind == "failed" and record.delay is None):
            yield f"{body} ran although {record.path!r} was over"
        elif record.kind == "iterated" and record.attempt == latest[record.path]:
            index = path[len(record.path) + 1 :].partition("]")[0]
            if int(index) != record.attempt:
                yield f"{body} ran although {record.attempt} iterations of {record.path!r} were over"
        elif record.kind == "chosen" and not path.startswith(f"{record.path}/{record.target}/"):
            yield f"{body} ran although {record.path!r} had chosen {record.target!r}"


def _undone_by(definition: Definition, path: str) -> str | None:
    """The path of the step that the one at *path* undoes, if it is a compensation."""
    outer = path.rpartition("/")[0]
    return outer if outer and isinstance(node_at(definition, outer), Step) else None


def _to_undo(definition: Definition, records: Sequence[Record]) -> list[str]:
    """The steps that have to be undone, in this order: those begun and not completed, then the last completed first."""
    ranks: dict[str, tuple[bool, int]] = {}
    for record in records:
        if record.kind in ("completed", "started"):
            node = node_at(definition, record.path)
            if isinstance(node, Step) and node.compensation is not None:
                rank = (record.kind == "started", record.seq)
                ranks[record.path] = min(rank, ranks.get(record.path, rank))
    return sorted(ranks, key=lambda path: ranks[path], reverse=True)


def _settled(definition: Definition, records: Sequence[Record], path: str) -> Record | None:
    """How undoing the step at *path* went."""
    step = node_at(definition, path)
    assert isinstance(step, Step)
    undo = compensation_path(path, step)
    for record in records:
        if record.path == undo and record.key is None and (record.kind == "completed" or record.delay is None):
            return record
    return None
