"""What a step body may know of the attempt it is: `durable.context()`."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import msgspec

from durable.errors import UsageError
from durable.model.failure import Failure

if TYPE_CHECKING:
    import asyncpg

    from durable.engine.effects import Effects
    from durable.engine.interpreter import Interpreter
    from durable.engine.journal import Transaction
    from durable.engine.logs import Logs
    from durable.engine.strands import Strand
    from durable.engine.streaming import Stream

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Engine(Protocol):
    """The engine that runs a step, as far as a context knows it (see `durable.app.Durable`)."""


class Body:
    """A body while it runs, for its effects: `limit` is the step's timeout, `over` that it has ended."""

    __slots__ = ("effects", "limit", "over", "run", "strand")

    def __init__(self, run: Interpreter, strand: Strand) -> None:
        self.run = run
        self.strand = strand
        self.effects: Effects | None = None
        self.limit: asyncio.Timeout | None = None
        self.over = False


class Context(msgspec.Struct, eq=False):
    """One attempt of one step. A parameter annotated `Context` receives it; `durable.context()` is the same object.

    `failure` is why the execution has failed: in a compensation and in the function of `on_failure`; None elsewhere.
    """

    __durable_context__: ClassVar[bool] = True  # how authoring, which may not import this class, recognises it

    execution_id: str
    workflow: str
    tags: Mapping[str, Any]
    path: str
    attempt: int
    max_attempts: int
    engine: Engine | None
    failure: Failure | None = None
    body: Body | None = None  # None in a worker process
    life: int = 0  # how often the execution was begun afresh
    _make_stream: Callable[[], Stream] | None = None
    _make_logs: Callable[[], Logs] | None = None
    transaction: Transaction | None = None  # of a transactional step
    told: Stream | None = None  # the stream, once it was used
    _logs: Logs | None = None
    _cancelled: bool = False

    @property
    def connection(self) -> Connection:
        """The connection of a step with ``transactional=True``, in a transaction (read committed) that the engine commits
        together with the step's record, and rolls back if the step fails. The body may use it until it returns, and does not
        end the transaction. Raises `UsageError` elsewhere."""
        if self.transaction is None:
            raise UsageError(
                f"{self.path!r} has no connection: it is not transactional. Say so: step(transactional=True)."
            )
        return self.transaction.connection

    @property
    def logs(self) -> Logs | None:
        """Where what the body logs is kept; None where nothing is."""
        if self._logs is None and self._make_logs is not None:
            self._logs = self._make_logs()
        return self._logs

    @property
    def stream(self) -> Stream:
        """Where the body sends parts of what it makes: ``await context().stream.send(chunk)``. Raises `UsageError` in a worker
        process."""
        if self.told is None:
            if self._make_stream is None:
                raise UsageError("there is no stream here: a step with process=True has none.")
            self.told = self._make_stream()
        return self.told

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Tell whoever follows the execution how far this attempt has come: *fraction* from 0 to 1. Does not wait; may be
        called in a thread. See `Handle.events`. Raises `UsageError` for another fraction, and for a *message* that is no
        text; what of that cannot be stored is spelled out."""
        if not 0 <= fraction <= 1:
            raise UsageError(f"progress is {fraction!r}. Give a fraction from 0 to 1.")
        self.stream.progress(fraction, message)

    @property
    def scheduled_for(self) -> datetime | None:
        """The instant for which a schedule has started this execution (aware, UTC): not when that was done, which may be later.
        None when it was no schedule."""
        instant = self.tags.get("durable.scheduled_for")
        return datetime.fromisoformat(instant) if isinstance(instant, str) else None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step in this execution, on any worker: give it to services that you call. Another
        one after ``durable.continue_as``, and in what ``durable.run`` calls, one for each call."""
        life = f"~{self.life}" if self.life else ""
        called = WITHIN_CALL.get()
        call = "" if called is None else f":{called[1]}"
        return f"{self.execution_id}:{self.path}{life}{call}"

    @property
    def cancelled(self) -> bool:
        """True when the attempt was cancelled or timed out. A plain `def` step in a thread cannot be stopped: long ones
        should look here now and then, and return."""
        return self._cancelled

    def mark_cancelled(self) -> None:
        """Called by the step runner."""
        self._cancelled = True

    def __reduce__(self) -> tuple[Any, ...]:
        # To the worker process of a step, where there is no engine and a cancellation kills.
        tags = dict(self.tags)
        here = (self.execution_id, self.workflow, tags, self.path, self.attempt, self.max_attempts)
        return Context, (*here, None, self.failure, None, self.life)

    def __repr__(self) -> str:
        return f"<Context of {self.path!r}, attempt {self.attempt}, execution {self.execution_id!r}>"


# The name of what `durable.run` calls, and the key of this call.
WITHIN_CALL: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "durable_within_call", default=None
)
# A task of a body, and the key of what it has used first. Those that it begins inherit it, until they use something themselves.
# Weakly: the task holds the variable itself.
MAKER: contextvars.ContextVar[tuple[weakref.ref[asyncio.Task[Any]], str] | None] = contextvars.ContextVar(
    "durable_maker", default=None
)
CURRENT: contextvars.ContextVar[Context | None] = contextvars.ContextVar("durable_context", default=None)


def context() -> Context:
    """The context of the attempt that calls it. Raises `UsageError` outside a step."""
    current = CURRENT.get()
    if current is None:
        raise UsageError(
            "durable.context() was called outside a step. Call it in a step's body, or take a Context parameter."
        )
    return current
