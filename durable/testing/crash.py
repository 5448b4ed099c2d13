"""Stops the world at every write of an execution, goes on from its journal, and compares how it ends.

Each write is stopped at on both sides: before it is durable, and when it is durable but nobody has learned of it. A world
that was stopped may go on to do whatever it likes (its task is cancelled): nothing of that counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from durable.authoring import In, Out, Workflow
from durable.codec import Codec, JsonCodec
from durable.engine.context import Context
from durable.engine.step_runner import StepRunner
from durable.errors import ClaimLost, UsageError
from durable.model.definition import Definition, Step
from durable.model.paths import node_at
from durable.model.paths import plain as without_indices
from durable.testing.comparison import differences
from durable.testing.keys import WatchingRunner
from durable.testing.laws import faults_of_call, faults_of_end, is_beside_others
from durable.testing.memory import MemoryJournal, Outside, Run, Worker, send_all
from durable.testing.mocks import Mocks, mocked
from durable.testing.report import CrashReport, Point, Repeat, spelled

T = TypeVar("T")


async def crash_everywhere(
    workflow: Workflow[In, Out],
    input: In,
    *,
    check: Callable[[Run], Awaitable[None] | None] | None = None,
    mocks: Mocks | None = None,
    first_crashes: int | None = None,
    second_crashes: int = 100,
    tags: Mapping[str, Any] | None = None,
    crashes: int = 0,
    max_crashes: int = 5,
    codec: Codec | None = None,
    **outside: Unpack[Outside],
) -> CrashReport:
    """Run *workflow* on *input* once, then again with a crash at each of its writes, and with two of them.

    *check* is called with every `Run` that has ended, the uninterrupted one first: assert in it what must hold of each.
    *mocks* and what comes from *outside* (*events*, *events_before*, *inputs*, *connection*) are as for `run`. Of the single
    crashes at most *first_crashes* are tried, and *second_crashes* of their pairs, evenly spread; None: all.

    Raises `AssertionError`, saying where the world was stopped, when a run breaks a law (see `durable.testing.laws`), when it
    ends otherwise than the uninterrupted one (see `durable.testing.comparison` for what chance may decide), or when a body is
    repeated that was not in flight; and what *check* raises, with a note of where the world was stopped. If cancelled, the
    body that runs is cancelled. Bodies and mocks must depend on their data and `context()` alone: what they keep in memory is
    not taken back by a crash.
    """
    definition, codec = mocked(workflow.definition, mocks), codec or JsonCodec()
    text = codec.encode(input, definition.input_type)

    async def live(*points: Point) -> _Life:
        life = _Life(definition, points, crashes, codec)
        send_all(life.journal, codec, outside)
        await life.live(codec, lambda runner: Worker(definition, text, runner, "memory", tags or {}, max_crashes))
        return life

    plain = await live()
    report = CrashReport(plain.result(codec))
    faults = [*plain.faults, *faults_of_end(definition, report.uninterrupted.records, report.uninterrupted.status)]
    _refuse(f'workflow "{definition.name}", without any crash', faults)
    report.keyed |= plain.keyed
    await _check(check, report.uninterrupted, ())
    pairs: list[tuple[Point, Point]] = []
    for first in _spread(_points(plain.journal.writes), first_crashes):
        life = await live(first)
        await _check(check, _compare(report, life, codec), life.points)
        pairs += [(first, second) for second in _points(life.journal.writes)]
    for first, second in _spread(pairs, second_crashes):
        await _check(check, _compare(report, await live(first, second), codec), (first, second))
    return report


async def crash_at(
    workflow: Workflow[In, Out],
    input: In,
    *points: Point,
    tags: Mapping[str, Any] | None = None,
    mocks: Mocks | None = None,
    crashes: int = 0,
    max_crashes: int = 5,
    codec: Codec | None = None,
    **outside: Unpack[Outside],
) -> Run:
    """Run *workflow* on *input* to its end, through crashes at *points*: each is counted in the life of one worker, so that the
    last of them outlives all. *mocks* and what comes from *outside* are as for `run`. Raises `AssertionError` when a law is
    broken."""
    definition, codec = mocked(workflow.definition, mocks), codec or JsonCodec()
    text = codec.encode(input, definition.input_type)
    life = _Life(definition, points, crashes, codec)
    send_all(life.journal, codec, outside)
    await life.live(codec, lambda runner: Worker(definition, text, runner, "memory", tags or {}, max_crashes))
    ended = life.result(codec)
    faults = [*life.faults, *faults_of_end(definition, ended.records, ended.status)]
    _refuse(f'workflow "{definition.name}", crashed {spelled(points)}', faults)
    return ended


class _CrashingJournal(MemoryJournal):
    """A journal whose worker dies at *point*. `writes` counts the writes that were begun."""

    def __init__(self, point: Point | None, crashes: int, codec: Codec) -> None:
        super().__init__(crashes=crashes, codec=codec)
        self._committing = asyncio.Lock()
        self.begin_anew(point)

    def begin_anew(self, point: Point | None) -> None:
        self.point = point
        self.crashed = asyncio.Event()
        self._standing: list[asyncio.Future[None]] = []  # what stands still since the crash
        self._buried = False
        self.writes = 0

    async def _write(self, write: Callable[[], None], commit: Callable[[], Awaitable[None]] | None = None) -> None:
        if self.crashed.is_set() and self.stopping():
            raise ClaimLost("this worker is dead")
        self.writes += 1
        number = self.writes
        await self._reach(Point(number, "before"))
        async with self._committing if commit is not None else contextlib.nullcontext():
            await super()._write(write, commit)
        await self._reach(Point(number, "after"))

    async def _reach(self, point: Point) -> None:
        async with self._committing:  # what PostgreSQL does at once, nothing comes in between of
            strikes = self.crashed.is_set() or self.point == point
            if strikes:
                self.crashed.set()
        if strikes:
            if self._buried:
                raise asyncio.CancelledError
            still: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._standing.append(still)
            await still  # for ever: the world has stopped

    def bury(self) -> None:
        """End what stands still, also where a cancellation does not reach it: a TaskGroup passes only the first one on."""
        self._buried = True
        for still in self._standing:
            still.cancel()


class _Life:
    """One execution from its start to its end, through the crashes at *points*."""

    def __init__(self, definition: Definition, points: Sequence[Point], crashes: int, codec: Codec) -> None:
        self.definition = definition
        self.points = tuple(points)
        self.calls: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []
        self.keyed: set[str] = set()  # the steps that have asked for their key
        self.journal = _CrashingJournal(points[0] if points else None, crashes, codec)
        self.recording: set[str] = (
            set()
        )  # bodies that have effects: they are in flight when something of theirs is durable
        self._called_here: dict[tuple[str, int], int] = {}  # by attempt: when it was taken up for that

    async def live(self, codec: Codec, worker: Callable[[StepRunner], Worker]) -> None:
        """Let one *worker* after the other work, until the execution has ended."""
        for following in (*self.points[1:], None) if self.points else ():
            if not await self._crashes(self._work(codec, worker), following):
                return
        await self._work(codec, worker)

    async def _work(self, codec: Codec, worker: Callable[[StepRunner], Worker]) -> None:
        journal = self.journal
        runner = WatchingRunner(
            codec,
            lambda context: self._called(journal, context),
            lambda path: self.keyed.add(without_indices(path)),
            lambda path, key: self._called_once(journal, path, key),
        )
        try:
            await worker(runner).run(journal)
        finally:
            runner.close()

    async def _crashes(self, work: Coroutine[Any, Any, None], following: Point | None) -> bool:
        """Work until the crash, and take over; False when the execution ended before it."""
        dying = self.journal
        working = asyncio.create_task(work)
        crash = asyncio.create_task(dying.crashed.wait())
        try:
            await asyncio.wait({working, crash}, return_when=asyncio.FIRST_COMPLETED)
            if not crash.done():
                working.result()
                return False
            # Taken over before the dead one is cleaned away: nothing that it does from here on counts.
            self.journal = dying.taken_over()
            self.journal.begin_anew(following)
            self._called_here = {}
            return True
        finally:
            for task in (working, crash):
                task.cancel()
            if dying.crashed.is_set():
                dying.bury()
            await asyncio.wait({working, crash})
            if not working.cancelled():
                working.exception()  # a dead worker's errors are nobody's

    def _dead(self, journal: _CrashingJournal) -> bool:
        """Whether the worker that writes to *journal* is dead: what it does is nobody's."""
        return journal is not self.journal or journal.stopping() or journal.crashed.is_set()

    def _called_once(self, journal: _CrashingJournal, path: str, key: str) -> None:
        """A call is about to be made that is to be made once."""
        if not self._dead(journal) and any(
            r.path == path and r.key == key and r.kind == "ran" for r in journal.records
        ):
            self.faults.append(f"the call {key!r} of {path!r} was made although its result was durable")

    def _called(self, journal: _CrashingJournal, context: Context) -> None:
        """A body is about to run in the worker that writes to *journal*."""
        if self._dead(journal):
            return
        key = (context.path, context.attempt)
        records = self.journal.records
        self.faults += faults_of_call(self.definition, records, context)
        if any(record.path == context.path and record.key is not None for record in records):
            self.recording.add(context.path)
        before = self._called_here.get(key)
        if before is None:
            self.calls[key] += 1
        elif before == journal.claims:  # else it was waiting in between: it runs again from the top
            self.faults.append(f"the body of {context.path!r} (attempt {context.attempt}) ran twice in one worker")
        self._called_here[key] = journal.claims

    def result(self, codec: Codec) -> Run:
        calls: Counter[str] = Counter()
        for (path, _), times in self.calls.items():
            calls[path] += times
        return Run.of(self.journal, self.definition, codec, calls)


