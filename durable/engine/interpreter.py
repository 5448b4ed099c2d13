"""The meaning of a definition: walks its tree against a journal.

What the journal holds is not done again; what it does not hold is done and recorded before anything that follows from it.
The interpreter knows no database, no clock and no worker: those are behind `Journal`. The record that ends an execution, or
puts it to sleep, is handed out with the outcome, so that both become durable in one write.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import msgspec

from durable.engine.context import Context, Engine
from durable.engine.journal import Blocked, Completed, Failed, Journal, Outcome, Past, Record, Subject, Value
from durable.engine.step_runner import NotBegun, StepRunner
from durable.errors import DeadlineExceeded, InternalError, StepAborted, WorkerCrashed
from durable.model.definition import Block, Definition, Step
from durable.model.failure import Failure

RETRY_IN_PLACE = 0.25  # seconds; a shorter pause is not worth giving up the slot and claiming it again
_NOTHING = Past()
_encode = msgspec.json.Encoder().encode


class _StepFailed(Exception):
    """A step has failed for good; the record that says so may not be durable yet."""

    def __init__(self, failure: Failure, record: Record | None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.record = record


class Interpreter:
    """Interprets one definition for one execution. `run` may be called once."""

    __slots__ = ("definition", "engine", "journal", "max_crashes", "pending", "runner", "subject", "task")

    def __init__(
        self,
        definition: Definition,
        subject: Subject,
        journal: Journal,
        runner: StepRunner,
        *,
        max_crashes: int = 5,
        engine: Engine | None = None,
    ) -> None:
        self.definition = definition
        self.subject = subject
        self.journal = journal
        self.runner = runner
        self.max_crashes = max_crashes
        self.engine = engine
        self.pending: Record | None = None
        self.task: asyncio.Task[Any] | None = None

    async def run(self) -> Outcome:
        """Go on from where the journal ends. Raises `Interruption` when it may not; cancelling it cancels the step."""
        self.task = asyncio.current_task()
        if self.subject.deadline_passed:
            return self.deadline_exceeded()
        try:
            value = await self._block(self.definition.body, "", Value(self.subject.input, 0), last=True)
        except _StepFailed as failed:
            return Failed(failed.failure, failed.record)
        if isinstance(value, Blocked):
            return value
        return Completed(value, self.pending)

    def deadline_exceeded(self) -> Failed:
        """The outcome of an execution that did not end in time."""
        limit = self.definition.timeout
        return Failed(
            Failure.of(DeadlineExceeded(f"the execution did not end within its workflow's timeout of {limit}"))
        )

    async def _block(self, block: Block, prefix: str, value: Value, *, last: bool) -> Value | Blocked:
        final = len(block.nodes) - 1
        for position, node in enumerate(block.nodes):
            match node:
                case Step():
                    done = await self._step(node, prefix + node.name, value, last=last and position == final)
                case _:
                    raise InternalError(f"{type(node).__name__} {prefix + node.name!r} cannot be interpreted yet")
            if isinstance(done, Blocked):
                return done
            value = done
        return value

    async def _step(self, step: Step, path: str, value: Value, *, last: bool) -> Value | Blocked:
        past = self.subject.history.by_path.get(path, _NOTHING)
        if past.completed is not None:
            return _after(past.completed, value)
        attempt = len(past.failures) + 1
        last_failure = past.failures[-1] if past.failures else None
        if last_failure is not None and last_failure.delay is None:
            raise _StepFailed(_failure_in(last_failure), None)
        if self.subject.crashes >= self.max_crashes:
            raise self._quarantined(path, attempt)
        if last_failure is not None and last_failure.delay is not None:
            if last_failure.delay > RETRY_IN_PLACE:
                return Blocked(last_failure.delay)
            await self.journal.pause(last_failure.delay)
        retry = step.retry or self.definition.retry
        while True:
            record, error = await self._attempt(step, path, value, attempt, retry.max_attempts)
            if error is None:
                break
            delay = retry.next_delay(attempt, error, random.uniform(-1, 1))
            if delay is None:
                raise _StepFailed(_failure_in(record), record)
            record.delay = delay.total_seconds()
            if record.delay > RETRY_IN_PLACE:
                return Blocked(record.delay, record)
            await self._record(record)
            await self.journal.pause(record.delay)
            attempt += 1
        if last:
            self.pending = record
        else:
            await self._record(record)
        return _after(record, value)

    async def _attempt(
        self, step: Step, path: str, value: Value, attempt: int, max_attempts: int
    ) -> tuple[Record, Exception | None]:
        """Try the step once; returns the record to be written, and the error if it failed."""
        self.journal.may_begin()
        subject = self.subject
        record = Record(subject.history.next_seq, path, "completed", attempt)
        context = Context(
            subject.execution_id, subject.workflow, subject.tags, path, attempt, max_attempts, self.engine
        )
        error: Exception | None = None
        began = time.perf_counter()
        try:
            record.value = await self.runner.attempt(step, value.text, context, self.journal.may_begin)
        except asyncio.CancelledError as cancelled:
            if self.journal.stopping():
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
        record.seconds = time.perf_counter() - began
        if error is not None:
            record.kind = "failed"
            record.error = _encode(Failure.of(error)).decode()
        if self.task is not None and self.task.cancelling():
            await self._forget_cancellations(self.task)
        return record, error

    async def _forget_cancellations(self, task: asyncio.Task[Any]) -> None:
        """A body may have cancelled its own task, which is ours: that must not hit what follows."""
        while task.cancelling() and not self.journal.stopping():
            try:
                await asyncio.sleep(0)  # where one that was not delivered yet arrives
            except asyncio.CancelledError:
                if self.journal.stopping():
                    raise
            task.uncancel()

    def _quarantined(self, path: str, attempt: int) -> _StepFailed:
        """Final whatever the retry policy says: each further try may kill a worker."""
        failure = Failure.of(
            WorkerCrashed(
                f"step {path!r} was in flight in {self.max_crashes} or more crashes of its workers, and is not tried again. "
                "Mend what kills the process, then retry the execution."
            )
        )
        record = Record(self.subject.history.next_seq, path, "failed", attempt, error=_encode(failure).decode())
        return _StepFailed(failure, record)

    async def _record(self, record: Record) -> None:
        await self.journal.record(record)
        self.subject.history.add(record)


def _after(record: Record, value: Value) -> Value:
    """The data that goes on after a step."""
    return value if record.value is None else Value(record.value, record.seq)


def _failure_in(record: Record) -> Failure:
    if record.error is None:
        raise InternalError(f"the record {record.seq} of a failure at {record.path!r} holds no error")
    return msgspec.json.decode(record.error, type=Failure)


def _aborted(why: str, cause: BaseException) -> StepAborted:
    error = StepAborted(why)
    error.__cause__ = cause
    return error
