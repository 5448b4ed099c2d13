"""An execution that this worker owns: its journal in PostgreSQL, written through the group commit under its claim."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from durable.engine.journal import Blocked, Completed, Failed, Outcome, Record, Subject
from durable.errors import ClaimLost, Interruption
from durable.model.definition import Definition
from durable.model.status import Change, Status, stored_sources
from durable.store import claims
from durable.store.connection import Row
from durable.store.group_commit import GroupCommit, Kind

if TYPE_CHECKING:
    from durable.runtime.supervisor import Supervisor

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended: `result`, `error` are JSON text."""

    status: str
    result: str | None = None
    error: str | None = None
    reason: str | None = None


class Interrupted(Enum):
    """Why the supervisor stopped an execution's task."""

    CLAIM_LOST = "its claim is gone"
    DEADLINE = "its deadline has passed"
    DRAIN = "this worker drains"


class Writes:
    """The kinds of write of one worker identity."""

    def __init__(self, commit: GroupCommit, worker_id: UUID) -> None:
        self.worker_id = worker_id
        self._commit = commit
        self._record = claims.recording(worker_id)
        self._finish = claims.finishing(worker_id, stored_sources(Change.COMPLETE))
        self._suspend = claims.suspending(worker_id, stored_sources(Change.SUSPEND))
        self._release = claims.releasing()

    def record(self, execution_id: UUID, token: UUID, r: Record) -> Awaitable[Row | None]:
        """Append *r*."""
        row = (execution_id, token, r.seq, r.path, r.kind, r.attempt, r.value, r.error, r.delay, r.seconds)
        return self._write(self._record, execution_id, row, len(r.value or r.error or ""))

    def finish(
        self, execution_id: UUID, token: UUID, ended: Ended, result_seq: int | None, r: Record | None
    ) -> Awaitable[Row | None]:
        """End the execution, with its last record."""
        last = (None,) * 6 if r is None else (r.seq, r.path, r.kind, r.attempt, r.value, r.error)
        seconds = None if r is None else r.seconds
        row = (execution_id, token, ended.status, result_seq, ended.error, *last, seconds)
        return self._write(self._finish, execution_id, row, 0 if r is None else len(r.value or r.error or ""))

    def suspend(self, execution_id: UUID, token: UUID, blocked: Blocked) -> Awaitable[Row | None]:
        """Put the execution to sleep, with its last record."""
        r = blocked.record
        last = (None,) * 8 if r is None else (r.seq, r.path, r.kind, r.attempt, r.value, r.error, r.delay, r.seconds)
        row = (execution_id, token, blocked.delay, *last)
        return self._write(self._suspend, execution_id, row, 0 if r is None else len(r.value or r.error or ""))

    def release(self, execution_id: UUID, token: UUID) -> Awaitable[Row | None]:
        """Give the claim back."""
        return self._write(self._release, execution_id, (execution_id, token), 0)

    def _write(self, kind: Kind, execution_id: UUID, row: tuple[Any, ...], size: int) -> Awaitable[Row | None]:
        return self._commit.write(kind, execution_id, row, size)


class Owned:
    """One claimed execution: the `Journal` that its interpreter writes to, and what the supervisor knows of it."""

    __slots__ = (
        "claimed_at",
        "concluding",
        "deadline",
        "definition",
        "execution_id",
        "interrupted",
        "queue",
        "started",
        "subject",
        "supervisor",
        "suspect",
        "task",
        "token",
        "writes",
    )

    def __init__(
        self,
        supervisor: Supervisor,
        writes: Writes,
        execution_id: UUID,
        token: UUID,
        queue: str,
        definition: Definition,
        subject: Subject,
        claimed_at: float,
    ) -> None:
        self.supervisor = supervisor
        self.writes = writes
        self.execution_id = execution_id
        self.token = token
        self.queue = queue
        self.definition = definition
        self.subject = subject
        self.claimed_at = claimed_at
        self.suspect = False
        self.started = False
        self.concluding = False
        self.interrupted: Interrupted | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def may_begin(self) -> None:
        """See `Journal`."""
        if self.interrupted is not None:  # the body swallowed its cancellation
            raise Interruption(f"execution {self.subject.execution_id!r} was stopped: {self.interrupted.value}")
        self.supervisor.may_begin()

    def stopping(self) -> bool:
        """See `Journal`."""
        return self.interrupted is not None or self.supervisor.closing()

    async def pause(self, seconds: float) -> None:
        """See `Journal`."""
        await asyncio.sleep(seconds)

    async def record(self, record: Record) -> None:
        """See `Journal`."""
        if await self.writes.record(self.execution_id, self.token, record) is None:
            raise ClaimLost(f"execution {self.subject.execution_id!r} is no longer this worker's")
        if self.suspect:
            self.suspect = False
            self.supervisor.cleared()

    async def conclude(self, outcome: Outcome) -> None:
        """See `Journal`. From here on the task is not cancelled from our side: the write decides."""
        self.concluding = True
        if isinstance(outcome, Blocked):
            answer = await self.writes.suspend(self.execution_id, self.token, outcome)
            if answer is not None:
                self.supervisor.suspended(self, outcome.delay)
                return
        else:
            ended, result_seq = _ending(outcome)
            answer = await self.writes.finish(self.execution_id, self.token, ended, result_seq, outcome.record)
            if answer is not None:
                self.supervisor.finished(self, ended, answer["watchers"])
                return
        raise ClaimLost(f"execution {self.subject.execution_id!r} is no longer this worker's")

    def interrupt(self, why: Interrupted) -> None:
        """Stop the task, unless its end is being written. The first reason stands.

        A task that has not run yet is not cancelled, for then it would never run: `may_begin` ends it.
        """
        if self.interrupted is None and not self.concluding and self.task is not None:
            self.interrupted = why
            if self.started:
                self.task.cancel()


def _ending(outcome: Completed | Failed) -> tuple[Ended, int | None]:
    match outcome:
        case Completed(value=value):
            return Ended(Status.COMPLETED.value, result=value.text), value.seq
        case Failed(failure=failure):
            return Ended(Status.FAILED.value, error=_encode(failure).decode()), None
