"""Executions in memory: a journal without a database, and what drives an interpreter over it to its end.

Owns virtual time: a retry that is due in an hour, and a short pause in place, pass at once. Bodies, timeouts of steps and
the codec are the real ones. It knows no queues, leases or other workers.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self, TypedDict, Unpack, cast
from uuid import UUID

import msgspec

from durable.authoring import In, Out, Workflow
from durable.codec import Codec, JsonCodec
from durable.engine.context import Context
from durable.engine.inbox import Inbox, Message
from durable.engine.interpreter import Interpreter
from durable.engine.journal import (
    ENDING_PATH,
    Asked,
    Birth,
    Blocked,
    Completed,
    Failed,
    History,
    Listening,
    Outcome,
    Record,
    Refused,
    Subject,
    Transaction,
)
from durable.engine.step_runner import StepRunner
from durable.engine.strands import IN_PLACE
from durable.engine.streaming import Told
from durable.errors import AnsweredMeanwhile, InternalError, Interruption, UsageError
from durable.inbox import refuse_wrong
from durable.model.answers import (
    EVENT,
    ChildEnd,
    shown_topic,
    topic_of_child,
    topic_of_input,
    topic_of_match,
    topic_of_started,
)
from durable.model.definition import Decision, Definition, Step
from durable.model.failure import Failure
from durable.model.status import Status
from durable.store.queries import load
from durable.testing.mocks import Mocks, mocked


@dataclass(frozen=True, slots=True)
class _Begun:
    """A child that was begun. `ends_at` is in the time of its parent; None until it was run."""

    birth: Birth
    called: bool
    at: float
    ends_at: float | None = None
    told: str = ""
    hangs: AssertionError | None = None


class MemoryJournal:
    """The `Journal` of one execution, kept in memory. `crashes` is how many workers died with it in flight."""

    def __init__(self, *, crashes: int = 0, codec: Codec | None = None) -> None:
        self.crashes = crashes
        self._codec = codec or JsonCodec()
        self._records: dict[int, Record] = {}
        self.dropped: list[Record] = []  # final failures that are no longer among the records
        self.ended: Completed | Failed | None = None
        self.claims = 0  # how often somebody has taken it up
        self._due: dict[int, float] = {}  # by the number of a failed record: when its next attempt is due
        self._wake_at = 0.0
        self._skipped = 0.0
        self._began = asyncio.get_running_loop().time()
        self._deadline: float | None = None
        self._stopping = False
        self._dead = False
        self.inbox = Inbox()
        self._messages: dict[int, Message] = {}  # those that nobody has consumed
        self._sent = 0
        self._topics: list[str] = []  # what wakes it
        self._coming: list[tuple[str, str]] = []  # what is to be sent once it is waited for
        self._listening: dict[int, Listening] = {}  # by the number of its record
        self._asked: dict[int, Asked] = {}  # what is asked and not answered, by the number of its record
        self._answered: set[int] = set()  # what was asked and has an answer, by the number of its record
        self._answers: list[tuple[str, str]] = []  # what is to be answered once it is asked
        self._begun: dict[UUID, _Begun] = {}  # children whose end was not told yet
        self.told: list[Told] = []  # by the bodies
        self.connection: Any = None  # that of the test, for transactional steps
        self._turn = asyncio.Lock()  # whose it is
        self._ends: dict[UUID, str] = {}  # how those have ended that were only started

    @property
    def records(self) -> list[Record]:
        """All that is recorded, in the order in which it was."""
        return list(self._records.values())

    @property
    def now(self) -> float:
        """Seconds since the execution began: real ones, and those that were skipped."""
        return asyncio.get_running_loop().time() - self._began + self._skipped

    def taken_over(self) -> Self:
        """What another worker finds if this one dies now. Nothing that is written here afterwards reaches it."""
        other = copy.copy(self)
        other._records = dict(self._records)
        other.dropped = list(self.dropped)
        other._due = dict(self._due)
        other._messages = dict(self._messages)  # a copy: what the dead one consumes from now on does not count
        other._coming = list(self._coming)
        other._asked = dict(self._asked)
        other._answered = set(self._answered)
        other._listening = dict(self._listening)
        other._answers = list(self._answers)
        other._begun = dict(self._begun)
        other._ends = dict(self._ends)
        other.told = list(self.told)
        other.crashes += 1
        return other

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed; never when the execution is being ended."""
        return self._deadline is not None and self.now >= self._deadline

    def claim(self, timeout: float | None) -> tuple[History, float | None]:
        """Skip to when there is something to do. Returns the history, and what is left of *timeout*, in seconds."""
        self._stopping = self._dead = False
        self.claims += 1
        records = sorted(self._records.values(), key=lambda record: record.seq)
        if History(records).failing is not None:
            timeout = None  # it is being ended already
        self._deadline = timeout
        wake_at = self._wake_at if timeout is None else min(self._wake_at, timeout)
        if not self._comes() and not self._a_child_ends(wake_at) and wake_at > self.now:
            if math.inf == wake_at:
                for begun in self._begun.values():
                    if begun.hangs is not None:
                        raise begun.hangs
                raise AssertionError(
                    f"the execution waits for {[shown_topic(topic) for topic in self._topics]}, and nothing of that is sent. "
                    "Give it to the test: events=[...], inputs=[...]."
                )
            self._skipped += wake_at - self.now
        self._tell_of_children()
        self._wake_at, self._topics = 0.0, []
        self.inbox = Inbox()
        self.inbox.put(self._messages.values(), self._sent)
        left = None if timeout is None else timeout - self.now
        return History([self._read_back(record) for record in records]), left

    def retry(self) -> None:
        """Somebody has it retried, after it has failed."""
        assert isinstance(self.ended, Failed)
        assert self.ended.status is Status.FAILED
        self.ended = None
        seq = max(self._records, default=0) + 1
        self._records[seq] = Record(seq, ENDING_PATH, "retried")
        self._wake_at, self._topics, self.crashes = 0.0, [], 0
        for left_behind in (self._asked, self._listening, self._begun):
            left_behind.clear()

    def send(self, name: str, payload: str) -> None:
        """An event is sent now, whether it is waited for or not. *payload* is JSON."""
        self._send(f"{EVENT}{name}", payload)

    def send_when_awaited(self, name: str, payload: str) -> None:
        """An event is to be sent as soon as the execution sleeps until one of its name comes."""
        self._coming.append((f"{EVENT}{name}", payload))

    def answer_when_asked(self, name: str, payload: str) -> None:
        """A question of this name is to be answered as soon as the execution sleeps until then."""
        self._answers.append((name, payload))

    def _send(self, topic: str, payload: str) -> None:
        self._sent += 1
        self._messages[self._sent] = Message(self._sent, topic, payload)

    def _comes(self) -> bool:
        """Whether something comes that the execution sleeps for."""
        for place, (topic, payload) in enumerate(self._coming):
            if topic in self._topics:
                del self._coming[place]
                self._send(topic, payload)
                return True
            listening = {
                seq: topic_of_match(seq, wait.name)
                for seq, wait in self._listening.items()
                if topic == f"{EVENT}{wait.name}" and _is_in(wait.match, payload)
            }
            if any(wanted in self._topics for wanted in listening.values()):
                del self._coming[place]
                for seq, wanted in listening.items():  # what is emitted reaches all that listen
                    del self._listening[seq]
                    self._send(wanted, payload)
                return True
        for place, (name, payload) in enumerate(self._answers):
            for seq, asked in self._asked.items():
                if asked.name == name and topic_of_input(seq, name) in self._topics:
                    refuse_wrong("memory", name, asked.request, payload, self._codec)
                    del self._answers[place], self._asked[seq]
                    self._answered.add(seq)
                    self._send(topic_of_input(seq, name), payload)
                    return True
        return False

    async def run_children(self, run: Callable[[Birth, MemoryJournal], Awaitable[None]]) -> None:
        """Run the children that were begun, each to its end: what comes from outside may come to them."""
        for id, begun in self._begun.items():
            if begun.ends_at is not None:
                continue
            journal = MemoryJournal(codec=self._codec)
            journal._coming, journal._answers = self._coming, self._answers
            journal.connection, journal._turn = self.connection, self._turn
            try:
                await run(begun.birth, journal)
            except AssertionError as hangs:
                self._begun[id] = replace(begun, ends_at=math.inf, hangs=hangs)
            else:
                self._begun[id] = replace(begun, ends_at=begun.at + journal.now, told=journal.told_to_parent())

    def told_to_parent(self) -> str:
        """What a parent is told of the end."""
        match self.ended:
            case Completed(value=value):
                end = ChildEnd(Status.COMPLETED.value, msgspec.Raw(value.text.encode()))
            case Failed(failure=failure, status=status, reason=reason):
                end = ChildEnd(status.value, msgspec.Raw(b"null"), failure, reason)
            case None:
                raise InternalError("the execution has not ended")
        return msgspec.json.encode(end).decode()

    def _a_child_ends(self, before: float) -> bool:
        """Whether one ends that the execution sleeps for, *before* something else wakes it; then it is as late as that."""
        ends = [
            begun.ends_at
            for id, begun in self._begun.items()
            if begun.ends_at is not None and (topic_of_child if begun.called else topic_of_started)(id) in self._topics
        ]
        if not ends or min(ends) == math.inf or min(ends) > max(before, self.now):
            return False
        self._skipped += max(min(ends) - self.now, 0.0)
        return True

    def _tell_of_children(self) -> None:
        for id, begun in sorted(self._begun.items(), key=lambda item: item[1].ends_at or 0.0):
            if begun.ends_at is not None and begun.ends_at <= self.now:
                if begun.called:
                    self._send(topic_of_child(id), begun.told)
                else:
                    self._sent += 1  # a message that only wakes
                    self._ends[id] = begun.told
                del self._begun[id]

    def stream(self, told: Told) -> None:
        """See `Journal`."""
        self.told.append(told)

    def log(self, told: Told) -> None:
        """See `Journal`. What bodies log in memory is not kept."""

    async def drain_stream(self, most: int) -> None:
        """See `Journal`. What is told is kept at once."""

    async def end_of_child(self, execution_id: UUID) -> tuple[str | None, bool]:
        """See `Journal`."""
        return self._ends.get(execution_id), True

    def _read_back(self, record: Record) -> Record:
        due = self._due.get(record.seq)
        return record if due is None else msgspec.structs.replace(record, delay=max(due - self.now, 0.0))

    async def record(self, *records: Record) -> None:
        """See `Journal`."""
        for record in records:
            await self._write(functools.partial(self._append, record))

    async def begin(self) -> Transaction:
        """See `Journal`. One at a time: all have the one connection of the test."""
        transaction = _MemoryTransaction(self, self.connection, self._turn)
        await transaction.start()
        return transaction

    async def commit(self, record: Record, commit: Callable[[], Awaitable[None]]) -> None:
        """Append what is durable as soon as *commit* has returned."""
        await self._write(functools.partial(self._append, record), commit)

    async def conclude(self, outcome: Outcome) -> None:
        """See `Journal`."""
        await self._write(lambda: self._conclude(outcome))

    def enter(self, path: str) -> None:
        """See `Journal`."""

    def may_begin(self) -> None:
        """See `Journal`."""
        if self._stopping or self.overdue:
            raise Interruption("the execution was stopped")

    def stopping(self) -> bool:
        """See `Journal`."""
        return self._stopping

    async def fetch_mail(self) -> None:
        """See `Journal`. What is sent here is in the inbox at once."""

    async def seconds_until(self, when: datetime) -> float:
        """See `Journal`. The execution began at the real time at which it did."""
        return (when - datetime.now(UTC)).total_seconds() - self._skipped

    async def pause(self, seconds: float) -> None:
        """See `Journal`. A short one passes at once, but lets other tasks go first; those at the same time pass together. A
        long one does not pass while anybody is busy: when all wait, they let go, and `claim` skips to what comes first."""
        if seconds > IN_PLACE:
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        until = self.now + seconds
        await asyncio.sleep(0)
        self._skipped += max(until - self.now, 0.0)

    def stop(self, *, dead: bool = True) -> None:
        """Call it before cancelling the interpreter's task: the cancellation is then known not to be the body's. It goes on
        elsewhere, unless it is not *dead*: then it ends here."""
        self._stopping = True
        self._dead = dead

    def resume(self) -> None:
        """What it was stopped for begins."""
        self._stopping = False
        self._deadline = None

    async def _write(self, write: Callable[[], None], commit: Callable[[], Awaitable[None]] | None = None) -> None:
        cancelled = False if commit is None else await _to_its_end(commit())
        write()
        if cancelled and self._dead:
            raise asyncio.CancelledError
        try:
            await asyncio.sleep(0)  # as in life, a reply comes in a later turn of the loop
        except asyncio.CancelledError:
            if self._dead:
                raise

    def _append(self, record: Record) -> None:
        if self.ended is not None:
            raise InternalError(f"record {record.seq} ({record.path!r}) was written after the end")
        if record.seq in self._records:
            raise InternalError(f"record {record.seq} ({record.path!r}) was written after another of this number")
        if record.closes in self._answered:
            raise AnsweredMeanwhile
        if record.delay is not None:
            self._due[record.seq] = self.now + record.delay
        for number in record.consumes:
            if self._messages.pop(number, None) is None:
                raise InternalError(f"record {record.seq} ({record.path!r}) consumes the message {number} once more")
        for seq in record.drops:
            dropped = self._records.pop(seq)
            if dropped.kind == "failed" and dropped.delay is None:
                self.dropped.append(dropped)
        if record.kind == "continued":
            self._records.clear()
        self._records[record.seq] = msgspec.structs.replace(
            record, drops=()
        )  # a copy: what the interpreter does to its own is not durable
        if record.listens is not None:
            self._listening[record.seq] = record.listens
        if record.asks is not None:
            self._asked[record.seq] = record.asks
        if record.closes in self._listening:
            del self._listening[record.closes]
        elif record.closes is not None and self._asked.pop(record.closes, None) is None:
            raise InternalError(f"record {record.seq} ({record.path!r}) closes what is not asked")
        if record.bears is not None:
            self._begun[record.bears.execution_id] = _Begun(record.bears, record.kind == "waiting", self.now)
        for wait in record.takes_back:
            self._asked.pop(wait.seq, None)
            self._listening.pop(wait.seq, None)
            if wait.value is not None:
                self._begun.pop(msgspec.json.decode(wait.value, type=UUID), None)
        if record.dooms is not None:
            self._begun.pop(record.dooms, None)
        self.crashes = 0
        if record.kind == "failing":
            self._deadline = None

    def _conclude(self, outcome: Outcome) -> None:
        if outcome.record is not None:
            self._append(outcome.record)
        if isinstance(outcome, Blocked):
            late = self.inbox.seen_asleep() < self._sent
            self._wake_at = self.now if late else self.now + outcome.delay
            self._topics = self.inbox.topics()
        else:
            self.ended = outcome


