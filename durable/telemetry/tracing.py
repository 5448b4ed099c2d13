"""Traces, for OpenTelemetry: an execution is one trace, of whatever processes run it, and however long it takes.

Its trace is that of whoever has started it, which travels as a tag; without one, it is reckoned from the execution's id, so
that all processes come to the same. The spans are the stays with a worker, and in these the attempts of steps.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.context import Context as OtelContext
    from opentelemetry.trace import Span

    from durable.engine.context import Context

TAG = "durable.trace"


class Tracing:
    """Makes the spans of one engine. Raises `ConfigurationError` without OpenTelemetry."""

    def __init__(self) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigurationError(
                "Durable: tracing=True needs OpenTelemetry. Install it: pip install 'durable[otel]'."
            ) from error
        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("durable")
        self._stays: dict[str, Span] = {}

    def tagged(self, tags: str | None) -> str | None:
        """The tags of a start, with the trace of whoever makes it, if there is one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        if (parent := carrier.get("traceparent")) is None:
            return tags
        return json.dumps({**(json.loads(tags) if tags else {}), TAG: parent})

    def arrived(self, execution_id: UUID, shown: str, workflow: str, tags: Any, queue: str, worker: UUID) -> None:
        """An execution has begun to run here."""
        self._stays[shown] = self._tracer.start_span(
            f"run {workflow}",
            context=self._parent(execution_id, tags),
            kind=self._trace.SpanKind.CONSUMER,
            attributes={
                "durable.execution_id": shown,
                "durable.workflow": workflow,
                "durable.queue": queue,
                "durable.worker_id": str(worker),
            },
        )

    def left(self, shown: str) -> None:
        """It runs here no more: it has ended, waits, or goes on elsewhere."""
        if (span := self._stays.pop(shown, None)) is not None:
            span.end()

    def begin(self, context: Context) -> Span:
        """An attempt begins. What its body traces is within it, see `attach`."""
        stay = self._stays.get(context.execution_id)
        parent = None if stay is None else self._trace.set_span_in_context(stay)
        return self._tracer.start_span(
            f"step {context.path}",
            context=parent,
            attributes={
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