def _compare(report: CrashReport, life: _Life, codec: Codec) -> Run:
    definition = life.definition
    run, plain = life.result(codec), report.uninterrupted
    report.runs += 1
    report.keyed |= life.keyed
    repeats = [Repeat(path, attempt, times, life.points) for (path, attempt), times in life.calls.items() if times > 1]
    report.repeats += repeats
    for repeat in repeats:
        node = node_at(definition, repeat.path)
        if isinstance(node, Step) and node.transactional:
            report.transactional.add(without_indices(repeat.path))
    faults = [*life.faults, *faults_of_end(definition, run.records, run.status), *differences(definition, run, plain)]
    for repeat in repeats:
        if repeat.times > 1 + len(life.points):
            faults.append(f"{repeat.path!r} (attempt {repeat.attempt}) ran {repeat.times} times")
        elif (
            all(point.side == "after" for point in life.points)
            and not is_beside_others(definition, repeat.path)
            and repeat.path not in life.recording
        ):
            faults.append(f"{repeat.path!r} (attempt {repeat.attempt}) ran again, although it was not in flight")
    _refuse(f'workflow "{definition.name}", crashed {spelled(life.points)}', faults)
    return run


async def _check(check: Callable[[Run], Awaitable[None] | None] | None, run: Run, points: Sequence[Point]) -> None:
    if check is None:
        return
    try:
        said: object = check(run)
        if inspect.isawaitable(said):
            said = await said
    except Exception as error:
        error.add_note(f"in the run that was crashed {spelled(points)}" if points else "in the run without any crash")
        raise
    if said is not None:
        raise UsageError(f"check returned {said!r}, which nobody looks at. Assert in it, and return nothing.")


def _refuse(where: str, faults: Sequence[str]) -> None:
    if faults:
        raise AssertionError(f"{where}:\n- " + "\n- ".join(dict.fromkeys(faults)))


def _points(writes: int) -> list[Point]:
    return [Point(write, side) for write in range(1, writes + 1) for side in ("before", "after")]


def _spread(crashes: list[T], most: int | None) -> list[T]:
    if most is None or len(crashes) <= most:
        return crashes
    return [crashes[index * len(crashes) // most] for index in range(most)]
