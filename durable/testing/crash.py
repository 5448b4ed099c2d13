"""Stops the world at every write of an execution, goes on from its journal, and compares how it ends.

Each write is stopped at on both sides: before it is durable, and when it is durable but nobody has learned of it. A world
that was stopped may go on to do whatever it likes (its task is cancelled): nothing of that counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from durable.authoring import In, Out, Workflow
from durable.codec import Codec, JsonCodec
from durable.engine.context import Context
from durable.engine.journal import Record
from durable.errors import ClaimLost
from durable.model.definition import Definition
from durable.model.failure import Failure
from durable.testing.memory import CountingRunner, MemoryJournal, Run, Worker

Side: TypeAlias = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Point:
    """A moment to crash at: the *write*-th write (from 1) of a worker, before or after it is durable."""

    write: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} write {self.write} was durable"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A body that ran more than once for the same attempt, and the crashes that made it so."""

    path: str
    attempt: int
    times: int
    crashed: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.path!r} (attempt {self.attempt}) ran {self.times} times: crashed {_spell(self.crashed)}"


@dataclass(slots=True)
class CrashReport:
    """What a `crash_everywhere` saw: the uninterrupted run, the number of crashed ones, and every body that was repeated."""

    uninterrupted: Run
    runs: int = 0
    repeats: list[Repeat] = field(default_factory=list[Repeat])

    def __str__(self) -> str:
        lines = [f"{self.runs} crashed runs ended like the uninterrupted one ({self.uninterrupted.status})"]
        return "\n".join([*lines, *map(str, self.repeats)])


async def crash_everywhere(
    workflow: Workflow[In, Out],
    input: In,
    *,
    second_crashes: int = 100,
    tags: Mapping[str, Any] | None = None,
    crashes: int = 0,
    max_crashes: int = 5,
    codec: Codec | None = None,
) -> CrashReport:
    """Run *workflow* on *input* once, then again with a crash at each of its writes, and with two of them.

    Of the pairs of crashes at most *second_crashes* are tried, evenly spread. Raises `AssertionError`, saying where the
    world was stopped, when a run ends otherwise than the uninterrupted one, when a body runs although its record is
    durable, or when a crash counts as an attempt. Bodies must depend on their data and `context()` alone: what they keep
    in memory is not taken back by a crash.
    """
    definition, codec = workflow.definition, codec or JsonCodec()
    text = codec.encode(input, definition.input_type)

    async def live(*points: Point) -> _Life:
        life = _Life(points, crashes)
        runner = CountingRunner(codec, life.called)
        try:
            await life.live(Worker(definition, text, runner, "memory", tags or {}, max_crashes))
        finally:
            runner.close()
        return life

    plain = await live()
    if plain.faults:
        raise AssertionError(f'workflow "{definition.name}", without any crash:\n- ' + "\n- ".join(plain.faults))
    report = CrashReport(plain.result(definition, codec))
    pairs: list[tuple[Point, Point]] = []
    for first in _points(plain.journal.writes):
        life = await live(first)
        _compare(report, life, definition, codec)
        pairs += [(first, second) for second in _points(life.journal.writes)]
    for first, second in _spread(pairs, second_crashes):
        _compare(report, await live(first, second), definition, codec)
    return report


class _CrashingJournal(MemoryJournal):
    """A journal whose worker dies at *point*. `writes` counts the writes that were begun."""

    def __init__(self, point: Point | None, crashes: int) -> None:
        super().__init__(crashes=crashes)
        self.begin_anew(point)

    def begin_anew(self, point: Point | None) -> None:
        self.point = point
        self.crashed = asyncio.Event()
        self.writes = 0

    async def _write(self, write: Callable[[], None]) -> None:
        if self.crashed.is_set() and self.stopping():
            raise ClaimLost("this worker is dead")
        self.writes += 1
        await self._reach("before")
        await super()._write(write)
        await self._reach("after")

    async def _reach(self, side: Side) -> None:
        if self.crashed.is_set() or self.point == Point(self.writes, side):
            self.crashed.set()
            await asyncio.get_running_loop().create_future()  # for ever: the world has stopped


