"""Counting what happens in this process, cheaply."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TypeVar

from durable.telemetry.catalogue import Labels, Sample

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds
SERIES_MAX = 1_000  # sets of labels of one figure
OTHER = "other"

T = TypeVar("T")


class Histogram:
    """How often something took how long: `counts` by the upper bounds in `BUCKETS`, the last of what took longer."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0


class Meter:
    """The counters and histograms of one engine. Counts on its loop alone; may be read in any thread.

    A figure has at most a thousand sets of labels: what would be more is counted under the label `other`. *also* is told of
    each value of a histogram as well, for an exporter that keeps its own.
    """

    __slots__ = ("_counters", "_histograms", "also")

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}
        self.also: Callable[[str, Labels, float], None] | None = None

    def count(self, name: str, labels: Labels = (), by: float = 1) -> None:
        """Add to a counter."""
        try:  # nearly always it is there, and this is done several times for each execution
            self._counters[name][labels] += by
        except KeyError:
            series = self._counters.setdefault(name, {})
            labels = _bounded(series, labels)
            series[labels] = series.get(labels, 0) + by

    def observe(self, name: str, labels: Labels, seconds: float) -> None:
        """Something took so long."""
        try:
            found = self._histograms[name][labels]
        except KeyError:
            series = self._histograms.setdefault(name, {})
            labels = _bounded(series, labels)
            found = series.setdefault(labels, Histogram())
        found.counts[bisect_left(BUCKETS, seconds)] += 1
        found.sum += seconds
        if self.also is not None:
            self.also(name, labels, seconds)

    def attempted(self, workflow: str, step: str, outcome: str, seconds: float) -> None:
        """An attempt of a step has ended so."""
        self.observe("durable_step_seconds", (("workflow", workflow), ("step", step), ("outcome", outcome)), seconds)

    def counters(self) -> Iterator[Sample]:
        """All that was counted."""
        for name, series in self._counters.copy().items():
            for labels, value in series.copy().items():
                yield name, labels, value

    def histograms(self) -> Iterator[tuple[str, Labels, Histogram]]:
        """All that was observed."""
        for name, series in self._histograms.copy().items():
            for labels, histogram in series.copy().items():
                yield name, labels, histogram


def _bounded(series: dict[Labels, T], labels: Labels) -> Labels:
    if labels in series or len(series) < SERIES_MAX:
        return labels
    return tuple((label, OTHER) for label, _ in labels)
