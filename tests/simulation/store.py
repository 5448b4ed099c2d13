"""The tables, and what each statement does to them, in plain Python: ``sql/queries`` told a second time, one by one.

A statement that is not told here is refused, so that a scenario cannot come to rest on something that nobody wrote down. After
each commit, what must always hold is looked at.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from durable.store.queries import Query, load, sql_folder

EPOCH = 1_800_000_000.0  # what the clock of the database says when the simulation begins


class Violation(AssertionError):
    """A promise was broken."""


class Row(tuple[Any, ...]):
    """A row as asyncpg gives it: by number, or by name."""

    names: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.names.index(key) if isinstance(key, str) else key)

    def __repr__(self) -> str:
        return str(dict(zip(self.names, self, strict=True)))


@dataclass
class Execution:
    execution_id: UUID
    shape_id: int
    workflow: str
    version: int
    queue: str
    priority: int
    name: str | None
    tags: str | None
    input: str
    started_by: UUID
    created_at: float
    due_at: float
    deadline_at: float | None
    parent_id: UUID | None = None
    called: bool = False
    given_up: bool = False
    status: str = "pending"
    undo: str | None = None
    undo_by: UUID | None = None
    released_by: UUID | None = None
    result_seq: int | None = None
    error: str | None = None
    reason: str | None = None
    ended_at: float | None = None
    watchers: list[UUID] = field(default_factory=list)
    mail: int = 0


@dataclass
class Ready:
    ready_at: float
    crashes: int
    begun: bool


@dataclass
class Claim:
    owner: UUID
    token: UUID
    crashes: int


@dataclass
class Wake:
    due_at: float
    topics: list[str] | None = None


@dataclass
class Record:
    seq: int
    path: str
    kind: str
    attempt: int
    value: str | None
    error: str | None
    run_at: float | None
    recorded_at: float
    worker_id: UUID
    target: str | None = None
    data_seq: int | None = None
    key: str | None = None

    def is_same(self, other: Record) -> bool:
        return (self.path, self.kind, self.attempt, self.key) == (other.path, other.kind, other.attempt, other.key)


@dataclass
class Message:
    number: int
    topic: str
    once: str
    payload: str | None
    consumed_by: int | None = None


@dataclass
class Worker:
    lease_expires_at: float
    dead: bool = False
    signed_off: bool = False


@dataclass
class Tables:
    executions: dict[UUID, Execution] = field(default_factory=dict)
    ready: dict[UUID, Ready] = field(default_factory=dict)
    claims: dict[UUID, Claim] = field(default_factory=dict)
    wakes: dict[UUID, Wake] = field(default_factory=dict)
    journal: dict[UUID, dict[int, Record]] = field(default_factory=dict)
    messages: dict[UUID, list[Message]] = field(default_factory=dict)
    workers: dict[UUID, Worker] = field(default_factory=dict)
    doomed: dict[UUID, tuple[bool, str]] = field(default_factory=dict)
    shapes: dict[int, tuple[str, int, str]] = field(default_factory=dict)


Statement = Callable[..., list[Sequence[Any]]]
STATEMENTS: dict[str, Statement] = {}


def statement(name: str) -> Callable[[Statement], Statement]:
    def told(function: Statement) -> Statement:
        STATEMENTS[name] = function
        return function

    return told


def names_by_sql() -> dict[str, str]:
    """The name of each statement of the library, by its text."""
    root = sql_folder() / "queries"
    names = [path.relative_to(root).with_suffix("").as_posix() for path in sorted(root.rglob("*.sql"))]
    return {load(name).sql: name for name in names}


def unnested(*columns: Sequence[Any] | None) -> list[tuple[Any, ...]]:
    """Rows out of arrays; one that was left out is full of nulls."""
    length = max((len(column) for column in columns if column is not None), default=0)
    return list(zip(*([None] * length if column is None else column for column in columns), strict=True))


def _filled(query: Query, arguments: Sequence[Any]) -> list[Any]:
    """The arguments, with the one value in place of which it stands for all."""
    rows = len(arguments[0]) if query.filled else 0
    return [
        [*value] * rows if place in query.filled and value is not None and len(value) == 1 else value
        for place, value in enumerate(arguments)
    ]


def _array(text: str | None) -> list[str]:
    return [] if not text or text == "{}" else [part.strip('"') for part in text[1:-1].split(",")]


class Store:
    """*now* is the clock of the database, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.tables = Tables()
        self.notifications: list[tuple[str, str]] = []  # of the statement that runs
        self.ran = 0

    def run(self, name: str, arguments: Sequence[Any]) -> list[Row]:
        """Run a statement as one transaction."""
        function = STATEMENTS.get(name)
        if function is None:
            raise Violation(f"the simulation knows no statement {name!r}")
        query = load(name)
        self.ran += 1
        return [_row(query.columns, values) for values in function(self, *_filled(query, arguments))]

    def snapshot(self) -> Tables:
        return copy.deepcopy(self.tables)

    def check(self) -> None:
        """Each execution stands in one place, or has ended."""
        t = self.tables
        for execution_id, e in t.executions.items():
            places = (execution_id in t.ready) + (execution_id in t.claims) + (execution_id in t.wakes)
            if places != (e.ended_at is None):
                raise Violation(f"execution {execution_id} ({e.status}) stands in {places} places")

    # --- What several statements do ---

    def shown_at(self, at: float | None) -> datetime | None:
        return None if at is None else datetime.fromtimestamp(EPOCH + at, UTC)

    def make_ready(self, execution_id: UUID, crashes: int = 0, *, begun: bool = True, at: float | None = None) -> None:
        if execution_id in self.tables.ready:
            raise Violation(f"execution {execution_id} is made ready twice")
        self.tables.ready[execution_id] = Ready(self.now() if at is None else at, crashes, begun)

    def held(self, execution_id: UUID, token: UUID) -> Claim | None:
        claim = self.tables.claims.get(execution_id)
        return claim if claim is not None and claim.token == token else None

    def append(self, execution_id: UUID, record: Record) -> bool:
        """Whether it is written: also when it was before."""
        journal = self.tables.journal.setdefault(execution_id, {})
        there = journal.setdefault(record.seq, record)
        return there.is_same(record)

    def record(self, execution_id: UUID, token: UUID, record: Record) -> bool:
        claim = self.held(execution_id, token)
        if claim is None:
            return False
        claim.crashes = 0
        return self.append(execution_id, record)

    def end(self, e: Execution, status: str) -> None:
        e.status, e.ended_at = status, self.now()

    def doom(self, execution_id: UUID, reason: str, *, undo: bool) -> None:
        e = self.tables.executions.get(execution_id)
        if e is not None and e.ended_at is None:
            self.tables.doomed.setdefault(execution_id, (undo, reason))

    def children(self, parent_id: UUID) -> list[UUID]:
        return [
            e.execution_id for e in self.tables.executions.values() if e.parent_id == parent_id and e.ended_at is None
        ]

    def deliver(self, rows: Sequence[tuple[UUID, str, str, str | None]]) -> Iterator[tuple[int, str, str | None]]:
        t = self.tables
        for n, (execution_id, topic, once, payload) in enumerate(rows, 1):
            e = t.executions.get(execution_id)
            messages = t.messages.setdefault(execution_id, [])
            if e is None:
                yield n, "unknown", None
            elif any(m.once == once for m in messages):
                yield n, "duplicate", e.queue
            elif e.ended_at is not None:
                yield n, "ended", None
            else:
                e.mail += 1
                messages.append(Message(e.mail, topic, once, payload, 0 if payload is None else None))
                wake = t.wakes.get(execution_id)
                woken = wake is not None and wake.topics is not None and topic in wake.topics
                if woken:
                    del t.wakes[execution_id]
                    e.status = "pending" if e.status == "waiting" else e.status
                    self.make_ready(execution_id)
                yield n, "sent", e.queue if woken else None


