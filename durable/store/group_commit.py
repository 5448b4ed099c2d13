"""Group commit: what all executions of a process write, combined into few statements.

A lane is one connection with one flush in flight. An idle lane flushes at once; what arrives meanwhile forms its next flush.
What must be durable in its order uses the same lane. Each kind of write is one statement over arrays, committed by itself:
who writes waits before it writes what follows, so nothing binds the kinds together. A future is resolved only after the commit.

When a connection is lost, the outcome of its flush is unknown: it is sent again, and every statement recognises itself by
claim or operation. A batch with a row that PostgreSQL refuses is divided until only that execution's writes fail.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import asyncpg

from durable.errors import InternalError, StoreUnavailable
from durable.store.connection import AGAIN, LOST, REFUSED, Link, Row, backoff, columns, log_lost
from durable.store.queries import Query

log = logging.getLogger("durable.store")

ROWS_MAX = 500  # beyond, a statement gains nothing and delays the first of its rows
BYTES_MAX = 4 << 20
# In the lane apart, a write that waits for somebody's transaction must not hold up the rest for long.
LOCK_WAIT = "250ms"
BLOCKED_SECONDS = 0.25  # until such a write is tried again

_ORDER = operator.attrgetter("execution_id.bytes")


class Kind:
    """One kind of write: its statement, and the arguments after the arrays that are the same for every row.

    Writes are combined by kind, so make one and keep it. *lane* says where they go: ``"own"``, the lane of their execution;
    ``"any"``, the first that is idle, else the lanes in turn, for what nothing of its execution can precede; ``"apart"``, a
    lane that does not hold up the others, for what may have to wait for somebody else's transaction.
    """

    __slots__ = ("constants", "lane", "lone", "otherwise", "places", "query")

    def __init__(self, query: Query, *constants: Any, lane: Literal["own", "any", "apart"] = "own") -> None:
        self.query = query
        self.constants = constants
        self.lane: Literal["own", "any", "apart"] = lane
        self.lone: Query | None = None
        self.places: tuple[int, ...] | None = None
        self.otherwise: Kind | None = None

    def plain(
        self, query: Query, constants: tuple[Any, ...], *, otherwise: bool = False, lone: Query | None = None
    ) -> Kind:
        """The same for rows that are in no way special: *query* takes those of the columns, by their names, in which they
        differ. *otherwise*: what it does not answer is written by this kind. *lone* is *query* for a single row: it takes the
        values in place of the arrays."""
        names = [name for name, _ in self.query.parameters]
        plain = Kind(query, *constants, lane=self.lane)
        plain.places = tuple(
            names.index(name) for name, _ in query.parameters[: len(query.parameters) - len(constants)]
        )
        plain.otherwise = self if otherwise else None
        if lone is not None and [name for name, _ in lone.parameters] != [name for name, _ in query.parameters]:
            raise InternalError(f"{lone.name} does not take what {query.name} takes, in that order.")
        plain.lone = lone
        return plain

    def statement(self, rows: Sequence[tuple[Any, ...]]) -> tuple[Query, list[Any]]:
        """What writes *rows*, and its arguments."""
        if self.lone is not None and self.places is not None and len(rows) == 1:
            return self.lone, [*(rows[0][place] for place in self.places), *self.constants]
        return self.query, [*columns(self.query, rows, self.places), *self.constants]


class Write:
    """One row on its way. `done` is the future that has its answer in the end; see `GroupCommit.write`.

    Whoever waits by `settled` keeps it: then the cancellation of one wait is not that of the write, and `done` may be replaced.
    """

    __slots__ = ("done", "execution_id", "kept", "row", "size")

    def __init__(self, execution_id: UUID, row: tuple[Any, ...], size: int, done: asyncio.Future[Row | None]) -> None:
        self.execution_id = execution_id
        self.row = row
        self.size = size
        self.done = done
        self.kept = False

    async def settled(self, given_up: Callable[[], bool]) -> Row | None:
        """The answer, however often this task is cancelled before it comes, unless it is *given_up* then."""
        self.kept = True
        while True:
            try:
                return await self.done
            except asyncio.CancelledError:
                if given_up():
                    self.kept = False
                    raise
                if self.done.cancelled():
                    self.done = self.done.get_loop().create_future()

    @property
    def is_written(self) -> bool:
        """Whether it is durable, and says so."""
        done = self.done
        return done.done() and not done.cancelled() and done.exception() is None and done.result() is not None

    @property
    def wanted(self) -> bool:
        """Whether anybody may still wait for it."""
        return self.kept or not self.done.cancelled()

    def resolve(self, answer: Row | None) -> None:
        """It was written."""
        if self._open():
            self.done.set_result(answer)

    def fail(self, error: Exception) -> None:
        """It was not written."""
        if self._open():
            self.done.set_exception(error)

    def _open(self) -> bool:
        if self.kept and self.done.cancelled():  # who keeps it has not heard of that yet, and looks here again
            self.done = self.done.get_loop().create_future()
        return not self.done.done()


class GroupCommit:
    """Several lanes; `write` is the one way in. Use as an async context manager."""

    def __init__(self, dsn: str, lanes: int = 2) -> None:
        self._lanes = [_Lane(dsn, f"writer {number + 1}") for number in range(lanes)]
        self._apart = _Lane(dsn, "writer apart", {"lock_timeout": LOCK_WAIT})
        self._tasks: list[asyncio.Task[None]] = []
        self._turns = itertools.cycle(self._lanes)
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> GroupCommit:
        self._tasks = [
            asyncio.create_task(lane.run(), name=f"durable {lane.name}") for lane in (*self._lanes, self._apart)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Flush what was written, for as long as the caller lets it, then close."""
        for lane in (*self._lanes, self._apart):
            lane.close()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for lane in (*self._lanes, self._apart):
                lane.abandon()

    @property
    def written(self) -> tuple[int, int]:
        """How many rows were written by now, and with how many statements."""
        lanes = (*self._lanes, self._apart)
        return sum(lane.rows for lane in lanes), sum(lane.flushes for lane in lanes)

    def write(self, kind: Kind, execution_id: UUID, row: tuple[Any, ...], size: int = 0) -> asyncio.Future[Row | None]:
        """Write *row* of *kind*; *size* is about how many bytes it has.

        The future gives the statement's row for it once it is committed, or None when there is none. It raises
        `asyncpg.DataError` or `asyncpg.IntegrityConstraintViolationError` when PostgreSQL refuses this very row, and
        `StoreUnavailable` when the engine closes before it could be written. If cancelled, it may be written or not.
        """
        return self.submit(kind, execution_id, row, size).done

    def submit(self, kind: Kind, execution_id: UUID, row: tuple[Any, ...], size: int = 0, strand: str = "") -> Write:
        """The same, for who has to know the answer even if the wait for it is cancelled: see `Write.settled`. Writes of one
        *strand* of an execution use the same lane; those of different ones need not."""
        if kind.lane == "apart":
            lane = self._apart
        else:
            # Starts that were flushed together are ready, and claimed, together: were they all of one lane, the others would
            # have nothing to do. One after the other they are of the first, whose backend then has everything at hand.
            if kind.lane == "own":
                lane = self._lanes[hash((execution_id, strand)) % len(self._lanes)]
            else:
                for lane in self._lanes:
                    if lane.idle:
                        break
                else:
                    lane = next(self._turns)
        write = Write(execution_id, row, size, self._loop.create_future())
        lane.add(kind, write)
        return write


