"""Every exception of the library, grouped by who can mend it.

The author of a workflow mends a `DefinitionError`; the caller mends a `UsageError`; an `Interruption` is
circumstance and nobody's fault; an `InternalError` is ours. Messages say where, what, and the cure.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.model.failure import Failure


class DurableError(Exception):
    """The root of all exceptions raised by durable."""


# --- The author of a workflow mends these -------------------------------------------------------------------


class DefinitionError(DurableError):
    """A workflow cannot mean what was written. Raised at import time, with file and line."""


class EncodeError(DurableError):
    """A value cannot be written as JSON without changing. The message names the place inside the value."""


class DecodeError(DurableError):
    """Stored JSON does not fit the annotation. The message names the place, and what was expected there."""


class NonRetryable(DurableError):
    """Raise it in a step to fail the step at once, whatever its retry policy says."""


class RetryAfter(DurableError):
    """Raise it in a step to choose the delay before the next attempt; it counts as one of `max_attempts`."""

    def __init__(self, delay: timedelta, message: str = "") -> None:
        if not isinstance(delay, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"RetryAfter takes a timedelta, e.g. seconds(30), not {delay!r}")
        super().__init__(message or f"retry after {delay}")
        self.delay = delay


# --- The caller mends these ---------------------------------------------------------------------------------


class UsageError(DurableError):
    """A call that cannot be carried out as it was made."""


class EngineNotRunning(UsageError):
    """There is no running engine in this event loop."""


class SeveralEngines(UsageError):
    """This event loop runs several engines: call the method on the one that is meant."""


class UnknownWorkflow(UsageError):
    """The engine was not given this workflow."""


class UnknownExecution(UsageError):
    """There is no execution of this id."""


class UnknownSchedule(UsageError):
    """There is no schedule of this name."""


class IdConflict(UsageError):
    """The id belongs to an execution already: of another workflow, or `on_conflict="error"` was asked for. Or the name to a
    schedule."""


class ExecutionEnded(UsageError):
    """The execution has ended: nothing that is sent to it would be read."""


class NotRetryable(DurableError):
    """An execution that has failed cannot go on: it was undone, or its parent was told."""


class QueueFull(DurableError):
    """As many executions of a queue are ready and not running as its `max_depth` allows. Try again later."""


class InputRejected(UsageError):
    """An answer is not what was asked for, and the execution waits on. `problems` says what is wrong, by field ("" is the whole
    answer)."""

    def __init__(self, message: str, problems: dict[str, str]) -> None:
        super().__init__(message)
        self.problems = problems


class NoPendingInput(UsageError):
    """The execution asks nothing of this name: not yet, not any more, or somebody has answered already."""


class PayloadTooLarge(UsageError):
    """The encoded value is larger than `max_payload`. Keep big data elsewhere and pass a reference."""


class ConfigurationError(UsageError):
    """The engine was given options, or a database, that it cannot work with."""


class SchemaTooNew(ConfigurationError):
    """The database was migrated by a newer version of durable than this program uses."""


# --- How an execution ended ---------------------------------------------------------------------------------


class ExecutionFailed(DurableError):
    """The execution ended without a result. `failure` is the recorded error, `status` how it ended."""

    def __init__(self, execution_id: str, status: str, failure: Failure) -> None:
        super().__init__(f"execution {execution_id!r} {status}: {failure}")
        self.execution_id = execution_id
        self.status = status
        self.failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.execution_id, self.status, self.failure))


class ExecutionCancelled(DurableError):
    """The execution was cancelled. `reason` is what the caller of `cancel` said, if anything."""

    def __init__(self, execution_id: str, reason: str | None) -> None:
        super().__init__(f"execution {execution_id!r} was cancelled" + (f": {reason}" if reason else ""))
        self.execution_id = execution_id
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.execution_id, self.reason))


# --- Recorded as the error of a step or an execution --------------------------------------------------------


class StepTimeout(DurableError):
    """A step's body ran longer than its `timeout`."""


class JournalMismatch(NonRetryable):
    """The code of a body was changed while it was waiting: something is recorded that it does not ask for any more, and it asks
    for something else of the same name. The message says what it was, and what was found."""


class ChildFailed(DurableError):
    """A child that was called has not completed. `status` says how it has ended, `failure` is its error, `reason` that of its
    cancellation, `id` its own."""

    def __init__(self, id: str, status: str, failure: Failure | None, reason: str | None) -> None:
        why = str(failure) if failure is not None else (reason or "no reason was given")
        super().__init__(f"child {id} has ended {status}: {why}")
        self.id = id
        self.status = status
        self.failure = failure
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return ChildFailed, (self.id, self.status, self.failure, self.reason)


class StepAborted(DurableError):
    """A step's body ended itself by `sys.exit`, or by a cancellation that nobody had asked the engine for."""


class RunFailed(DurableError):
    """A call by `durable.run` failed, and is not tried again in this attempt of its step. `failure` is its error."""

    def __init__(self, name: str, failure: Failure) -> None:
        super().__init__(f"run({name!r}) failed: {failure}")
        self.name = name
        self.failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.name, self.failure))


class RunRefused(RunFailed, NonRetryable):
    """A call by `durable.run` failed with a `NonRetryable`, and ends its step unless the body catches it."""


class WaitTimeout(DurableError):
    """What a body has waited for did not come in time, and no `timeout_value` was given."""


class AmbiguousEffect(DurableError):
    """Several tasks of one body wait by the same name, and nothing tells which of them is which."""


class DeadlineExceeded(DurableError):
    """The execution did not end within its workflow's `timeout`."""


class NoMatchingCase(DurableError):
    """What a branch's `on` said is none of its cases, and it has no `otherwise`."""


class GotoRefused(DurableError):
    """A `Goto` names a node that its block does not have, or goes round more often than `max_visits` allows."""


class LoopExhausted(DurableError):
    """A loop's `until` did not become true within `max_iterations`."""


class TooManyFailures(DurableError):
    """More items of a foreach failed than `tolerate` allows."""


class MergeConflict(DurableError):
    """What the arms of a parallel have changed cannot be combined."""


class WorkerCrashed(DurableError):
    """The execution was in flight in `max_crashes` crashes of its workers, and is not tried again."""


# --- Circumstance -------------------------------------------------------------------------------------------


class Interruption(DurableError):
    """Something that ends local work without deciding anything: the execution goes on elsewhere or later."""


class ClaimLost(Interruption):
    """This worker no longer owns the execution: it was cancelled, or taken over after the lease had lapsed."""


class StoreUnavailable(Interruption):
    """PostgreSQL could not be reached for as long as it was allowed to take."""


class AnsweredMeanwhile(DurableError):
    """A question that was to be closed has an answer. Never leaves the engine."""


# --- Ours ---------------------------------------------------------------------------------------------------


class InternalError(DurableError):
    """A fault of durable itself. Please report it."""