def _row(columns: Sequence[tuple[str, str]], values: Sequence[Any]) -> Row:
    row = Row(values)
    row.names = tuple(name for name, _ in columns)
    if len(row) != len(row.names):
        raise Violation(f"the simulation gives {len(row)} columns, not {row.names}")
    return row


# --- Shapes, queues and what else is there when a process begins ---


@statement("shape/register")
def _(s: Store, *columns: Any) -> list[Any]:
    for shape_id, workflow, version, tree, *_ in unnested(*columns):
        s.tables.shapes[shape_id] = (workflow, version, tree)
    return []


@statement("shape/read")
def _(s: Store, workflows: list[str]) -> list[Any]:
    return [(id, *shape, len(s.tables.shapes)) for id, shape in s.tables.shapes.items() if shape[0] in workflows]


@statement("queue/limits")
def _(s: Store) -> list[Any]:
    return []


@statement("emission/spread")
def _(s: Store, limit: int) -> list[Any]:
    return [(0,)]


@statement("message/deliver_posted")
def _(s: Store, limit: int, bytes: int) -> list[Any]:
    return []


@statement("schedule/due")
def _(s: Store, *arguments: Any) -> list[Any]:
    return [(s.shown_at(s.now()), None, False, *[None] * (len(load("schedule/due").columns) - 3))]