async def _to_its_end(work: Awaitable[None]) -> bool:
    """Await *work*, however often this task is cancelled meanwhile. Returns whether it was."""
    working = asyncio.ensure_future(work)
    cancelled = False
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError:
            cancelled = True
    working.result()
    return cancelled


class _MemoryTransaction:
    """A transaction on the connection of the test, if it has given one."""

    def __init__(self, journal: MemoryJournal, connection: Any, turn: asyncio.Lock) -> None:
        self._journal = journal
        self._connection = connection
        self._turn = turn
        self._open: Any = None
        self.is_lost = False

    async def start(self) -> None:
        await self._turn.acquire()
        try:
            if self._connection is not None:
                begun = self._connection.transaction()
                cancelled = await _to_its_end(begun.start())
                self._open = begun
                if cancelled:
                    raise asyncio.CancelledError
        except BaseException:
            await self.close()
            raise

    @property
    def connection(self) -> Any:
        if self._connection is None:
            raise UsageError(
                "this test has no connection for transactional steps. Give it one, run(..., connection=...), or a mock of "
                "the step."
            )
        return self._connection

    async def commit(self, record: Record) -> None:
        await self._journal.commit(record, self._commit)

    async def _commit(self) -> None:
        if self._open is not None:
            begun = self._open
            try:
                if not self._connection.is_in_transaction():
                    raise UsageError("the body has ended its transaction. Leave out COMMIT and ROLLBACK.")
                await self._connection.fetch(load("transaction/check").sql)
                self._open = None
                await begun.commit()
            except Exception as error:
                raise Refused(error) from error

    async def close(self) -> None:
        try:
            if self._open is not None and self._connection.is_in_transaction():
                await _to_its_end(self._open.rollback())
        finally:
            self._turn.release()


