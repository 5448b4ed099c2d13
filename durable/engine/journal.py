"""The journal's protocol: what the interpreter asks and tells, whatever keeps it.

Data travels between nodes as JSON text together with the number of the record that holds it, so that it is encoded once,
decoded by each step for itself, and never stored twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias
from uuid import UUID

import msgspec

from durable.engine.inbox import Inbox
from durable.engine.streaming import Told
from durable.errors import InternalError
from durable.model.answers import CHILD, INPUT, MATCH
from durable.model.definition import Definition
from durable.model.failure import Failure
from durable.model.inputs import Request
from durable.model.paths import outer_paths
from durable.model.status import Status

if TYPE_CHECKING:
    from durable.engine.context import Connection

Kind: TypeAlias = Literal[
    "completed",
    "failed",
    "started",
    "chosen",
    "items",
    "iterated",
    "failing",
    "waiting",
    "ran",
    "tried",
    "answered",
    "expired",
    "continued",
    "retried",
    "forked",
]
"""What a record says: a node's result or failure; that a step which may have to be undone was begun; the case a branch has
chosen; the items of a foreach; the data after an iteration of a loop; why the execution has failed and is being ended; and of
the effects of a body: that it waits, the result of a call that is made once, or the failure of one, what a wait was given, or
that nothing came in time. At last, that the execution was begun afresh: what it holds then is the input."""

ENDING_PATH = ""  # where the record stands that the execution is being ended


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to people. `text` is a `durable.model.inputs.Request` as the codec writes it; `remind_every` is in seconds."""

    name: str
    request: Request
    text: str
    remind_every: float | None


@dataclass(frozen=True, slots=True)
class Birth:
    """A child that is begun. `input` and `tags` are JSON text; `turn` is with whom it takes turns in its queue."""

    execution_id: UUID
    definition: Definition
    input: str
    queue: str
    priority: int
    tags: str | None = None
    turn: str | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """A wait for an event *name* in which *match* is, a JSON object; for one of *lookback* seconds before as well."""

    name: str
    match: str
    lookback: float | None


class Record(msgspec.Struct):
    """One thing that has happened.

    `attempt` counts the tries of a step from 1, the iterations of an ``iterated``, and is 0 elsewhere. `value` is the result
    as JSON text; None when the step returned None, or a loop has not changed the data so far: the data goes on unchanged.
    `target` is the node of a `Goto`, or the label of a chosen case. `delay`, in seconds, is the pause until the next
    attempt: None on a failure that is final. When a record is read back, `delay` is what is left of it. `seconds` is how
    long the body ran. `data_seq` is, for a step that can be undone and has no value of its own, the record that holds its
    data (0: the input). `drops` are records that this one makes superfluous. `key` tells an effect of a body from its others;
    `attempt` is then that of the step, and `delay` how long a wait takes at most. `consumes` are the messages that it takes.
    `asks` is what a wait asks people, `listens` what it is to be in an event, `bears` the child that it begins; `closes`, of
    one that has expired, the record that has asked or listened, `dooms` the child that is to be cancelled. `takes_back` are the
    open waits that end with it.
    """

    seq: int
    path: str
    kind: Kind
    attempt: int = 0
    value: str | None = None
    error: str | None = None
    delay: float | None = None
    seconds: float = 0.0
    target: str | None = None
    data_seq: int | None = None
    drops: tuple[int, ...] = ()
    key: str | None = None
    consumes: tuple[int, ...] = ()
    asks: Asked | None = None
    listens: Listening | None = None
    closes: int | None = None
    bears: Birth | None = None
    dooms: UUID | None = None
    takes_back: tuple[Record, ...] = ()

    @property
    def failure(self) -> Failure:
        """The failure that this record holds."""
        if self.error is None:
            raise InternalError(f"the record {self.seq} of a failure at {self.path!r} holds no error")
        return msgspec.json.decode(self.error, type=Failure)