@statement("notify/send")
def _(s: Store, channels: list[str], payloads: list[str]) -> list[Any]:
    s.notifications.extend(zip(channels, payloads, strict=True))
    return [(len(channels),)]


# --- Workers ---


@statement("worker/register")
def _(s: Store, worker_id: UUID, lease: float, host: str, pid: int) -> list[Any]:
    worker = s.tables.workers.setdefault(worker_id, Worker(0.0))
    worker.lease_expires_at = s.now() + lease
    return [(worker_id,)]


@statement("worker/renew")
def _(s: Store, worker_id: UUID, lease: float) -> list[Any]:
    worker = s.tables.workers.get(worker_id)
    alive = worker is not None and not worker.dead
    if worker is not None and alive:
        worker.lease_expires_at = s.now() + lease
    lapsed = [id for id, w in s.tables.workers.items() if (w.dead or w.lease_expires_at < s.now()) and id != worker_id]
    return [(alive, lapsed, len(s.tables.shapes))]


@statement("worker/bury")
def _(s: Store, worker_id: UUID) -> list[Any]:
    worker = s.tables.workers.get(worker_id)
    if worker is None or not (worker.dead or worker.lease_expires_at < s.now()):
        return []
    first, worker.dead = not worker.dead, True
    return [(first, worker.signed_off, any(c.owner == worker_id and c.crashes for c in s.tables.claims.values()))]


@statement("worker/sign_off")
def _(s: Store, worker_id: UUID) -> list[Any]:
    worker = s.tables.workers.get(worker_id)
    if worker is None:
        return []
    worker.signed_off = True
    return [(worker_id,)]


@statement("worker/remove")
def _(s: Store, worker_id: UUID) -> list[Any]:
    if worker_id not in s.tables.workers or any(c.owner == worker_id for c in s.tables.claims.values()):
        return []
    del s.tables.workers[worker_id]
    return [(worker_id,)]


# --- Claims ---


def _claimed_row(
    s: Store, execution_id: UUID, crashes: int, *, begun: bool, ready_at: float | None = None
) -> tuple[Any, ...]:
    e = s.tables.executions[execution_id]
    deadline_in = None if e.deadline_at is None else e.deadline_at - s.now()
    shown = (e.execution_id, e.name, e.shape_id, e.queue, e.input, e.tags)
    told = (e.parent_id, e.called, None, deadline_in, False)
    waited = None if ready_at is None else s.now() - ready_at
    past = (
        (None, None)
        if ready_at is None
        else (_past(s, "journal/read", execution_id), _past(s, "message/read", execution_id))
    )
    return (*shown, crashes, begun, e.undo, e.mail, *told, s.shown_at(ready_at), waited, *past)


def _past(s: Store, name: str, execution_id: UUID) -> str:
    """What a claim brings along, as JSON."""
    names = [column for column, _ in load(name).columns]
    rows = STATEMENTS[name](s, [execution_id], UUID(int=0), 0, 1_000)
    return msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows]).decode()


@statement("claim/take")
def _(s: Store, owner: UUID, token: UUID, queues: Any, wants: Any, shapes: Any, suspects: int, *_: Any) -> list[Any]:
    t = s.tables
    found: list[Any] = []
    for queue, want in zip(queues, wants, strict=True):
        ready = [(i, r) for i, r in t.ready.items() if t.executions[i].queue == queue]
        ready = [(i, r) for i, r in ready if t.executions[i].shape_id in shapes]
        ready.sort(key=lambda pair: (pair[1].ready_at - 60 * t.executions[pair[0]].priority, pair[0].bytes))
        suspected = [pair for pair in ready if pair[1].crashes >= 2][: min(suspects, want)]
        suspects -= len(suspected)
        picked = [pair for pair in ready if pair[1].crashes < 2][: want - len(suspected)]
        for execution_id, r in picked + suspected:
            del t.ready[execution_id]
            t.claims[execution_id] = Claim(owner, token, r.crashes)
            found.append(_claimed_row(s, execution_id, r.crashes, begun=r.begun, ready_at=r.ready_at))
    return found