class _Lane:
    def __init__(self, dsn: str, name: str, settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._link = Link(dsn, name, more=settings)
        self._waiting: dict[Kind, list[Write]] = {}
        self._blocked: dict[Kind, list[Write]] = {}
        self._filled = asyncio.Event()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self.idle = True
        self.rows = self.flushes = 0

    def add(self, kind: Kind, write: Write) -> None:
        if self._closing:
            raise StoreUnavailable("the engine is closed: this write was not made")
        waiting = self._waiting.get(kind)
        if waiting is None:
            self._waiting[kind] = [write]
            self.idle = False
            self._filled.set()
        else:
            waiting.append(write)

    def close(self) -> None:
        self._closing = True
        self._filled.set()

    def abandon(self) -> None:
        """Whatever is left will not be written by us."""
        self._come_back()
        for writes in self._waiting.values():
            for write in writes:
                write.fail(StoreUnavailable("the engine closed before this was written"))
        self._waiting.clear()

    async def run(self) -> None:
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._waiting:
                    kind = next(iter(self._waiting))
                    await self._flush(kind, self._take(kind))
                self.idle = True
                if self._closing and not self._blocked:
                    return
        finally:
            await self._link.close()

    def _take(self, kind: Kind) -> list[Write]:
        waiting = self._waiting.pop(kind)
        size = count = 0
        for count, write in enumerate(waiting):
            size += write.size
            if count == ROWS_MAX or (count and size > BYTES_MAX):
                self._waiting[kind] = waiting[count:]  # at the back: kinds take turns
                return waiting[:count]
        return waiting

    async def _flush(self, kind: Kind, writes: list[Write]) -> None:
        # Ascending ids: two flushes that lock the same rows lock them in the same order.
        writes.sort(key=_ORDER)
        attempt = 0
        query = kind.query
        try:
            while writes:
                query, arguments = kind.statement([write.row for write in writes])
                try:
                    rows = await self._link.fetch(query, *arguments)
                except asyncpg.LockNotAvailableError:
                    if not await self._divide(kind, writes):
                        self._set_aside(kind, writes)
                    return
                except (*LOST, *AGAIN) as error:
                    attempt += 1
                    log_lost(self.name, attempt, error)
                    await asyncio.sleep(backoff(attempt))
                    writes = [write for write in writes if write.wanted]
                else:
                    left = _resolve(writes, rows, keep=kind.otherwise is not None)
                    if left and kind.otherwise is not None:
                        self._waiting.setdefault(kind.otherwise, []).extend(left)
                    self.rows += len(writes) - len(left)
                    self.flushes += 1
                    return
        except asyncio.CancelledError:
            self._waiting.setdefault(kind, []).extend(writes)  # `abandon` answers them
            raise
        except Exception as error:
            await self._refused(kind, query, writes, error)

    def _set_aside(self, kind: Kind, writes: list[Write]) -> None:
        """They wait for somebody's transaction. Were they sent again with the rest, those behind them in the order of ids would
        be divided from them again and again, and never be sent."""
        if not self._blocked:
            self._loop.call_later(BLOCKED_SECONDS, self._come_back)
        self._blocked.setdefault(kind, []).extend(writes)

    def _come_back(self) -> None:
        for kind, writes in self._blocked.items():
            self._waiting.setdefault(kind, []).extend(write for write in writes if write.wanted)
        self._blocked.clear()
        self._filled.set()

    async def _refused(self, kind: Kind, query: Query, writes: list[Write], error: Exception) -> None:
        """The statement as a whole was refused. Find whose rows are to blame, an execution being the unit."""
        blamed = isinstance(error, REFUSED)
        if blamed and await self._divide(kind, writes):
            return
        if not blamed:
            log.error("%s failed: %s", query.name, error, exc_info=error)
            reason, error = error, InternalError(f"{query.name} failed: {error}")
            error.__cause__ = reason
        for write in writes:
            write.fail(error)

    async def _divide(self, kind: Kind, writes: list[Write]) -> bool:
        """Flush one half now; the other waits among what has come, so that closing meanwhile answers it too. False when
        they are all of one execution."""
        ids = sorted({write.execution_id.bytes for write in writes})
        if len(ids) == 1:
            return False
        middle = ids[len(ids) // 2]
        self._waiting.setdefault(kind, []).extend(write for write in writes if write.execution_id.bytes >= middle)
        await self._flush(kind, [write for write in writes if write.execution_id.bytes < middle])
        return True


def _resolve(writes: Sequence[Write], rows: Sequence[Row], *, keep: bool) -> list[Write]:
    """Resolve them. Those without an answer are returned instead, if they are to be kept."""
    # Each row bears, first, the number (from 1) of the write that it answers.
    answers: list[Row | None] = [None] * len(writes)
    for row in rows:
        answers[row[0] - 1] = row
    kept: list[Write] = []
    for write, answer in zip(writes, answers, strict=True):
        if answer is None and keep:
            kept.append(write)
        else:
            write.resolve(answer)
    return kept
