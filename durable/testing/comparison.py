"""How two runs of one workflow may differ, one of which was crashed.

They may not, but for what is decided by chance: when something inside a node that runs several things at once has failed, how
far the others had come by then, and which of several failures was the first. And of a failure that ended a whole node the
record of the node is enough.

An iteration that is over keeps what may have to be undone and the data for it, but not what has failed: how far the others had
come shows there longer than why they came no further.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from durable.engine.journal import Record
from durable.model.definition import Definition, Foreach, Parallel
from durable.model.failure import Failure
from durable.model.paths import node_at, outer_paths
from durable.testing.laws import is_concurrent
from durable.testing.memory import Run

Essence: TypeAlias = tuple[str, str]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TOO_MANY = "durable.errors.TooManyFailures"
GOTO_REFUSED = "durable.errors.GotoRefused"


def differences(definition: Definition, run: Run, plain: Run) -> Iterator[str]:
    """In what *run*, which was crashed, differs from *plain*, which was not."""
    raced = raced_at(definition, [*plain.dropped, *plain.records])
    passed_over = {record.path for record in plain.dropped}
    reasons = [path for path in raced if path not in passed_over]
    got, wanted = _Told(run, raced, reasons), _Told(plain, raced, reasons)
    for what, is_, should in (("result", run.text, plain.text), ("failure", got.failure, wanted.failure)):
        if is_ != should:
            yield f"its {what} is {is_!r}, but {should!r} when nothing crashes"
    if not (got.undone_by_chance or wanted.undone_by_chance):  # else there may be nothing to undo
        got.records += got.ending
        wanted.records += wanted.ending
        if run.status is not plain.status:
            yield f"its status is {run.status.value!r}, but {plain.status.value!r} when nothing crashes"
    too_many = got.records - wanted.records - got.kept_by_chance
    too_few = wanted.records - got.records - wanted.told_by_others - wanted.kept_by_chance
    if too_many or too_few:
        yield f"its records are not the same: {sorted(too_many.elements())} instead of {sorted(too_few.elements())}"


def raced_at(definition: Definition, records: Sequence[Record]) -> list[str]:
    """The outermost nodes that ran several things at once and were ended by the failure of one of them."""
    failed = {record.path: _essence(record.failure) for record in records if _is_final(record)}
    raced = [
        path
        for path, essence in failed.items()
        if _ends_siblings(definition, path)
        and (
            essence[0] in (GOTO_REFUSED, TOO_MANY)  # a refused Goto has no record of its own
            or any(_inside(other, path) and _ends(failed[other], essence) for other in failed)
        )
    ]
    return [path for path in raced if not any(_inside(path, outer) for outer in raced)]


class _Told:
    """What a run has to tell, but for what was decided by chance. `ending` are the records that it was to be ended,
    `told_by_others` those that say no more than others, `kept_by_chance` those that hold the data of what was begun by chance:
    where it was not, an iteration that is over has dropped them. *reasons* are those *raced* that may be why others failed."""

    def __init__(self, run: Run, raced: Sequence[str], reasons: Sequence[str]) -> None:
        failed = {record.path: _essence(record.failure) for record in [*run.dropped, *run.records] if _is_final(record)}
        self._names = {_told_for(path, failed): f"that of {path!r}" for path in reasons}
        self.failure = None if run.failure is None else self._name(run.failure)
        by_chance = {r.seq for r in run.records if any(_inside(r.path, path) for path in raced)}
        certain = [record for record in run.records if record.seq not in by_chance and not _is_glance(record)]
        began = next((record.seq for record in run.records if record.kind == "failing"), math.inf)
        self.undone_by_chance = any(seq > began for seq in by_chance)
        self.records = Counter(self._essentials(record) for record in certain if record.kind != "failing")
        self.ending = Counter(self._essentials(record) for record in certain if record.kind == "failing")
        pinned = {record.data_seq for record in run.records if record.seq in by_chance}
        self.kept_by_chance = Counter(self._essentials(record) for record in certain if record.seq in pinned)
        self.told_by_others = Counter(
            self._essentials(record)
            for record in certain
            if _is_final(record)
            and any(_ends(failed[record.path], failed[outer]) for outer in outer_paths(record.path) if outer in failed)
        )

    def _name(self, failure: Failure) -> Any:
        essence = _essence(failure)
        if self._names and essence[0] == TOO_MANY and essence not in self._names:
            return TOO_MANY, essence[1].partition(". The last one")[0]
        return self._names.get(essence, essence)

    def _essentials(self, record: Record) -> tuple[Any, ...]:
        """Not the times, nor the order in which concurrent bodies finished."""
        failure = str(self._name(record.failure)) if record.error else ""
        value, target, key = record.value or "", record.target or "", record.key or ""
        if key:  # ids of children derive from that of the execution
            value, key = _UUID.sub("<id>", value), _UUID.sub("<id>", key)
        return (
            record.path,
            key,
            record.attempt,
            record.kind,
            value,
            target,
            failure,
            record.delay is None,
        )


def _is_glance(record: Record) -> bool:
    """Whether it says that a child had not ended when somebody asked: that is chance."""
    return record.kind == "waiting" and (record.key or "").startswith("result:")


def _told_for(path: str, failed: Mapping[str, Essence]) -> Essence | None:
    """How the failure of *path* is recorded: by itself, or by what it has ended, where its own record was lost in a crash. A
    foreach that had too many of them has another failure."""
    if path in failed:
        return failed[path]
    outer = next((failed[place] for place in reversed([*outer_paths(path)]) if place in failed), None)
    return None if outer is None or outer[0] == TOO_MANY else outer


def _ends_siblings(definition: Definition, path: str) -> bool:
    """Whether a failure of something inside the node at *path* ends what runs beside it."""
    node = node_at(definition, path)
    patient = isinstance(node, Parallel | Foreach) and node.on_error != "fail_fast"
    if isinstance(node, Foreach) and node.tolerate is not None:
        patient = False
    return not patient and is_concurrent(definition, path)


def _is_final(record: Record) -> bool:
    return record.kind == "failed" and record.delay is None


def _inside(path: str, outer: str) -> bool:
    return path.startswith((f"{outer}/", f"{outer}["))


def _ends(inner: Essence, outer: Essence) -> bool:
    """Whether the failure *inner* is why a node failed with *outer*."""
    return inner == outer or outer[0] == TOO_MANY


def _essence(failure: Failure) -> Essence:
    return failure.type, failure.message