@statement("claim/take_plain")
def _(s: Store, owner: UUID, token: UUID, queues: Any, wants: Any, shapes: Any, suspects: bool) -> list[Any]:
    found = STATEMENTS["claim/take"](s, owner, token, queues, wants, shapes, 0)
    mine = [r for i, r in s.tables.ready.items() if s.tables.executions[i].queue in queues]
    special = suspects and any(r.crashes >= 2 for r in mine)
    nothing = (None,) * len(load("claim/take").columns)
    return [(*row, special, False) for row in found or [nothing]]


@statement("claim/find_taken")
def _(s: Store, owner: UUID, token: UUID) -> list[Any]:
    claims = [(i, c) for i, c in s.tables.claims.items() if (c.owner, c.token) == (owner, token)]
    return [_claimed_row(s, i, c.crashes, begun=True) for i, c in claims]


@statement("claim/audit")
def _(s: Store, owner: UUID) -> list[Any]:
    t = s.tables
    return [
        (i, c.token, c.owner, t.executions[i].undo, t.executions[i].mail, False)
        for i, c in t.claims.items()
        if c.owner == owner or c.owner not in t.workers
    ]


@statement("claim/told")
def _(s: Store, *columns: Any) -> list[Any]:
    found: list[Any] = []
    for execution_id, token, seen in unnested(*columns):
        e = s.tables.executions.get(execution_id)
        gone = s.held(execution_id, token) is None
        if e is None:
            found.append((execution_id, gone, None, None, None))
            continue
        undo = e.undo or ("its parent waits for it no more" if e.given_up else None)
        if gone or undo is not None or e.mail > seen:
            found.append((execution_id, gone, undo, e.mail, False))
    return found


def _give_back(s: Store, execution_id: UUID, crashes: int) -> tuple[UUID, str]:
    del s.tables.claims[execution_id]
    s.make_ready(execution_id, crashes)
    return execution_id, s.tables.executions[execution_id].queue


@statement("claim/reap")
def _(s: Store, owner: UUID, suspects_only: bool, limit: int, crashed: bool) -> list[Any]:
    mine = sorted((c.crashes, i.bytes, i) for i, c in s.tables.claims.items() if c.owner == owner)[:limit]
    return [
        _give_back(s, i, crashes if not crashed or (suspects_only and crashes == 0) else crashes + 1)
        for crashes, _, i in mine
    ]


@statement("claim/release")
def _(s: Store, *columns: Any) -> list[Any]:
    found: list[Any] = []
    for n, (execution_id, token) in enumerate(unnested(*columns), 1):
        if (claim := s.held(execution_id, token)) is not None:
            found.append((n, _give_back(s, execution_id, claim.crashes)[1]))
    return found


@statement("claim/release_all")
def _(s: Store, owner: UUID, limit: int, except_for: list[UUID]) -> list[Any]:
    mine = [(i, c.crashes) for i, c in s.tables.claims.items() if c.owner == owner and i not in except_for]
    return [_give_back(s, i, crashes) for i, crashes in sorted(mine)[:limit]]


# --- Executions ---


@statement("execution/start")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, owner, _chosen = arguments
    found: list[Any] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, name, operation, shape_id, workflow, version, queue, priority, tags, text, at, *rest = row
        operation = operation or execution_id
        delay, timeout, token, _key = rest
        if at is not None:
            raise Violation("the simulation knows no scheduled_at")
        t, now = s.tables, s.now()
        due = now + (delay or 0.0)
        later = due > now
        old = t.executions.get(execution_id)
        if old is None:
            deadline = None if timeout is None else due + timeout
            row = (execution_id, shape_id, workflow, version, queue, priority, name, tags, text, operation, now, due)
            t.executions[execution_id] = Execution(*row, deadline)
            if token is not None:
                t.claims[execution_id] = Claim(owner, token, 0)
            elif later:
                t.wakes[execution_id] = Wake(due)
            else:
                s.make_ready(execution_id, begun=False, at=due)
            found.append((n, True, None, due - now if later else None, token is not None, None))
        else:
            claimed = token is not None and s.held(execution_id, token) is not None
            same = old.started_by == operation
            found.append((n, same, old.workflow, due - now if later else None, claimed, None))
    return found


