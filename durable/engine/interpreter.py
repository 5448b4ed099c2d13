"""The meaning of a definition: walks its tree against a journal.

What the journal holds is not done again; what it does not hold is done and recorded before anything that follows from it.
The interpreter knows no database, no clock and no worker: those are behind `Journal`. The record that ends an execution, or
puts it to sleep, is handed out with the outcome, so that both become durable in one write.

A failure travels upwards with the records that say so, and is written by whoever decides what follows from it, the outermost
record first. Whoever resumes then never finds a failure that was to end its siblings beside siblings that may go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from durable.engine import composites, concurrency, ending
from durable.engine.context import Body, Context, Engine
from durable.engine.journal import (
    Blocked,
    Completed,
    Journal,
    NotCommitted,
    Outcome,
    Past,
    Record,
    Refused,
    Subject,
    Transaction,
    Value,
)
from durable.engine.logs import Logs
from durable.engine.step_runner import NotBegun, StepRunner
from durable.engine.strands import IN_PLACE, Activity, NodeFailed, Strand
from durable.engine.streaming import Stream
from durable.errors import AnsweredMeanwhile, GotoRefused, JournalMismatch, StepAborted, WorkerCrashed
from durable.model.answers import CHILD
from durable.model.definition import (
    VISITS_MAX,
    Block,
    Branch,
    Composite,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Step,
)
from durable.model.failure import Failure
from durable.model.paths import visited

T = TypeVar("T")

LOST_MAX = 5  # times in a row that the connection of a transactional step is lost, until that is a failed attempt
LOST_PAUSE = 0.1  # seconds, and twice as long each time
_NOTHING = Past()
_encode = msgspec.json.Encoder().encode
TAKEN_BACK = _encode(Failure("durable.errors.WaitTimeout", "it was taken back: its step is over")).decode()


@dataclass(slots=True)
class Jump:
    """A node was left by a `Goto`."""

    target: str
    value: Value


class Interpreter:
    """Interprets one definition for one execution. `run` may be called once, `deadline_exceeded`, `undo` or `fail` after it."""

    __slots__ = (
        "_activity",
        "_began",
        "definition",
        "dues",
        "engine",
        "failure",
        "journal",
        "loop",
        "max_crashes",
        "root",
        "runner",
        "subject",
    )

    def __init__(
        self,
        definition: Definition,
        subject: Subject,
        journal: Journal,
        runner: StepRunner,
        *,
        max_crashes: int = 5,
        engine: Engine | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.definition = definition
        self.subject = subject
        self.journal = journal
        self.runner = runner
        self.max_crashes = max_crashes
        self.engine = engine
        self.failure: Failure | None = None  # why the execution is being ended
        self.loop = loop or asyncio.get_running_loop()  # to ask asyncio for it is a system call
        self._activity: Activity | None = None
        self._began = self.loop.time()
        self.dues: dict[
            int, float
        ] = {}  # by the numbers of records: when what they promise is due, by the loop's clock
        self.root = Strand()

    @property
    def activity(self) -> Activity:
        """Which strands are busy. Most executions have one strand, which never asks."""
        if self._activity is None:
            self._activity = Activity()
        return self._activity

    def due(self, record: Record) -> float:
        """When what *record* promises is due, by the loop's clock. Not too early: what was read was read before we began."""
        return self.dues.get(record.seq, self._began + (record.delay or 0.0))

    # --- From beginning to end ----------------------------------------------------------------------------------

    async def run(self) -> Outcome:
        """Go on from where the journal ends. Raises `Interruption` when it may not; cancelling it cancels what runs."""
        self.root.task = asyncio.current_task(self.loop)
        subject = self.subject
        if subject.history.open:
            await self._take_back()
        if subject.history.failing is not None:
            return await ending.go_on(self, subject.history.failing.failure)
        if subject.undo is not None:
            return await self.undo(subject.undo)
        if subject.deadline_passed:
            return await self.deadline_exceeded()
        try:
            value = await self.block(self.definition.body, "", self.input(), self.root, hold=True)
        except NodeFailed as failed:
            return await ending.begin(self, failed.failure, failed.records)
        if isinstance(value, Blocked):
            return value
        return Completed(value, await self._last_pending())

    async def deadline_exceeded(self, outcome: Outcome | None = None) -> Outcome:
        """End an execution that did not end in time. *outcome* came too late; what it records counts all the same."""
        return await ending.begin(self, ending.deadline_failure(self.definition), _records_of(outcome))

    async def undo(self, reason: str, outcome: Outcome | None = None) -> Outcome:
        """End an execution that was cancelled and is to be undone. *outcome* came too late, as above."""
        return await ending.begin(self, ending.cancellation(reason), _records_of(outcome), cancelled=reason)

    async def fail(self, failure: Failure) -> Outcome:
        """End an execution for a reason that is not in its flow."""
        return await ending.begin(self, failure, [])

    def input(self) -> Value:
        """The data that the execution begins with."""
        afresh = self.subject.history.begun_afresh
        return Value(self.subject.input, 0) if afresh is None else Value(afresh.value or "null", afresh.seq)

    async def _last_pending(self) -> Record | None:
        """The record that is to ride with the end. There may be more: those are written now."""
        pending, self.root.pending = self.root.pending, []
        if len(pending) > 1:
            await self.write(self.root, *pending[:-1])
        return pending[-1] if pending else None

    # --- Blocks and nodes ---------------------------------------------------------------------------------------

    async def block(self, block: Block, prefix: str, value: Value, strand: Strand, *, hold: bool) -> Value | Blocked:
        """Run the nodes of *block* on *value*. With *hold*, the last record may stay pending: the caller writes it."""
        nodes = block.nodes
        final = len(nodes) - 1
        forked = None if prefix else self.subject.history.forked
        visits: dict[str, int] | None = None  # counted once there was a Goto: until then each node is visited once
        position = 0
        while position <= final:
            node = nodes[position]
            name = node.name
            if visits is not None:
                name = _visit(node, prefix, visits)
            path, last = prefix + name, hold and position == final
            if forked is not None and path in forked:
                value = Value(forked[path].value or "null", forked[path].seq)
            if isinstance(node, Step):  # most are: each frame less is felt at every write
                done = await self.step(node, path, value, strand, last)
            else:
                done = await self._composite(node, path, value, strand, last)
            if isinstance(done, Value):
                value = done
                position += 1
            elif isinstance(done, Blocked):
                return done
            else:
                await self.write(strand)
                if visits is None:
                    visits = {passed.name: 1 for passed in nodes[: position + 1]}
                position = _find(block, path, done.target)
                value = done.value
        return value

    async def _composite(
        self, node: Decision | Composite, path: str, value: Value, strand: Strand, hold: bool
    ) -> Value | Blocked | Jump:
        match node:
            case Decision():
                return await self._decision(node, path, value, strand, hold)
            case Branch():
                return await composites.branch(self, node, path, value, strand, hold)
            case Parallel():
                return await concurrency.parallel(self, node, path, value, strand, hold)
            case Foreach():
                return await concurrency.foreach(self, node, path, value, strand, hold)
            case Loop():
                return await composites.loop(self, node, path, value, strand, hold)

    def past(self, path: str) -> Past:
        """What is recorded at *path*. Raises `NodeFailed` when it has failed for good."""
        past = self.subject.history.by_path.get(path, _NOTHING)
        if past.failures and past.completed is None and (final := past.final) is not None:
            raise NodeFailed(final.failure)
        return past

    def after(self, record: Record, value: Value, strand: Strand) -> Value | Jump:
        """What goes on after a node whose result is *record*."""
        strand.silent = record.value is None
        data = value if record.value is None else Value(record.value, record.seq)
        return data if record.target is None else Jump(record.target, data)

    async def settle(self, record: Record, value: Value, strand: Strand, hold: bool) -> Value | Jump:
        """Record the result of a node, now or (with *hold*) with what comes next, and go on with it."""
        if hold:
            strand.pending.append(record)
        else:
            await self.write(strand, record)
        return self.after(record, value, strand)

    # --- Steps --------------------------------------------------------------------------------------------------

    async def step(self, step: Step, path: str, value: Value, strand: Strand, hold: bool) -> Value | Blocked:
        past = self.past(path)
        if past.completed is not None:
            done = self.after(past.completed, value, strand)
        else:
            if step.compensate_on == "started" and past.note is None:
                self.may_begin(strand)  # else it would be undone, and never have begun
                began = Record(self.subject.history.take_seq(), path, "started", data_seq=value.seq)
                self.subject.history.pin(value)
                await self.write(strand, began)
            record = await self.attempts(step, path, value, strand, past)
            if isinstance(record, Blocked):
                return record
            if not step.transactional:  # else it is durable, as what the body has written is
                if hold and step.compensation is None:  # else it may have to be undone: what happens next must find it
                    strand.pending.append(record)
                else:
                    await self.write(strand, record)
            done = self.after(record, value, strand)
        assert isinstance(done, Value)
        return done

    async def _decision(
        self, node: Decision, path: str, value: Value, strand: Strand, hold: bool
    ) -> Value | Blocked | Jump:
        past = self.past(path)
        if past.completed is not None:
            return self.after(past.completed, value, strand)
        record = await self.attempts(node, path, value, strand, past)
        return record if isinstance(record, Blocked) else await self.settle(record, value, strand, hold)

    async def attempts(
        self, step: Step | Decision, path: str, value: Value, strand: Strand, past: Past
    ) -> Record | Blocked:
        """Try a step until it succeeds; its record is not written yet. Raises `NodeFailed` when it is not tried again."""
        attempt = len(past.failures) + 1
        waits = len(past.failures) > past.forgiven
        if waits and (blocked := await self._retry_pause(past.failures[-1].delay or 0.0, None, strand)):
            return blocked
        retry = step.retry or self.definition.retry
        while True:
            self.refuse_killers(path, attempt)
            try_once = self._transact if step.transactional else self._attempt
            tried = await try_once(step, path, value, strand, attempt, past.forgiven + retry.max_attempts)
            if isinstance(tried, Blocked):
                return tried
            record, error = tried
            if error is None:
                return record
            delay = retry.next_delay(attempt - past.forgiven, error, random.uniform(-1, 1))
            if delay is None:
                raise NodeFailed(record.failure, record)
            record.delay = delay.total_seconds()
            if blocked := await self._retry_pause(record.delay, record, strand):
                return blocked
            attempt += 1

    async def _retry_pause(self, delay: float, record: Record | None, strand: Strand) -> Blocked | None:
        """Wait for the next attempt, which *record*, not written yet, promises. `Blocked` when the execution is to let go."""
        far = delay > IN_PLACE
        if far and strand is self.root:
            return Blocked(delay, record)
        if record is not None:
            await self.write(strand, record)
            if strand.over:  # a sibling failed while this was written, and a write is not interrupted
                raise asyncio.CancelledError
        if not far:
            if delay:
                await self.journal.pause(delay)
            return None
        left = await self.activity.sleep(self.journal.pause(delay), delay)
        return None if left is None else Blocked(left)

    async def _transact(
        self, step: Step | Decision, path: str, value: Value, strand: Strand, attempt: int, max_attempts: int
    ) -> tuple[Record, Exception | None] | Blocked:
        """Like `_attempt`, for a transactional step: the record of a success is durable then. To lose the connection is no
        attempt; the body runs again, but not for ever."""
        lost = 0
        while True:
            transaction = await self.journal.begin()
            reason: BaseException | None = None
            seconds = 0.0
            try:
                tried = await self._attempt(step, path, value, strand, attempt, max_attempts, transaction)
                if isinstance(tried, Blocked):
                    return tried
                record, reason = tried
                seconds = record.seconds
                if not transaction.is_lost:
                    if reason is None:
                        await transaction.commit(record)
                        self._written(record)
                    return tried
            except Refused as refused:
                return self._failed(path, attempt, refused.reason, seconds), refused.reason
            except NotCommitted as gone:
                reason = gone.reason
            finally:
                await transaction.close()
            lost += 1
            if lost == LOST_MAX:
                error = StepAborted(f"{path!r} could not be committed {lost} times; the last time: {reason!r}")
                return self._failed(path, attempt, error, seconds), error
            await self.journal.pause(random.uniform(0.5, 1.0) * LOST_PAUSE * 2 ** (lost - 1))

    async def _attempt(
        self,
        step: Step | Decision,
        path: str,
        value: Value,
        strand: Strand,
        attempt: int,
        max_attempts: int,
        transaction: Transaction | None = None,
    ) -> tuple[Record, Exception | None] | Blocked:
        """Try the step once; returns the record to be written, and the error if it failed. `Blocked` when its body waits."""
        if (entering := self.journal.enter(path)) is not None:
            await entering
        self.may_begin(strand)
        subject = self.subject
        body = Body(self, strand) if step.runs_in == "loop" else None
        context = Context(
            subject.execution_id,
            subject.workflow,
            subject.tags,
            path,
            attempt,
            max_attempts,
            self.engine,
            self.failure,
            body,
            subject.history.life,
            functools.partial(Stream, self, path, attempt),
            functools.partial(Logs, self, path, attempt) if self.runner.capture else None,
            transaction,
        )
        may_begin = self.journal.may_begin if strand is self.root else functools.partial(self.may_begin, strand)
        began = time.perf_counter()
        try:
            reply, error = await self.guarded(
                self.runner.attempt(step, value.text, context, may_begin, strand.item), strand
            )
        finally:
            if body is not None:
                body.over = True
                if body.effects is not None:
                    body.effects.rest.close()
                    await body.effects.rest.come_to_rest()
        if body is not None and body.effects is not None and (rest := body.effects.rest).ended:
            if self._stopped(strand):
                raise asyncio.CancelledError
            if rest.stopped_by is None:
                return Blocked(max((rest.suspended_until or 0.0) - self.loop.time(), 0.0))
            if not isinstance(rest.stopped_by, JournalMismatch):
                raise rest.stopped_by
            reply, error = None, rest.stopped_by
        elif body is not None and body.effects is not None and reply is not None:
            error = body.effects.mismatch()
            reply = reply if error is None else None
        seconds = time.perf_counter() - began
        if self.runner.meter is not None:
            outcome = "completed" if reply is not None else "failed"
            self.runner.meter.attempted(subject.workflow, step.name, outcome, seconds)
        if context.told is not None:
            await self.journal.drain_stream(0)
        if reply is None:
            assert error is not None
            return self._failed(path, attempt, error, seconds), error
        seq = subject.history.take_seq()
        record = Record(seq, path, "completed", attempt, reply.value, None, None, seconds, reply.target)
        if reply.value is None and isinstance(step, Step) and step.compensation is not None:
            record.data_seq = value.seq
            subject.history.pin(value)
        return record, None

    def _failed(self, path: str, attempt: int, error: Exception, seconds: float) -> Record:
        text = _encode(Failure.of(error)).decode()
        return Record(self.subject.history.take_seq(), path, "failed", attempt, None, text, None, seconds)

    async def guarded(self, work: Awaitable[T], strand: Strand) -> tuple[T | None, Exception | None]:
        """Await what the author wrote; returns its result, or its error as one that can be recorded."""
        result, error = None, None
        try:
            result = await work
        except asyncio.CancelledError as cancelled:
            if self._stopped(strand):
                raise
            error = _aborted("the body was cancelled by itself, or something that it awaited was", cancelled)
        except NotBegun as refused:
            raise refused.reason from None
        except Exception as raised:
            error = raised
        except (KeyboardInterrupt, GeneratorExit):
            raise  # it is the process, or the loop, that ends
        except SystemExit as left:
            error = _aborted(f"the body called sys.exit({left.code!r})", left)
        except BaseException as raised:
            error = _aborted(f"the body raised {type(raised).__qualname__}, which is not an Exception", raised)
        if strand.task is not None and strand.task.cancelling():
            await self._forget_cancellations(strand, strand.task)
        return result, error

    async def _forget_cancellations(self, strand: Strand, task: asyncio.Task[Any]) -> None:
        """A body may have cancelled its own task, which is ours: that must not hit what follows."""
        while task.cancelling() and not self._stopped(strand):
            try:
                await asyncio.sleep(0)  # where one that was not delivered yet arrives
            except asyncio.CancelledError:
                if self._stopped(strand):
                    raise
            task.uncancel()

    # --- Shared with composites and endings ----------------------------------------------------------------------

    def may_begin(self, strand: Strand) -> None:
        """Raise what keeps something new from beginning in *strand*."""
        if strand.over:
            raise asyncio.CancelledError
        self.journal.may_begin()

    def refuse_killers(self, path: str, attempt: int = 0) -> None:
        """Raise `NodeFailed` when what is about to be called may have killed too many workers: each further try may kill
        another, whatever the retry policy says."""
        if self.subject.crashes < self.max_crashes:
            return
        failure = Failure.of(
            WorkerCrashed(
                f"{path!r} was in flight in {self.max_crashes} or more crashes of its workers, and is not tried again. "
                "Mend what kills the process, then retry the execution."
            )
        )
        raise NodeFailed(failure, self.failed_record(path, failure, attempt))

    def _stopped(self, strand: Strand) -> bool:
        return self.journal.stopping() or strand.over

    def failed_record(self, path: str, failure: Failure, attempt: int = 0) -> Record:
        """The record of a final failure."""
        text = _encode(failure).decode()
        return Record(self.subject.history.take_seq(), path, "failed", attempt, error=text)

    async def write(self, strand: Strand, *records: Record) -> None:
        """Make *records* durable, after those that are pending."""
        if strand.pending:
            records = (*strand.pending, *records)
            strand.pending = []
        if records:
            await self.journal.record(*records)
            for record in records:
                self._written(record)
            if self.subject.history.open and any(record.key is None for record in records):
                await self._take_back()

    def _written(self, record: Record) -> None:
        """It is durable."""
        self.subject.history.add(record)
        self.subject.crashes = 0
        if record.consumes:
            self.journal.inbox.consumed(record.consumes)
        if record.key is None:
            return
        if record.delay is not None:
            self.dues[record.seq] = self.loop.time() + record.delay
        if self.runner.tracer is not None:
            self.runner.tracer.recorded(self.subject.execution_id, record)

    async def _take_back(self) -> None:
        """Take back what is asked, listened for and begun by what is over: it expires."""
        history = self.subject.history
        for wait in history.in_vain():
            key = wait.key or ""
            if history.open.pop((wait.path, key), None) is None:
                continue  # another strand has done it meanwhile
            # An error that nobody reads: unlike that nothing came in time, it holds in no other attempt.
            record = Record(history.take_seq(), wait.path, "expired", wait.attempt, error=TAKEN_BACK, key=key)
            if key.startswith(CHILD):
                record.dooms = msgspec.json.decode(wait.value or "", type=UUID)
            else:
                record.closes = wait.seq
            with contextlib.suppress(AnsweredMeanwhile):
                await self.journal.record(record)
                history.add(record)