class Past(msgspec.Struct):
    """What is recorded at one path. `note` is what is neither result nor failure: a node has one kind of it. `effects` are
    those of the body, by their keys. `forgiven` is how many failures came before somebody had the execution retried."""

    completed: Record | None = None
    failures: tuple[Record, ...] = ()
    forgiven: int = 0
    note: Record | None = None
    effects: dict[str, list[Record]] | None = None

    @property
    def final(self) -> Record | None:
        """The failure after which nothing was tried again."""
        last = self.failures[-1] if len(self.failures) > self.forgiven else None
        return last if last is not None and last.delay is None else None

    def records(self) -> Iterator[Record]:
        """All that is recorded here."""
        for records in (self.effects or {}).values():
            yield from records
        yield from self.failures
        if self.note is not None:
            yield self.note
        if self.completed is not None:
            yield self.completed


class History:
    """Everything recorded in one execution, by path. `failing` says that it has failed and is being ended; `pinned` is the
    data that compensations will need, by the numbers of the records that hold it; `open` are the waits that have asked
    people, begun a child, or listen for what is in events, and have no answer, by path and key. `begun_afresh` is the record
    that it was, whose number of times is its `life`. `retries` is how often somebody had it retried. `forked` is what nodes are
    given, by path, in place of the data that comes to them."""

    __slots__ = ("_inside", "begun_afresh", "by_path", "failing", "forked", "next_seq", "open", "pinned", "retries")

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.by_path: dict[str, Past] = {}
        self.failing: Record | None = None
        self.begun_afresh: Record | None = None
        self.forked: dict[str, Record] | None = None
        self.retries = 0
        self.next_seq = 1
        self.pinned: dict[int, str] = {}
        self.open: dict[tuple[str, str], Record] = {}
        self._inside: dict[
            str, dict[str, None]
        ] = {}  # by item or iteration: the paths and iterations directly inside it
        if records:
            wanted = {record.data_seq for record in records}
            for record in records:
                if (record.seq in wanted or record.kind == "forked") and record.value is not None:
                    self.pinned[record.seq] = record.value
                self.add(record)

    def add(self, record: Record) -> None:
        """Take in a record that is durable."""
        if record.seq >= self.next_seq:
            self.next_seq = record.seq + 1
        for wait in record.takes_back:
            self.open.pop((wait.path, wait.key or ""), None)
        if record.kind == "completed":  # most are
            self._at(record.path).completed = record
            return
        if record.kind == "failing":
            self.failing = record
            return
        if record.kind == "continued":
            self.begun_afresh = record
            self.by_path.clear()
            self._inside.clear()
            self.open.clear()
            return
        if record.kind == "forked":
            if record.target is not None and record.value is not None:
                self.forked = {**(self.forked or {}), record.target: record}
            return
        if record.kind == "retried":
            self.retries += 1
            self._forgive()
            return
        past = self._at(record.path)
        if record.key is not None:
            if past.effects is None:
                past.effects = {}
            past.effects.setdefault(record.key, []).append(record)
            if record.key.startswith((INPUT, CHILD, MATCH)):
                if record.kind == "waiting":
                    self.open[record.path, record.key] = record
                else:
                    self.open.pop((record.path, record.key), None)
        elif record.kind == "failed":
            past.failures += (record,)
        else:
            past.note = record

    def _at(self, path: str) -> Past:
        past = self.by_path.get(path)
        if past is None:
            past = self.by_path[path] = Past()
            self._place(path)
        return past

    def _forgive(self) -> None:
        """It has failed, and goes on all the same: what failed is tried anew, and what was waited for in vain is waited for
        anew. Of its ending nothing is left."""
        if self.failing is not None:
            ending = self.failing.seq
            self.failing = None
            begun = {path: next(past.records(), None) for path, past in self.by_path.items()}
            undone = [path for path, first in begun.items() if first is not None and first.seq > ending]
            self.forget([path for path in undone if not self.by_path[path].effects])
            for past in (
                self.by_path[path] for path in undone if path in self.by_path
            ):  # its children have had their ids
                past.completed = past.note = None
                past.failures = ()
                past.effects = {key: _void(records) for key, records in (past.effects or {}).items()}
        self.open.clear()
        for past in self.by_path.values():
            past.forgiven = len(past.failures)
            if past.completed is None and past.effects is not None:
                past.effects = {key: _voided(records) for key, records in past.effects.items()}

    def is_over(self, path: str) -> bool:
        """Whether *path* is inside a node that has its result, or an iteration that is over: nothing there is walked again."""
        for outer in outer_paths(path):
            past = self.by_path.get(outer)
            if past is None:
                continue
            if past.completed is not None or past.final is not None:
                return True
            if past.note is not None and past.note.kind == "iterated":
                iteration = path[len(outer) + 1 :].partition("]")[0]
                if int(iteration) < past.note.attempt:
                    return True
        return False

    @property
    def life(self) -> int:
        """How often the execution was begun afresh."""
        return 0 if self.begun_afresh is None else self.begun_afresh.attempt

    def in_vain(self) -> list[Record]:
        """The open waits whose answer nobody will read: their step is over."""
        return [record for record in self.open.values() if self._is_left(record)]

    def _is_left(self, record: Record) -> bool:
        past = self.by_path.get(record.path)
        if past is None or past.completed is not None or past.final is not None:
            return True
        if self.failing is not None:  # what is done now undoes what is over
            return record.seq < self.failing.seq
        return self.is_over(record.path)

    def open_at(self, paths: Collection[str]) -> tuple[Record, ...]:
        """The open waits at some paths."""
        return tuple(record for (path, _), record in self.open.items() if path in paths)

    def take_seq(self) -> int:
        """The number of the next record."""
        seq = self.next_seq
        self.next_seq = seq + 1
        return seq

    def pin(self, value: Value) -> None:
        """A compensation will need this data: its record is not to be dropped."""
        if value.seq:
            self.pinned[value.seq] = value.text

    def within(self, iteration: str) -> list[str]:
        """The paths inside an item or iteration, e.g. ``up[3]``, at any depth."""
        found: list[str] = []
        for path in self._inside.get(iteration, ()):
            found += self.within(path) if path.endswith("]") else [path]
        return found

    def forget(self, paths: Collection[str]) -> None:
        """Drop all that is recorded at *paths*."""
        for wait in self.open_at(set(paths)):
            del self.open[wait.path, wait.key or ""]
        for path in paths:
            del self.by_path[path]
            while (outer := _iteration_of(path)) is not None:
                inside = self._inside[outer]
                del inside[path]
                if inside:
                    break
                del self._inside[outer]
                path = outer

    def _place(self, path: str) -> None:
        while (outer := _iteration_of(path)) is not None:
            known = outer in self._inside
            self._inside.setdefault(outer, {})[path] = None
            if known:
                break
            path = outer