@statement("execution/start_plain")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, owner = arguments
    found: list[Any] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, shape_id, workflow, version, queue, priority, tags, text, timeout, token = row
        if execution_id not in s.tables.executions:
            whole = (execution_id, None, None, shape_id, workflow, version, queue, priority, tags, text)
            whole = (*whole, None, None, timeout, token, None)
            born = STATEMENTS["execution/start"](s, *([value] for value in whole), owner, False)
            found += [(n, *answer[1:]) for answer in born]
    return found


@statement("execution/start_lone")
def _(s: Store, *arguments: Any) -> list[Any]:
    *values, owner = arguments
    return STATEMENTS["execution/start_plain"](s, *([value] for value in values), owner)


@statement("execution/existing")
def _(s: Store, execution_id: UUID) -> list[Any]:
    e = s.tables.executions.get(execution_id)
    return [] if e is None else [(e.workflow, e.started_by)]


def _last(
    s: Store, worker: UUID, seq: Any, path: Any, kind: Any, attempt: Any, value: Any, error: Any, run_in: Any
) -> Record:
    run_at = None if run_in is None else s.now() + run_in
    return Record(seq, path, kind, attempt, value, error, run_at, s.now(), worker)


@statement("execution/suspend")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker, sources, status = arguments
    t = s.tables
    found: list[Any] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, token, delay, seq, path, kind, attempt, value, error, run_in, _seconds, seen, topics = row
        e = t.executions[execution_id]
        if e.released_by == token:
            found.append((n, True))
            continue
        if s.held(execution_id, token) is None or e.status not in sources or e.undo is not None:
            continue
        if seq is not None:
            record = _last(s, worker, seq, path, kind, attempt, value, error, run_in)
            if not s.append(execution_id, record):
                continue
        mail = topics is not None and e.mail > seen
        del t.claims[execution_id]
        e.status, e.released_by = ("pending" if mail and status == "waiting" else status), token
        if mail:
            s.make_ready(execution_id)
        else:
            due = math.inf if delay is None else s.now() + delay
            due = due if e.deadline_at is None else min(due, e.deadline_at)
            t.wakes[execution_id] = Wake(due, None if topics is None else _array(topics))
        found.append((n, mail))
    return found


@statement("execution/begin_ending")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker, sources = arguments
    found: list[Any] = []
    for n, (execution_id, token, seq, error) in enumerate(unnested(*columns), 1):
        e = s.tables.executions[execution_id]
        claim = s.held(execution_id, token)
        if claim is None:
            continue
        claim.crashes = 0
        if e.status in sources:
            if e.undo is not None or e.given_up:
                for child in s.children(execution_id):
                    s.doom(child, "its parent was cancelled, to be undone", undo=True)
            e.status, e.deadline_at, e.undo = "compensating", None, None
            s.append(execution_id, Record(seq, "", "failing", 0, None, error, None, s.now(), worker))
            found.append((n,))
        elif e.status == "compensating":
            found.append((n,))
    return found


@statement("execution/finish")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker, sources = arguments
    t = s.tables
    found: list[Any] = []
    telling: list[tuple[UUID, str, str, str | None]] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, token, status, result_seq, failure, seq, path, kind, attempt, value, error, *rest = row
        _seconds, reason, parent_id, topic, told, children, asked = rest
        if asked:
            raise Violation("the simulation knows no inputs")
        e = t.executions[execution_id]
        parent = None if parent_id is None else t.executions.get(parent_id)
        answer = (n, e.watchers or None, None if parent is None else parent.queue)
        if e.released_by == token:
            found.append(answer)
            continue
        if s.held(execution_id, token) is None or e.status not in sources:
            continue
        if status == "completed" and (e.undo is not None or e.given_up):
            continue
        if seq is not None:
            record = _last(s, worker, seq, path, kind, attempt, value, error, None)
            if not s.append(execution_id, record):
                continue
        del t.claims[execution_id]
        dooming = [UUID(child) for child in _array(children)]
        if e.undo is not None or e.given_up:
            dooming += s.children(execution_id)
        e.released_by, e.result_seq, e.error, e.reason = token, result_seq, failure, reason
        s.end(e, status)
        for child in dooming:
            s.doom(child, "its parent has ended", undo=True)
        if parent_id is not None:
            telling.append((parent_id, topic, f"c:{execution_id}", None if e.given_up else told))
        found.append(answer)
    list(s.deliver(telling))
    return found