def _is_in(match: str, payload: str) -> bool:
    """Whether what is to be in an event is."""
    found: Any = msgspec.json.decode(payload)
    wanted: dict[str, Any] = msgspec.json.decode(match)
    if not isinstance(found, dict):
        return False
    there = cast("dict[str, Any]", found)
    return all(
        key in there
        and there[key] == value
        and isinstance(there[key], bool) == isinstance(value, bool)  # 1 is not True
        for key, value in wanted.items()
    )


class CountingRunner(StepRunner):
    """A step runner that tells of each body it is about to call."""

    def __init__(self, codec: Codec, called: Callable[[Context], None]) -> None:
        super().__init__(codec, threads=4, processes=1)
        self._called = called

    async def _call(
        self,
        step: Step | Decision,
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        context: Context,
        variables: contextvars.Context,
        may_begin: Callable[[], None],
    ) -> Any:
        self._called(context)
        return await super()._call(step, arguments, keywords, context, variables, may_begin)


@dataclass(frozen=True, slots=True)
class Worker:
    """Interprets one execution; what it may forget when it dies is in none of its fields."""

    definition: Definition
    input: str
    runner: StepRunner
    execution_id: str = "memory"
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    max_crashes: int = 5

    async def run(self, journal: MemoryJournal) -> None:
        """Run to the end. If cancelled, the interpreter is stopped, and what it does after that is waited for."""
        task = asyncio.create_task(self._run(journal))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            journal.stop()
            task.cancel()
            await asyncio.wait({task})
            raise
        task.result()

    async def _run(self, journal: MemoryJournal) -> None:
        children = StepRunner(self.runner.codec, threads=4, processes=1)  # what they call is not counted

        async def run_child(birth: Birth, of_child: MemoryJournal) -> None:
            tags = msgspec.json.decode(birth.tags or "{}", type=dict[str, Any])
            await Worker(birth.definition, birth.input, children, str(birth.execution_id), tags).run(of_child)

        try:
            while journal.ended is None:
                await journal.run_children(run_child)
                await self._go_on(journal)
            await journal.run_children(run_child)
        finally:
            children.close()

    async def _go_on(self, journal: MemoryJournal) -> None:
        """Claim it, and let go of it."""
        timeout = None if self.definition.timeout is None else self.definition.timeout.total_seconds()
        history, left = journal.claim(timeout)
        subject = Subject(
            self.execution_id,
            self.definition.name,
            self.input,
            history,
            self.tags,
            journal.crashes,
            deadline_passed=left is not None and left <= 0,
        )
        if history.failing is not None:
            left = None
            journal.resume()
        interpreter = Interpreter(self.definition, subject, journal, self.runner, max_crashes=self.max_crashes)
        await journal.conclude(await _within_deadline(interpreter, journal, left))


