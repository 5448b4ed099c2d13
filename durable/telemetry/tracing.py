"""Traces, for OpenTelemetry: an execution is one trace, of whatever processes run it, and however long it takes.

Its trace is that of whoever has started it, which travels as a tag; without one, it is reckoned from the execution's id, so
that all processes come to the same. The spans are the stays with a worker, in these the attempts of steps, and beside them the
waits of bodies, which begin in one stay and mostly end in another.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from durable.engine.strands import IN_PLACE
from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.context import Context as OtelContext
    from opentelemetry.trace import Span

    from durable.engine.context import Context
    from durable.engine.journal import Record, Subject
    from durable.store.connection import Named

TAG = "durable.trace"
KINDS = {"schedule_at": "timer", "any": "event", "all": "event", "match": "event", "result": "child"}
SLEEPS = ("sleep", "schedule_at")
LATE = timedelta(seconds=2)  # by which a timer may be set later than the sleep that it is set for
TOGETHER = timedelta(seconds=IN_PLACE)  # what is due within this goes on in one stay

Waits: TypeAlias = dict[tuple[str, str], int]
"""By path and key: the waits that have not ended, and when each has begun (nanoseconds since 1970)."""


class Stay:
    """One stay of an execution with this worker. `parent` is what all its stays and waits are in."""

    __slots__ = ("attributes", "parent", "span", "waits")

    def __init__(self, span: Span, parent: OtelContext, attributes: dict[str, str | int], waits: Waits) -> None:
        self.span = span
        self.parent = parent
        self.attributes = attributes
        self.waits = waits


class Tracing:
    """Makes the spans of one engine. Raises `ConfigurationError` without OpenTelemetry."""

    def __init__(self) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigurationError(
                "Durable: tracing=True needs OpenTelemetry. Install it: pip install opentelemetry-api"
            ) from error
        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("durable")
        self._stays: dict[str, Stay] = {}

    def tagged(self, tags: str | None) -> str | None:
        """The tags of a start, with the trace of whoever makes it, if there is one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        if (parent := carrier.get("traceparent")) is None:
            return tags
        return json.dumps({**(json.loads(tags) if tags else {}), TAG: parent})

    def arrived(self, execution_id: UUID, subject: Subject, queue: str, worker: UUID, waits: Waits) -> Stay:
        """An execution has begun to run here, which *waits* for this, see `waits_of`."""
        shown, history = subject.execution_id, subject.history
        parent = self._parent(execution_id, subject.tags)
        attributes: dict[str, str | int] = {
            "durable.execution_id": shown,
            "durable.life": history.life,
            "durable.retry": history.retries,
        }
        span = self._tracer.start_span(
            f"run {subject.workflow}",
            context=parent,
            kind=self._trace.SpanKind.CONSUMER,
            attributes={
                **attributes,
                "durable.workflow": subject.workflow,
                "durable.queue": queue,
                "durable.worker_id": str(worker),
                "durable.crashes": subject.crashes,
            },
        )
        stay = self._stays[shown] = Stay(span, parent, attributes, waits)
        return stay

    def left(self, shown: str, stay: Stay) -> None:
        """It runs here no more: it has ended, waits, or goes on elsewhere."""
        stay.span.end()
        if (
            self._stays.get(shown) is stay
        ):  # else it is back already, and what has left is a body that was late to heed it
            del self._stays[shown]

    def recorded(self, execution_id: str, record: Record) -> None:
        """An effect of a body was recorded: a wait has begun, or ended."""
        stay = self._stays.get(execution_id)
        if stay is None or record.key is None:
            return
        match record.kind:
            case "waiting":
                stay.waits[record.path, record.key] = time.time_ns()
            case "answered" | "expired" | "tried":
                self._woke(stay, record, record.kind)
            case _:
                pass

    def slept(self, execution_id: str, record: Record) -> None:
        """A body goes on after a sleep, which *record* has promised: for the first time, or once more."""
        if (stay := self._stays.get(execution_id)) is not None:
            self._woke(stay, record, "passed")

    def _woke(self, stay: Stay, record: Record, outcome: str) -> None:
        key = record.key or ""
        begun = stay.waits.pop((record.path, key), None)
        if begun is None:  # it has ended before, or is no wait
            return
        name = key.rpartition("#")[0]
        kind = name.partition(":")[0]
        span = self._tracer.start_span(
            f"wait {KINDS.get(kind, kind)}",
            context=stay.parent,
            links=[self._trace.Link(self._trace.get_current_span().get_span_context())],  # the attempt that goes on
            start_time=min(begun, time.time_ns()),  # the clock of the database may be ahead of ours
            attributes={
                **stay.attributes,
                "durable.path": record.path,
                "durable.attempt": record.attempt,
                "durable.wait": name,
                "durable.outcome": outcome,
            },
        )
        if record.error is not None:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, record.failure.message))
        span.end()

    def begin(self, context: Context) -> Span:
        """An attempt begins. What its body traces is within it, see `attach`."""
        stay = self._stays.get(context.execution_id)
        return self._tracer.start_span(
            f"step {context.path}",
            context=None if stay is None else self._trace.set_span_in_context(stay.span),
            attributes={
                **({} if stay is None else stay.attributes),
                "durable.execution_id": context.execution_id,
                "durable.path": context.path,
                "durable.attempt": context.attempt,
            },
        )

    def attach(self, span: Span) -> None:
        """Make *span* the current one, in the context variables that this is called in."""
        self._context.attach(self._trace.set_span_in_context(span))

    def end(self, span: Span, error: BaseException | None) -> None:
        """The attempt has ended. One that was cancelled has not failed: it waits, or goes on elsewhere."""
        if isinstance(error, Exception):
            span.record_exception(error)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, str(error)))
        elif error is not None:
            span.set_attribute("durable.interrupted", True)
        span.end()

    def _parent(self, execution_id: UUID, tags: Any) -> OtelContext:
        told = tags.get(TAG)
        if not isinstance(told, str):
            span_id = hashlib.sha256(execution_id.bytes).hexdigest()[:16]
            told = f"00-{execution_id.hex}-{span_id}-01"
        return self._propagator.extract({"traceparent": told})


def waits_of(journal: Iterable[Named], ready_at: datetime | None) -> Waits:
    """The waits that an execution brings along to a worker, which has been ready since *ready_at*, where that is known.

    That a sleep has passed is recorded nowhere. It was in an earlier stay if anything was recorded since, or if the execution
    has slept since: then what has woken it came later.
    """
    waits: Waits = {}
    sleeps: dict[tuple[str, str], datetime] = {}
    last = datetime.min.replace(tzinfo=UTC)
    for row in journal:
        last = max(last, row["recorded_at"])
        if row["kind"] == "continued":
            waits.clear()
            sleeps.clear()
        if row["key"] is None:
            continue
        place = row["path"], row["key"]
        waits.pop(place, None)
        if row["kind"] == "waiting":
            waits[place] = round(row["recorded_at"].timestamp() * 1e9)
            if place[1].startswith(SLEEPS):
                sleeps[place] = row["run_at"]
    woken = datetime.now(UTC) if ready_at is None else ready_at
    woken = max((due for due in sleeps.values() if woken - LATE <= due <= woken), default=woken)
    for place, due in sleeps.items():
        if due < last or due < woken - TOGETHER:
            del waits[place]
    return waits