@statement("execution/finish_plain")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker, sources = arguments
    found: list[Any] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, token, result_seq, seq, path, kind, attempt, value, seconds = row
        whole = (execution_id, token, "completed", result_seq, None, seq, path, kind, attempt, value, None, seconds)
        whole = (*whole, *(None,) * 6)
        ended = STATEMENTS["execution/finish"](s, *([value] for value in whole), worker, sources)
        found += [(n, watchers) for _, watchers, _ in ended]
    return found


@statement("execution/watch")
def _(s: Store, ids: list[UUID], watcher: UUID) -> list[Any]:
    found: list[Any] = []
    for execution_id in ids:
        e = s.tables.executions.get(execution_id)
        if e is not None and e.ended_at is None:
            if watcher not in e.watchers:
                e.watchers.append(watcher)
            found.append((execution_id,))
    return found


@statement("execution/results")
def _(s: Store, ids: list[UUID]) -> list[Any]:
    found: list[Any] = []
    for execution_id in ids:
        e = s.tables.executions.get(execution_id)
        if e is None:
            continue
        result = None
        if e.status == "completed" and e.result_seq is not None:
            result = e.input if e.result_seq == 0 else s.tables.journal[execution_id][e.result_seq].value
        found.append((execution_id, e.ended_at is not None, e.status, result, e.error, e.reason, e.parent_id))
    return found


@statement("execution/lock")
def _(s: Store, execution_id: UUID) -> list[Any]:
    e = s.tables.executions.get(execution_id)
    return [] if e is None else [(e.workflow, e.status, e.name, e.undo)]


@statement("execution/displace")
def _(s: Store, execution_id: UUID, sources: list[str]) -> list[Any]:
    if s.tables.executions[execution_id].status in sources:
        s.tables.ready.pop(execution_id, None)
        s.tables.wakes.pop(execution_id, None)
    return []


@statement("execution/cancel")
def _(s: Store, execution_id: UUID, operation: UUID, reason: str | None, sources: list[str]) -> list[Any]:
    e = s.tables.executions[execution_id]
    if e.status in sources and e.undo is None:
        claimed = s.tables.claims.pop(execution_id, None) is not None
        e.released_by, e.reason = operation, reason
        s.end(e, "cancelled")
        return [(True, e.status, claimed, e.watchers or None)]
    before = e.released_by == operation
    return [(before, e.status, before, e.watchers or None)]


@statement("execution/request_undo")
def _(s: Store, execution_id: UUID, operation: UUID, reason: str, sources: list[str]) -> list[Any]:
    e = s.tables.executions[execution_id]
    claimed = execution_id in s.tables.claims
    changed = e.undo_by == operation or (e.undo is not None and e.status in sources)
    if e.status in sources and e.undo is None:
        changed = True
        e.undo, e.undo_by, e.status = reason, operation, "pending"
        if not claimed:
            s.make_ready(execution_id)
    return [(changed, e.status, claimed, e.queue)]


@statement("act/note")
def _(s: Store, *arguments: Any) -> list[Any]:
    return []


# --- Journals ---


@statement("journal/record")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker = arguments
    found: list[Any] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, token, seq, path, kind, attempt, value, error, delay, _seconds, target, data_seq, key = row
        run_at = None if delay is None else s.now() + delay
        record = Record(seq, path, kind, attempt, value, error, run_at, s.now(), worker, target, data_seq, key)
        if s.record(execution_id, token, record):
            found.append((n,))
    return found


@statement("journal/record_plain")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker = arguments
    found: list[Any] = []
    for n, (execution_id, token, seq, path, kind, attempt, value, _seconds, key) in enumerate(unnested(*columns), 1):
        claim = s.held(execution_id, token)
        if claim is not None and claim.crashes:
            continue
        record = Record(seq, path, kind, attempt, value, None, None, s.now(), worker, key=key)
        if s.record(execution_id, token, record):
            found.append((n,))
    return found


@statement("journal/answer")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker = arguments
    found: list[Any] = []
    for n, (execution_id, token, seq, path, attempt, value, key, numbers, error) in enumerate(unnested(*columns), 1):
        kind = "answered" if error is None else "tried"
        record = Record(seq, path, kind, attempt, value, error, None, s.now(), worker, key=key)
        if s.record(execution_id, token, record):
            found.append((n,))
            for number in map(int, _array(numbers)):
                for message in s.tables.messages.get(execution_id, []):
                    if message.number == number and message.consumed_by is None:
                        message.consumed_by, message.payload = seq, None
    return found