async def _within_deadline(interpreter: Interpreter, journal: MemoryJournal, left: float | None) -> Outcome:
    if left is None or left <= 0:
        if left is not None:
            journal.resume()
        return await interpreter.run()
    task = asyncio.current_task()
    assert task is not None
    struck = False

    def strike() -> None:
        nonlocal struck
        if interpreter.subject.history.failing is None:  # else it is being ended already
            struck = True
            journal.stop(dead=False)
            task.cancel()

    outcome: Outcome | None = None
    timer = asyncio.get_running_loop().call_later(left, strike)
    try:
        outcome = await interpreter.run()
    except asyncio.CancelledError:
        if not struck:
            raise
    except Interruption:  # the deadline passed in a pause, or the body swallowed its cancellation
        if not (struck or journal.overdue):
            raise
    finally:
        timer.cancel()
    if outcome is None or (struck and not isinstance(outcome, Failed)):
        while task.cancelling():
            task.uncancel()
        journal.resume()
        return await interpreter.deadline_exceeded(outcome)
    return outcome


@dataclass(frozen=True, slots=True)
class Run:
    """How an execution went. `text` is the result as JSON, `calls` counts the calls of bodies by path, and `seconds` is
    how long it took in virtual time. `dropped` are final failures that `records` has no more: their iteration is over."""

    status: Status
    result: Any
    text: str | None
    failure: Failure | None
    records: list[Record]
    calls: Counter[str]
    seconds: float
    dropped: list[Record] = field(default_factory=list[Record])
    told: list[Told] = field(default_factory=list[Told])

    @classmethod
    def of(cls, journal: MemoryJournal, definition: Definition, codec: Codec, calls: Counter[str]) -> Run:
        """Read a journal that has an end."""
        match journal.ended:
            case Completed(value=value):
                result = codec.decode(value.text, definition.output_type)
                ended = Status.COMPLETED, result, value.text, None
            case Failed(failure=failure, status=status):
                ended = status, None, None, failure
            case None:
                raise InternalError("the execution has not ended")
        return cls(*ended, journal.records, calls, journal.now, journal.dropped, journal.told)