def _voided(records: list[Record]) -> list[Record]:
    """What is left of an effect that has no answer: that it was tried. A sleep has none, and goes on."""
    last = records[-1]
    in_vain = last.kind == "expired" and last.error is None  # the body went on without an answer
    if last.kind in ("answered", "ran") or in_vain or (last.key or "").startswith(("sleep", "schedule_at")):
        return records
    return _void(records)


def _void(records: list[Record]) -> list[Record]:
    """That an effect was tried. It holds in no attempt."""
    return [msgspec.structs.replace(record, attempt=0, error=record.error or "{}") for record in records]


def _iteration_of(path: str) -> str | None:
    """The innermost item or iteration that *path*, or another iteration, stands in."""
    end = path.rfind("]", 0, len(path) - 1)
    return None if end < 0 else path[: end + 1]


class Value(msgspec.Struct):
    """Data on its way: JSON text, and the number of the record that holds it (0: the execution's input)."""

    text: str
    seq: int


class Completed(msgspec.Struct):
    """The execution has a result. `record`, here and below, is a last record that is not durable yet."""

    value: Value
    record: Record | None = None


class Failed(msgspec.Struct):
    """The execution has ended otherwise, as *status* says; `reason` is that of a cancellation."""

    failure: Failure
    record: Record | None = None
    status: Status = Status.FAILED
    reason: str | None = None