@statement("journal/read")
def _(s: Store, ids: list[UUID], after_id: UUID, after_seq: int, limit: int) -> list[Any]:
    found: list[Any] = []
    for execution_id in sorted(ids):
        for seq, r in sorted(s.tables.journal.get(execution_id, {}).items()):
            if (execution_id, seq) > (after_id, after_seq):
                run_in = None if r.run_at is None else r.run_at - s.now()
                place = (execution_id, seq, r.path, r.kind, r.attempt, r.target, r.data_seq, r.key)
                at = (s.shown_at(r.recorded_at), s.shown_at(r.run_at))
                found.append((*place, r.value, r.error, run_in, 0.0, r.worker_id, *at))
    return found[:limit]


# --- Time, messages, children ---


@statement("wake/fire")
def _(s: Store, limit: int, sources: list[str]) -> list[Any]:
    t, now = s.tables, s.now()
    due = sorted((w.due_at, i.bytes, i) for i, w in t.wakes.items() if w.due_at <= now)[:limit]
    queues: set[str] = set()
    for at, _, execution_id in due:
        e = t.executions[execution_id]
        del t.wakes[execution_id]
        begun = e.status != "pending"
        e.status = "pending" if e.status in sources else e.status
        s.make_ready(execution_id, begun=begun, at=at)
        queues.add(e.queue)
    coming = min((w.due_at for w in t.wakes.values() if now < w.due_at < math.inf), default=None)
    next_in = None if coming is None else coming - now
    return [(len(due), len(due) == limit, sorted(queues) or None, next_in, False, bool(t.doomed))]


@statement("message/deliver")
def _(s: Store, *columns: Any) -> list[Any]:
    return list(s.deliver(unnested(*columns)))  # type: ignore[arg-type]


@statement("message/read")
def _(s: Store, ids: list[UUID], after_id: UUID, after: int, limit: int) -> list[Any]:
    found = [
        (execution_id, m.number, m.topic, m.payload)
        for execution_id in sorted(ids)
        for m in s.tables.messages.get(execution_id, [])
        if m.consumed_by is None and (execution_id, m.number) > (after_id, after)
    ]
    return found[:limit]


@statement("child/bear")
def _(s: Store, *arguments: Any) -> list[Any]:
    *columns, worker = arguments
    t = s.tables
    found: list[Any] = []
    for n, row in enumerate(unnested(*columns), 1):
        execution_id, token, seq, path, kind, attempt, value, delay, key, child_id, shape_id, workflow, *rest = row
        version, queue, priority, tags, text, timeout, _turn = rest
        now = s.now()
        run_at = None if delay is None else now + delay
        if not s.record(
            execution_id, token, Record(seq, path, kind, attempt, value, None, run_at, now, worker, key=key)
        ):
            continue
        found.append((n,))
        if child_id not in t.executions:
            place = (shape_id, workflow, version, queue, priority, None, tags, text, token, now, now)
            deadline = None if timeout is None else now + timeout
            t.executions[child_id] = Execution(child_id, *place, deadline, execution_id, kind == "waiting")
            s.make_ready(child_id, begun=False)
    return found


@statement("child/tell")
def _(s: Store, execution_id: UUID, told: str, reason: str) -> list[Any]:
    me = s.tables.executions[execution_id]
    parent = None if me.parent_id is None else s.tables.executions.get(me.parent_id)
    if me.parent_id is not None:
        topic = f"{'child' if me.called else 'started'}:{execution_id}"
        payload = told if me.called and not me.given_up else None
        list(s.deliver([(me.parent_id, topic, f"c:{execution_id}", payload)]))
    mine = s.children(execution_id)
    for child in mine:
        s.doom(child, reason, undo=False)
    return [(me.parent_id, None if parent is None else parent.queue, len(mine))]


@statement("child/doomed")
def _(s: Store, limit: int) -> list[Any]:
    return [(i, undo, reason) for i, (undo, reason) in s.tables.doomed.items()][:limit]


@statement("child/spare")
def _(s: Store, ids: list[UUID]) -> list[Any]:
    for execution_id in ids:
        s.tables.doomed.pop(execution_id, None)
    return []


# --- Retention ---


@statement("retention/forget")
def _(s: Store, seconds: float, limit: int) -> list[Any]:
    return [(0,)]
