"""Counting what happens in this process, cheaply, and writing it as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds

HELP = {
    "durable_executions_started_total": ("counter", "Executions started by this process."),
    "durable_executions_ended_total": ("counter", "Executions whose end this process has written, by status."),
    "durable_executions_claimed_total": ("counter", "Times that this worker has taken an execution up."),
    "durable_step_seconds": ("histogram", "How long attempts of steps ran here, by outcome."),
    "durable_writes_total": ("counter", "Rows that this process has written through the group commit."),
    "durable_flushes_total": ("counter", "Statements that they were written with."),
    "durable_workers_lost_total": ("counter", "Dead workers that this worker has buried."),
    "durable_slots": ("gauge", "Executions that this worker runs at most, by queue."),
    "durable_slots_used": ("gauge", "Executions that this worker runs now, by queue."),
    "durable_queue_ready": ("gauge", "Executions that are ready and wait for a slot, in all the database."),
    "durable_queue_held": ("gauge", "Executions that are held: paused, or their code is missing."),
    "durable_queue_running": ("gauge", "Executions that workers run, in all the database."),
    "durable_queue_oldest_seconds": ("gauge", "For how long the oldest of what is ready has been so."),
    "durable_queue_paused": ("gauge", "1 while the queue is paused."),
    "durable_workers": ("gauge", "Workers whose lease holds."),
    "durable_waiting": ("gauge", "Executions that sleep: until a time, an event, an answer."),
    "durable_up": ("gauge", "1 while PostgreSQL answers this process."),
}

Labels = tuple[tuple[str, str], ...]


class _Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0


class Meter:
    """The counters of one engine. Used on its loop alone."""

    __slots__ = ("_counters", "_steps")

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], float] = {}
        self._steps: dict[tuple[str, str, str], _Histogram] = {}

    def count(self, name: str, labels: Labels = (), by: float = 1) -> None:
        """Add to a counter."""
        key = name, labels
        self._counters[key] = self._counters.get(key, 0) + by

    def attempted(self, workflow: str, step: str, outcome: str, seconds: float) -> None:
        """An attempt of a step has ended so."""
        found = self._steps.get((workflow, step, outcome))
        if found is None:
            found = self._steps[workflow, step, outcome] = _Histogram()
        found.counts[bisect_left(BUCKETS, seconds)] += 1
        found.sum += seconds

    def samples(self) -> Iterator[tuple[str, Labels, float]]:
        """All that was counted."""
        for (name, labels), value in self._counters.items():
            yield name, labels, value
        for (workflow, step, outcome), histogram in self._steps.items():
            labels = ("workflow", workflow), ("step", step), ("outcome", outcome)
            total = 0
            for bound, count in zip((*BUCKETS, float("inf")), histogram.counts, strict=True):
                total += count
                yield "durable_step_seconds_bucket", (*labels, ("le", _number(bound))), total
            yield "durable_step_seconds_sum", labels, histogram.sum
            yield "durable_step_seconds_count", labels, total


def written(samples: Iterable[tuple[str, Labels, float]]) -> str:
    """Samples in the text format of Prometheus (version 0.0.4)."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        family = name
        if family not in HELP:
            family = name.rpartition("_")[0]
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        families.setdefault(family, []).append(
            f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"
        )
    lines: list[str] = []
    for family, (kind, text) in HELP.items():
        if family in families:
            lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}", *families[family]]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(float(value)) if value % 1 else str(int(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