class _Life:
    """One execution from its start to its end, through the crashes at *points*."""

    def __init__(self, points: Sequence[Point], crashes: int) -> None:
        self.points = tuple(points)
        self.calls: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []
        self.journal = _CrashingJournal(points[0] if points else None, crashes)
        self._called_here: set[tuple[str, int]] = set()

    async def live(self, worker: Worker) -> None:
        for following in (*self.points[1:], None) if self.points else ():
            if not await self._crashes(worker, following):
                return
        await worker.run(self.journal)

    async def _crashes(self, worker: Worker, following: Point | None) -> bool:
        """Work until the crash, and take over; False when the execution ended before it."""
        dying = self.journal
        working = asyncio.create_task(worker.run(dying))
        crash = asyncio.create_task(dying.crashed.wait())
        try:
            await asyncio.wait({working, crash}, return_when=asyncio.FIRST_COMPLETED)
            if not crash.done():
                working.result()
                return False
            # Taken over before the dead one is cleaned away: nothing that it does from here on counts.
            self.journal = dying.taken_over()
            self.journal.begin_anew(following)
            self._called_here = set()
            return True
        finally:
            for task in (working, crash):
                task.cancel()
            await asyncio.wait({working, crash})
            if not working.cancelled():
                working.exception()  # a dead worker's errors are nobody's

    def called(self, context: Context) -> None:
        """A body is about to run."""
        if self.journal.stopping() or self.journal.crashed.is_set():
            return
        key = (context.path, context.attempt)
        self.calls[key] += 1
        known = [record for record in self.journal.records if record.path == context.path]
        body = f"the body of {context.path!r} (attempt {context.attempt})"
        if any(record.kind == "completed" for record in known):
            self.faults.append(f"{body} ran although its result was durable")
        elif any(record.delay is None for record in known):
            self.faults.append(f"{body} ran although its final failure was durable")
        elif context.attempt != len(known) + 1:
            self.faults.append(f"{body} ran after {len(known)} attempts: a crash is not an attempt")
        elif key in self._called_here:
            self.faults.append(f"{body} ran twice in one worker")
        self._called_here.add(key)

    def result(self, definition: Definition, codec: Codec) -> Run:
        calls: Counter[str] = Counter()
        for (path, _), times in self.calls.items():
            calls[path] += times
        return Run.of(self.journal, definition, codec, calls)


def _compare(report: CrashReport, life: _Life, definition: Definition, codec: Codec) -> None:
    run, plain = life.result(definition, codec), report.uninterrupted
    report.runs += 1
    report.repeats += [
        Repeat(path, attempt, times, life.points) for (path, attempt), times in life.calls.items() if times > 1
    ]
    faults = list(life.faults)
    for what, got, wanted in (
        ("status", run.status, plain.status),
        ("result", run.text, plain.text),
        ("failure", _essence(run.failure), _essence(plain.failure)),
        ("records", _recorded(run.records), _recorded(plain.records)),
    ):
        if got != wanted:
            faults.append(f"its {what} is {got!r}, but {wanted!r} when nothing crashes")
    if faults:
        raise AssertionError(
            f'workflow "{definition.name}", crashed {_spell(life.points)}:\n- ' + "\n- ".join(dict.fromkeys(faults))
        )


def _essence(failure: Failure | None) -> tuple[str, str] | None:
    return None if failure is None else (failure.type, failure.message)


def _recorded(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    """What must be the same in every run: not the times, nor the order in which concurrent bodies finished."""
    return sorted(
        (
            record.path,
            record.attempt,
            record.kind,
            record.value or "",
            _essence(msgspec.json.decode(record.error, type=Failure)) if record.error else (),
            record.delay is None,
        )
        for record in records
    )


def _points(writes: int) -> list[Point]:
    return [Point(write, side) for write in range(1, writes + 1) for side in ("before", "after")]


def _spread(pairs: list[tuple[Point, Point]], most: int) -> list[tuple[Point, Point]]:
    if len(pairs) <= most:
        return pairs
    return [pairs[index * len(pairs) // most] for index in range(most)]


def _spell(points: Sequence[Point]) -> str:
    return ", then ".join(map(str, points))