class Outside(TypedDict, total=False):
    """What comes to an execution from outside; see `run`."""

    events: Sequence[tuple[str, Any]]
    events_before: Sequence[tuple[str, Any]]
    inputs: Sequence[tuple[str, Any]]
    connection: Any


def send_all(journal: MemoryJournal, codec: Codec, outside: Outside) -> None:
    """Let it come."""
    journal.connection = outside.get("connection")
    for name, payload in outside.get("events_before", ()):
        journal.send(name, codec.encode(payload))
    for name, payload in outside.get("events", ()):
        journal.send_when_awaited(name, codec.encode(payload))
    for name, payload in outside.get("inputs", ()):
        journal.answer_when_asked(name, codec.encode(payload))


async def run(
    workflow: Workflow[In, Out],
    input: In,
    *,
    mocks: Mocks | None = None,
    execution_id: str = "memory",
    tags: Mapping[str, Any] | None = None,
    crashes: int = 0,
    max_crashes: int = 5,
    codec: Codec | None = None,
    **outside: Unpack[Outside],
) -> Run:
    """Run *workflow* on *input* to its end, in memory. No retry and no pause takes real time; bodies do.

    *mocks* stand in for bodies: by the name of a step, or its path without visits and indices (``"fetch/user"``), a function
    to call in its place (async or not, with the parameters that it asks for), an exception to raise, or a value to return.
    *events* are names and payloads, each sent once the execution sleeps until one of its name comes; *events_before* are sent
    before it begins; *inputs* are names and answers, each given once it is asked. *connection* is an asyncpg connection for
    transactional steps, one after the other. *crashes* is how many workers died with it before.

    Raises `DefinitionError`, `EncodeError`, `UsageError` for a mock of a step that does not exist, `InputRejected`, and
    `AssertionError` when it waits for ever for what is not sent. If cancelled, the step that runs is cancelled.
    """
    definition, codec = mocked(workflow.definition, mocks), codec or JsonCodec()
    calls: Counter[str] = Counter()
    runner = CountingRunner(codec, lambda context: calls.update([context.path]))
    worker = Worker(
        definition, codec.encode(input, definition.input_type), runner, execution_id, tags or {}, max_crashes
    )
    journal = MemoryJournal(crashes=crashes, codec=codec)
    send_all(journal, codec, outside)
    try:
        await worker.run(journal)
    finally:
        runner.close()
    return Run.of(journal, definition, codec, calls)