class Blocked(msgspec.Struct):
    """Nothing can be done for *delay* seconds (infinity: until a message comes): the execution lets go of its slot."""

    delay: float
    record: Record | None = None


Outcome: TypeAlias = Completed | Failed | Blocked


class Subject(msgspec.Struct):
    """The execution that is interpreted: what the definition does not say."""

    execution_id: str
    workflow: str
    input: str
    history: History
    tags: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    crashes: int = 0
    deadline_passed: bool = False
    undo: str | None = None  # the reason of a cancellation that asks for compensation


class Refused(Exception):
    """A transaction was not committed, for a *reason* that lies in what was done in it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class NotCommitted(Exception):
    """A transaction was not committed, through no fault of the body, which is to run again. *reason* is what came between."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


class Transaction(Protocol):
    """What the body of a transactional step writes in. It is rolled back when it is closed and was not committed."""

    @property
    def connection(self) -> Connection:
        """The author's, for as long as the body runs."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone: nothing of what was written is there."""
        ...

    async def commit(self, record: Record) -> None:
        """Append *record*, a result, and commit. Raises `Refused`, `NotCommitted`, and like `Journal.record`, by whose rules
        it is cancelled."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class Journal(Protocol):
    """Where an execution's records go. Each method returns when what it was told is durable."""

    async def record(self, *records: Record) -> None:
        """Append records, in their order. Raises `ClaimLost` when the execution is no longer ours. If cancelled by whoever
        stops the execution to go on elsewhere, it may have happened. Any other cancellation waits for it, and is not
        raised: what was done is known, and nothing new begins anyway. Raises `AnsweredMeanwhile` when a question is to be
        closed that somebody has answered: its message is there."""
        ...

    async def begin(self) -> Transaction:
        """Begin a transaction for the body of a step, as soon as that can be. Raises like `record`. If cancelled, there is
        none."""
        ...

    async def conclude(self, outcome: Outcome) -> None:
        """End the execution, or put it to sleep. Raises like `record`. If cancelled, it may have happened."""
        ...

    def enter(self, path: str) -> Awaitable[None] | None:
        """An attempt is about to begin at *path*; what has to be durable before, if anything. Raises like `may_begin`, and
        when it is awaited like `record`."""
        ...

    def may_begin(self) -> None:
        """Raise an `Interruption` when no new attempt may begin here: the worker drains, its lease is about to lapse, or
        the execution was asked to stop."""
        ...

    def stopping(self) -> bool:
        """Whether the execution was asked to stop from outside. A cancellation without that is its body's own doing."""
        ...

    @property
    def inbox(self) -> Inbox:
        """What was sent to the execution. When it is put to sleep, the messages that its inbox names wake it."""
        ...

    def stream(self, told: Told) -> None:
        """Something that a body tells is to become durable, after all that was told before."""
        ...

    def log(self, told: Told) -> None:
        """Something that a body has logged is to become durable, if it can; nobody waits for it."""
        ...

    async def drain_stream(self, most: int) -> None:
        """Wait until at most so many of what was told are not durable yet. Raises like `record`."""
        ...

    async def end_of_child(self, execution_id: UUID) -> tuple[str | None, bool]:
        """How a child has ended, as its parent is told (`durable.model.answers.ChildEnd`), None while it has not; and whether
        this execution is its parent, which is sent a message then. A fork is not, of what the other one has started."""
        ...

    async def fetch_mail(self) -> None:
        """Put what was sent by now into the inbox. Raises `ClaimLost`."""
        ...

    async def seconds_until(self, when: datetime) -> float:
        """How long it is to an instant, by the clock that decides about time. Raises `ClaimLost`."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait for so long, keeping the slot. Where time is virtual, it passes at once."""
        ...
