"""An execution that this worker owns: its journal in PostgreSQL, written through the group commit under its claim."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from durable.engine.inbox import Inbox
from durable.engine.journal import Birth, Blocked, Completed, Failed, Outcome, Record, Subject, Transaction
from durable.engine.streaming import Told
from durable.errors import AnsweredMeanwhile, ClaimLost, Interruption
from durable.model.answers import MATCH, ChildEnd, topic_of_child, topic_of_started
from durable.model.failure import Failure
from durable.model.status import Change, Status, stored_sources
from durable.runtime.code import Code
from durable.runtime.transacting import OwnedTransaction
from durable.store import claims
from durable.store.connection import Row
from durable.store.group_commit import GroupCommit, Write

if TYPE_CHECKING:
    from durable.runtime.supervisor import Supervisor
    from durable.telemetry.tracing import Stay

_encode = msgspec.json.Encoder().encode
_COMPLETED = Status.COMPLETED.value


class Ended(msgspec.Struct, frozen=True):
    """How an execution ended: `result`, `error` are JSON text."""

    status: str
    result: str | None = None
    error: str | None = None
    reason: str | None = None


class Interrupted(Enum):
    """Why the supervisor stopped an execution's task."""

    CLAIM_LOST = "its claim is gone"
    DEADLINE = "its deadline has passed"
    UNDO = "it was cancelled, to be undone"
    DRAIN = "this worker drains"


ENDING = (Interrupted.DEADLINE, Interrupted.UNDO)  # it ends here, once what has to be undone is undone
_ELSEWHERE = (Interrupted.CLAIM_LOST, Interrupted.DRAIN)  # it goes on with another worker, or later


class Left(msgspec.Struct, frozen=True):
    """What an execution that ends leaves behind: a parent to be told, and open waits."""

    parent_id: UUID | None
    topic: str | None
    called: bool
    open: Sequence[Record]

    @property
    def nothing(self) -> bool:
        """Whether it leaves nothing behind."""
        return self.parent_id is None and not self.open

    def columns(self, ended: Ended) -> tuple[Any, ...]:
        """As ``execution/finish`` takes them."""
        if self.nothing:
            return (None,) * 5
        told = _told(ended) if self.called else None
        asked, children = _taken_back(self.open)
        return self.parent_id, self.topic, told, children, True if asked else None