def _records_of(outcome: Outcome | None) -> list[Record]:
    return [] if outcome is None or outcome.record is None else [outcome.record]


def _visit(node: Node, prefix: str, visits: dict[str, int]) -> str:
    """Count one more visit of *node*; the segment of its path. Raises `NodeFailed` beyond the limit. No record says so: whoever
    resumes counts the same."""
    visit = visits[node.name] = visits.get(node.name, 0) + 1
    limit = node.max_visits if isinstance(node, Decision) else VISITS_MAX
    if visit > limit and not isinstance(node, Step):
        raise NodeFailed(
            Failure.of(
                GotoRefused(
                    f"{prefix + node.name!r} was visited {limit:,} times, and a Goto leads to it once more. Find out why it "
                    "goes round, or raise its max_visits."
                )
            )
        )
    return visited(node.name, visit)


def _find(block: Block, path: str, target: str) -> int:
    for position, node in enumerate(block):
        if node.name == target:
            return position
    names = ", ".join(node.name for node in block)
    raise NodeFailed(
        Failure.of(GotoRefused(f"{path!r} returned Goto({target!r}), but its block has no such node. It has: {names}."))
    )


def _aborted(why: str, cause: BaseException) -> StepAborted:
    error = StepAborted(why)
    error.__cause__ = cause
    return error
