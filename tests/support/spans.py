"""Spans of several processes in one file. What a process has ended is there, even if it is killed at the next moment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


@dataclass(frozen=True)
class Written:
    """A span that has ended, and the process that it has ended in. Its ids are as OpenTelemetry has them."""

    pid: int
    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]


class _ToFile(SpanExporter):
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            assert span.context is not None
            parent = None if span.parent is None else span.parent.span_id
            ids = span.context.trace_id, span.context.span_id, parent
            times = span.start_time or 0, span.end_time or 0
            failed = span.status.status_code is trace.StatusCode.ERROR
            written = Written(os.getpid(), span.name, *ids, *times, failed, dict(span.attributes or {}))
            os.write(self._file, f"{json.dumps(asdict(written))}\n".encode())
        return SpanExportResult.SUCCESS


def write_spans(path: str) -> None:
    """Let all spans of this process be appended to *path*, each when it ends."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_ToFile(path)))
    trace.set_tracer_provider(provider)


def read_spans(path: Path) -> list[Written]:
    """What was written there by now."""
    return [Written(**json.loads(line)) for line in path.read_text().splitlines()]