class Writes:
    """The kinds of write of one worker identity."""

    def __init__(self, commit: GroupCommit, worker_id: UUID) -> None:
        self.worker_id = worker_id
        self._commit = commit
        self._record = claims.recording(worker_id)
        self._record_plain = claims.recording_plainly(self._record)
        self._compact = claims.compacting(worker_id)
        self._answer = claims.answering(worker_id)
        self._ask = claims.asking(worker_id)
        self._close = claims.closing(worker_id)
        self._bear = claims.bearing(worker_id)
        self._give_up = claims.giving_up(worker_id)
        self._stream = claims.streaming()
        self._continue = claims.continuing(worker_id)
        self._subscribe = claims.subscribing(worker_id)
        self._unsubscribe = claims.unsubscribing(worker_id)
        self._finish = claims.finishing(worker_id, stored_sources(Change.COMPLETE))
        self._finish_plain = claims.finishing_plainly(self._finish)
        self._finish_ending = claims.finishing(worker_id, stored_sources(Change.FINISH_ENDING))
        waiting, ending = Status.WAITING.value, Status.COMPENSATING.value
        self._suspend = claims.suspending(worker_id, stored_sources(Change.SUSPEND), waiting)
        self._put_off = claims.suspending(worker_id, stored_sources(Change.PUT_OFF_ENDING), ending)
        self._begin_ending = claims.beginning_to_end(worker_id, stored_sources(Change.BEGIN_ENDING))
        self._adopt = claims.adopting()
        self._hold = claims.holding()
        self._release = claims.releasing()

    def record(self, execution_id: UUID, token: UUID, r: Record, strand: str, *, plain: bool) -> Write:
        """Append *r*. Of one *strand*, records of one kind become durable in their order. *plain*: see `_is_plain`."""
        size = len(r.value or r.error or "")
        if r.kind == "failing":
            return self._commit.submit(
                self._begin_ending, execution_id, (execution_id, token, r.seq, r.error), size, strand
            )
        if r.kind == "continued":
            _, children = _taken_back(r.takes_back)
            row = (execution_id, token, r.seq, r.attempt, r.value, children)
            return self._commit.submit(self._continue, execution_id, row, size, strand)
        if r.consumes:
            row = (execution_id, token, r.seq, r.path, r.attempt, r.value, r.key, _list(r.consumes), r.error)
            return self._commit.submit(self._answer, execution_id, row, size, strand)
        if (asked := r.asks) is not None:
            question = (asked.name, asked.request.type, asked.remind_every, asked.text)
            row = (execution_id, token, r.seq, r.path, r.attempt, r.delay, r.key, *question)
            return self._commit.submit(self._ask, execution_id, row, len(asked.text), strand)
        if (listens := r.listens) is not None:
            wanted = (listens.name, listens.match, listens.lookback)
            row = (execution_id, token, r.seq, r.path, r.attempt, r.delay, r.key, *wanted)
            return self._commit.submit(self._subscribe, execution_id, row, size, strand)
        if (birth := r.bears) is not None:
            row = (execution_id, token, r.seq, r.path, r.kind, r.attempt, r.value, r.delay, r.key, *_child(birth))
            return self._commit.submit(self._bear, execution_id, row, len(birth.input), strand)
        if r.dooms is not None:
            row = (execution_id, token, r.seq, r.path, r.attempt, r.error, r.key, r.dooms)
            return self._commit.submit(self._give_up, execution_id, row, size, strand)
        if r.closes is not None:
            row = (execution_id, token, r.seq, r.path, r.attempt, r.error, r.key, r.closes)
            kind = self._unsubscribe if (r.key or "").startswith(MATCH) else self._close
            return self._commit.submit(kind, execution_id, row, size, strand)
        if r.drops:
            row = (execution_id, token, r.seq, r.path, r.attempt, r.value, _list(r.drops), *_taken_back(r.takes_back))
            return self._commit.submit(self._compact, execution_id, row, size, strand)
        row = (
            execution_id,
            token,
            r.seq,
            r.path,
            r.kind,
            r.attempt,
            r.value,
            r.error,
            r.delay,
            r.seconds,
            r.target,
            r.data_seq,
            r.key,
        )
        return self._commit.submit(self._record_plain if plain else self._record, execution_id, row, size, strand)

    def stream(self, execution_id: UUID, token: UUID, t: Told) -> Write:
        """Append what a body tells. That of one execution becomes durable in its order."""
        row = (execution_id, token, t.run, t.number, t.attempt, t.kind, t.path, t.message, t.value)
        return self._commit.submit(self._stream, execution_id, row, len(t.value))

    def finish(
        self,
        execution_id: UUID,
        token: UUID,
        ended: Ended,
        result_seq: int | None,
        r: Record | None,
        left: Left,
        *,
        ending: bool,
    ) -> Awaitable[Row | None]:
        """End the execution, with its last record. *ending*: that it has to end is recorded already."""
        last = (None,) * 6 if r is None else (r.seq, r.path, r.kind, r.attempt, r.value, r.error)
        seconds = None if r is None else r.seconds
        row = (
            execution_id,
            token,
            ended.status,
            result_seq,
            ended.error,
            *last,
            seconds,
            ended.reason,
            *left.columns(ended),
        )
        if left.nothing and ended.status == _COMPLETED and not ending and (r is None or r.error is None):
            kind = self._finish_plain
        else:
            kind = self._finish_ending if ending else self._finish
        size = 0 if r is None else len(r.value or r.error or "")
        return self._commit.write(kind, execution_id, row, size + (len(ended.result or "") if left.called else 0))

    def suspend(
        self, execution_id: UUID, token: UUID, blocked: Blocked, inbox: Inbox, *, ending: bool
    ) -> Awaitable[Row | None]:
        """Put the execution to sleep, with its last record, until its time or what its *inbox* waits for. *ending* as above."""
        r = blocked.record
        last = (None,) * 8 if r is None else (r.seq, r.path, r.kind, r.attempt, r.value, r.error, r.delay, r.seconds)
        delay = None if blocked.delay == math.inf else blocked.delay
        wakes = (inbox.seen_asleep(), _array(inbox.topics())) if inbox.waits else (None, None)
        row = (execution_id, token, delay, *last, *wakes)
        kind = self._put_off if ending else self._suspend
        return self._commit.write(kind, execution_id, row, 0 if r is None else len(r.value or r.error or ""))

    def adopt(self, execution_id: UUID, token: UUID, shape: int) -> Write:
        """Go on under another *shape*."""
        return self._commit.submit(self._adopt, execution_id, (execution_id, token, shape))

    def hold(
        self, execution_id: UUID, token: UUID, shapes: Iterable[int], reason: str, *, ending: bool
    ) -> Awaitable[Row | None]:
        """Give the claim back for workers whose definitions are not of these *shapes*; *ending* is how it was judged."""
        row = (execution_id, token, _list(shapes), reason, ending)
        return self._commit.write(self._hold, execution_id, row, len(reason))

    def release(self, execution_id: UUID, token: UUID) -> Awaitable[Row | None]:
        """Give the claim back."""
        return self._commit.write(self._release, execution_id, (execution_id, token), 0)


