"""The figures for OpenTelemetry: through its metrics API, to whatever provider the application has set up.

There is one of this in a process, for all its engines: instruments are made once, and what is asked for their values cannot be
taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from durable.errors import ConfigurationError
from durable.telemetry.catalogue import CATALOGUE, Labels
from durable.telemetry.figures import ANSWER_SECONDS, Figures
from durable.telemetry.meter import BUCKETS

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Observation

log = logging.getLogger("durable.telemetry")

TOGETHER = 1.0  # seconds within which the instruments are read that belong to one collection


@functools.cache
def metrics() -> OtelMetrics:
    """That of this process. Raises `ConfigurationError` without OpenTelemetry."""
    return OtelMetrics()


class OtelMetrics:
    """Tells OpenTelemetry the figures of the engines that run in this process."""

    def __init__(self) -> None:
        try:
            from opentelemetry.metrics import Observation, get_meter
        except ImportError as error:
            raise ConfigurationError(
                "Durable: otel_metrics=True needs OpenTelemetry. Install it: pip install opentelemetry-api"
            ) from error
        self._observation = Observation
        self._lock = threading.Lock()
        self._engines: list[Figures] = []
        self._gone: dict[tuple[str, Labels], float] = {}  # what engines have counted that run no more
        self._asked_at = float("-inf")
        self._histograms: dict[str, Histogram] = {}
        meter = get_meter("durable")
        for name, figure in CATALOGUE.items():
            described = {"unit": figure.unit, "description": figure.text}
            observed = [functools.partial(self._observed, name)]
            if figure.kind == "histogram":
                self._histograms[name] = meter.create_histogram(
                    figure.otel, **described, explicit_bucket_boundaries_advisory=BUCKETS
                )
            elif figure.kind == "counter":
                meter.create_observable_counter(figure.otel, observed, **described)
            elif figure.adds:
                meter.create_observable_up_down_counter(figure.otel, observed, **described)
            else:
                meter.create_observable_gauge(figure.otel, observed, **described)

    @contextlib.contextmanager
    def telling(self, figures: Figures) -> Generator[None]:
        """Tell those of an engine, for as long as it runs. What it has counted stays in the sums."""
        with self._lock:
            self._engines.append(figures)
        figures.meter.also = self._record
        try:
            yield
        finally:
            figures.meter.also = None
            with self._lock:
                self._engines.remove(figures)
                for name, labels, value in figures.here():
                    if CATALOGUE[name].kind == "counter":
                        self._gone[name, labels] = self._gone.get((name, labels), 0) + value

    def _record(self, name: str, labels: Labels, value: float) -> None:
        self._histograms[name].record(value, _attributes(labels))

    def _observed(self, name: str, _: CallbackOptions) -> list[Observation]:
        """What a figure is now. Called by a reader, mostly in a thread of its own."""
        self._ask()
        adds = CATALOGUE[name].adds
        with self._lock:
            values = {labels: value for (gone, labels), value in self._gone.items() if gone == name}
            for figures in self._engines:
                for found, labels, value in (*figures.here(), *figures.known):
                    if found == name:
                        values[labels] = value + (values.get(labels, 0) if adds else 0)
        return [self._observation(value, _attributes(labels)) for labels, value in values.items()]

    def _ask(self) -> None:
        """Have the engines ask their databases, and wait for it, except on a loop, which may be theirs: then what they say is
        there for the next collection."""
        with self._lock:
            if time.monotonic() - self._asked_at < TOGETHER:
                return
            self._asked_at = time.monotonic()
            asked = [
                asyncio.run_coroutine_threadsafe(figures.ask(), figures.loop)
                for figures in self._engines
                if not figures.loop.is_closed()
            ]
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            return
        for answer in asked:
            try:
                answer.result(ANSWER_SECONDS + 1)
            except TimeoutError:  # the database may not take so long: it is the loop that is busy
                answer.cancel()
            except Exception:
                log.exception("what the database says of its queues could not be told to OpenTelemetry")


def _attributes(labels: Labels) -> dict[str, str]:
    return {f"durable.{label}": value for label, value in labels}
