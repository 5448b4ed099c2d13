"""What do captured logs, traces and metrics for OpenTelemetry cost a step?

Each contestant does the same work, and its steps log the same line; only the engine's options differ. The one without runs
twice in every round: how far these two lie apart is the noise of the machine. What counts is the time of the processor, which
others that use the machine disturb least.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.bench import Bench
from benchmarks.report import Table, median, rate, ratio
from benchmarks.throughput import CONCURRENCY, Drained, drain

QUESTION = "Telemetry: what it costs a step"
STEPS = 3
SHORT = 3  # rounds for one of the others: what disturbs one disturbs fewer of its neighbours
WITHOUT = "without"
NOISE = "without, once more"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    WITHOUT: {},
    "captured logs, a line a step": {"capture_logs": "INFO"},
    "captured logs, of which nothing is worth it": {"capture_logs": "ERROR"},
    "traces": {"tracing": True},
    "metrics for OpenTelemetry": {"otel_metrics": True},
    NOISE: {},
}

logger = logging.getLogger("app")


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def measure(bench: Bench) -> Table:
    """All of them in turns."""
    executions = bench.size(3_000, 1_000)
    bench = replace(bench, rounds=bench.rounds * SHORT)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    logger.setLevel("INFO")
    logger.addHandler(logging.NullHandler())
    root = logging.getLogger()
    shown, root.handlers = root.handlers, []  # else they would be printed
    try:
        drained = await bench.in_turns(
            {name: partial(_drained, bench, executions, options) for name, options in OPTIONS.items()}
        )
    finally:
        root.handlers = shown
        provider.shutdown()
    costs = {name: [drained.processor for drained in found] for name, found in drained.items()}
    floor = costs[WITHOUT]
    rows = [
        (
            name,
            rate([one.rate for one in drained[name]]),
            f"{median(found) / STEPS * 1e6:.0f}",
            ratio(found, floor),
            _spread_of_ratios(found, floor),
        )
        for name, found in costs.items()
    ]
    return Table(
        QUESTION,
        ("", "executions /s", "processor, µs a step", "of that without", "from - to"),
        rows,
        [
            f"{executions:,} no-op executions of {STEPS} steps, started beforehand; concurrency {CONCURRENCY}; uvloop; "
            f"medians of {bench.rounds} rounds. Steps are empty but for a line that they log, so that these are the worst "
            "ratios.",
            "The processor's time is that of the worker process, PostgreSQL apart.",
            "Traces: the SDK's batch processor, all sampled, to an exporter that drops them. A stay and three attempts: four "
            "spans an execution.",
            "The last line is the noise: the same as the first.",
        ],
    )


async def _drained(bench: Bench, executions: int, options: Mapping[str, Any]) -> Drained:
    async with bench.database() as dsn:
        say = partial(logger.info, "a line of a usual length, with %s", "an argument")
        return await drain(dsn, STEPS, executions, say, **{"capture_logs": None, **options})


def _spread_of_ratios(found: Sequence[float], floor: Sequence[float]) -> str:
    ratios = [value / without for value, without in zip(found, floor, strict=True)]
    return f"{min(ratios):.2f} - {max(ratios):.2f}"