class Owned:
    """One claimed execution: the `Journal` that its interpreter writes to, and what the supervisor knows of it."""

    __slots__ = (
        "_adopted",
        "called",
        "claimed_at",
        "code",
        "concluding",
        "deadline",
        "execution_id",
        "inbox",
        "interrupted",
        "parent_id",
        "paused",
        "queue",
        "started",
        "stay",
        "streamed",
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
        code: Code,
        subject: Subject,
        claimed_at: float,
        inbox: Inbox,
        parent_id: UUID | None,
        called: bool,
    ) -> None:
        self.supervisor = supervisor
        self.writes = writes
        self.execution_id = execution_id
        self.token = token
        self.queue = queue
        self.code = code
        self._adopted = code.stored is None
        self.subject = subject
        self.claimed_at = claimed_at
        self.inbox = inbox
        self.parent_id = parent_id
        self.called = called
        self.streamed: deque[Write] = deque()  # what was told and may not be durable yet
        self.stay: Stay | None = None  # its span, where there are traces
        self.suspect = False
        self.paused = False  # nothing new may begin; what runs comes to its end
        self.started = False
        self.concluding = False
        self.interrupted: Interrupted | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def may_begin(self) -> None:
        """See `Journal`."""
        if self.interrupted is not None:  # the body swallowed its cancellation
            raise Interruption(f"execution {self.subject.execution_id!r} was stopped: {self.interrupted.value}")
        if self.paused and self.subject.history.failing is None:
            raise Interruption(f"execution {self.subject.execution_id!r} is paused")
        self.supervisor.may_begin()

    def stopping(self) -> bool:
        """See `Journal`."""
        return self.interrupted is not None or self.supervisor.closing()

    def stream(self, told: Told) -> None:
        """See `Journal`."""
        write = self.writes.stream(self.execution_id, self.token, told)
        write.done.add_done_callback(self._streamed)
        self.streamed.append(write)

    def log(self, told: Told) -> None:
        """See `Journal`."""
        self.writes.stream(self.execution_id, self.token, told).done.add_done_callback(self._logged)

    def _logged(self, done: asyncio.Future[Row | None]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.supervisor.followers.moved(self.execution_id)

    def _streamed(self, done: asyncio.Future[Row | None]) -> None:
        while self.streamed and self.streamed[0].is_written:
            self.streamed.popleft()
        if not done.cancelled() and done.exception() is None:
            self.supervisor.followers.moved(self.execution_id)

    async def drain_stream(self, most: int) -> None:
        """See `Journal`."""
        while len(self.streamed) > most:
            if await self.streamed.popleft().settled(self.goes_on_elsewhere) is None:
                raise self.lost()

    async def end_of_child(self, execution_id: UUID) -> tuple[str | None, bool]:
        """See `Journal`."""
        row = await self.supervisor.fetch_result(execution_id)
        if row is None:
            return None, False
        end = _told(Ended(row["status"], row["result"], row["error"], row["reason"])) if row["ended"] else None
        return end, row["parent_id"] == self.execution_id

    async def fetch_mail(self, mail: int = 0) -> None:
        """See `Journal`. All up to number *mail* were sent before this."""
        await self.supervisor.fetch_mail(self, mail)

    async def seconds_until(self, when: datetime) -> float:
        """See `Journal`."""
        return await self.supervisor.seconds_until(when)

    async def pause(self, seconds: float) -> None:
        """See `Journal`."""
        await asyncio.sleep(seconds)

    async def begin(self) -> Transaction:
        """See `Journal`."""
        transactions = self.supervisor.transactions
        return OwnedTransaction(self, transactions, await transactions.begin())

    async def record(self, *records: Record) -> None:
        """See `Journal`."""
        if not self._adopted:
            for r in records:
                if r.path:
                    await self._adopt_before(r.path, r.target if r.kind == "completed" else None)
        # Concurrent strands have different paths: they share the lanes, so that one lane works while the other is waited for.
        strand = records[0].path
        # Of one whose crashes are counted still the plain statement writes nothing: to know that beforehand saves a try.
        plain = self.subject.crashes == 0
        if len(records) == 1:  # nearly always, and then it is to cost little
            record = records[0]
            plain = plain and _is_plain(record)
            write = self.writes.record(self.execution_id, self.token, record, strand, plain=plain)
            self._recorded(record, await write.settled(self.goes_on_elsewhere))
        else:
            # One kind for all of them that are simply appended, so that they become durable in their order; and all on their
            # way before anything is waited for: a cancellation that comes now finds none that was not begun.
            plain = plain and all(map(_is_plain, records))
            writes = [self.writes.record(self.execution_id, self.token, r, strand, plain=plain) for r in records]
            for record, write in zip(records, writes, strict=True):
                self._recorded(record, await write.settled(self.goes_on_elsewhere))
        self.moved()

    def _recorded(self, record: Record, answer: Row | None) -> None:
        """Tell whom it concerns that *record* is durable. Raises `ClaimLost`, and `AnsweredMeanwhile`, if it is not."""
        if answer is None:
            raise self.lost()
        if record.key is None and not record.takes_back and record.kind != "failing":
            return  # it concerns nobody else
        if (record.closes is not None or record.dooms is not None) and answer["answered"]:
            if (record.key or "").startswith(MATCH):
                self.supervisor.deliver_posted()
            raise AnsweredMeanwhile
        if record.asks is not None:
            self.supervisor.asked(record.asks.remind_every)
        elif record.listens is not None:
            if answer["posted"]:
                self.supervisor.deliver_posted()
        elif record.bears is not None:
            self.supervisor.became_ready(record.bears.queue)
        elif record.dooms is not None or record.takes_back or record.kind == "failing":
            # With "failing", too: who asked to undo may have done so after the claim, which then dooms the children.
            self.supervisor.cancel_doomed()

    def moved(self) -> None:
        """A record is durable."""
        if self.suspect:
            self.suspect = False
            self.supervisor.cleared()
        self.supervisor.followers.moved(self.execution_id)

    def goes_on_elsewhere(self) -> bool:
        """Whether what is not written yet may be given up: this worker stops, and the next one knows nothing of it."""
        return self.interrupted in _ELSEWHERE or self.supervisor.closing()

    def enter(self, path: str) -> Awaitable[None] | None:
        """See `Journal`."""
        if self._adopted:
            return None
        self.may_begin()
        return self._adopt_before(path)

    async def _adopt_before(self, path: str, target: str | None = None) -> None:
        """Go on under our shape, before anything is done after which code of the shape that it was begun under may not know
        what to do. Not sooner: if our code is taken back before that, the old one goes on."""
        if self._adopted or self.subject.history.failing is not None or not self.code.leaves_behind(path, target):
            return
        write = self.writes.adopt(self.execution_id, self.token, self.code.definition.shape)
        if await write.settled(self.goes_on_elsewhere) is None:
            raise self.lost()
        self._adopted = True

    def lost(self) -> ClaimLost:
        """What is raised when the claim is gone."""
        return ClaimLost(f"execution {self.subject.execution_id!r} is no longer this worker's")

    async def conclude(self, outcome: Outcome) -> None:
        """See `Journal`. From here on the task is not cancelled from our side: the write decides."""
        self.concluding = True
        ending = self.subject.history.failing is not None
        if isinstance(outcome, Blocked):
            answer = await self.writes.suspend(self.execution_id, self.token, outcome, self.inbox, ending=ending)
            if answer is not None:
                self.supervisor.suspended(self, outcome.delay, ready=answer["ready"])
                return
        else:
            ended, result_seq = _ending(outcome)
            topic = None
            if self.parent_id is not None:
                topic = (topic_of_child if self.called else topic_of_started)(self.execution_id)
            left = Left(self.parent_id, topic, self.called, list(self.subject.history.open.values()))
            write = self.writes.finish(
                self.execution_id, self.token, ended, result_seq, outcome.record, left, ending=ending
            )
            answer = await write
            if answer is not None:
                self.supervisor.finished(self, ended, answer)
                return
        raise self.lost()

    def ask_to_undo(self, reason: str) -> None:
        """Somebody has cancelled it, to be undone."""
        self.subject.undo = reason
        self.interrupt(Interrupted.UNDO)

    def go_on(self) -> None:
        """What the task was stopped for begins, in the same task."""
        self.concluding = False
        self.interrupted = None
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
        while self.task is not None and self.task.cancelling():
            self.task.uncancel()

    def interrupt(self, why: Interrupted) -> None:
        """Stop the task, unless its end is being written. The first reason stands.

        A task that has not run yet is not cancelled, for then it would never run: `may_begin` ends it.
        """
        if why in ENDING and self.subject.history.failing is not None:
            return  # it is being ended already
        if self.interrupted is None and not self.concluding and self.task is not None:
            self.interrupted = why
            if self.started:
                self.task.cancel()


def _is_plain(r: Record) -> bool:
    """Whether it has nothing but a value, if anything."""
    return r.error is None and r.delay is None and r.target is None and r.data_seq is None


def _list(parts: Iterable[object]) -> str:
    """Numbers or ids as a PostgreSQL array."""
    return "{" + ",".join(map(str, parts)) + "}"


def _taken_back(waits: Iterable[Record]) -> tuple[str | None, str | None]:
    """The questions and the children of open waits, as PostgreSQL arrays."""
    asked = [wait.seq for wait in waits if not wait.value]
    children = [json.loads(wait.value) for wait in waits if wait.value]
    return _list(asked) if asked else None, _list(children) if children else None


def _told(ended: Ended) -> str:
    """What a parent is told of an end."""
    result = msgspec.Raw((ended.result or "null").encode())
    failure = None if ended.error is None else msgspec.json.decode(ended.error, type=Failure)
    return _encode(ChildEnd(ended.status, result, failure, ended.reason)).decode()


def _child(birth: Birth) -> tuple[Any, ...]:
    """A child as ``child/bear`` takes it."""
    definition = birth.definition
    timeout = None if definition.timeout is None else definition.timeout.total_seconds()
    named = (birth.execution_id, definition.shape, definition.name, definition.version)
    return *named, birth.queue, birth.priority, birth.tags, birth.input, timeout, birth.turn


def _array(names: Iterable[str]) -> str:
    """Names as a PostgreSQL array."""
    quoted = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return "{" + ",".join(f'"{name}"' for name in quoted) + "}"


def _ending(outcome: Completed | Failed) -> tuple[Ended, int | None]:
    match outcome:
        case Completed(value=value):
            return Ended(_COMPLETED, result=value.text), value.seq
        case Failed(status=Status.CANCELLED, reason=reason):
            return Ended(Status.CANCELLED.value, reason=reason), None
        case Failed(failure=failure, status=status):
            return Ended(status.value, error=_encode(failure).decode()), None
