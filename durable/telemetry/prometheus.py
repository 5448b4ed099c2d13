"""Figures in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable

from durable.telemetry.catalogue import CATALOGUE, Labels, Sample
from durable.telemetry.meter import BUCKETS, Histogram


def written(samples: Iterable[Sample], histograms: Iterable[tuple[str, Labels, Histogram]]) -> str:
    """The page that Prometheus reads."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        families.setdefault(name, []).append(_line(name, labels, value))
    for name, labels, histogram in histograms:
        lines = families.setdefault(name, [])
        total = 0
        for bound, count in zip((*BUCKETS, float("inf")), histogram.counts, strict=True):
            total += count
            lines.append(_line(f"{name}_bucket", (*labels, ("le", _number(bound))), total))
        lines += [_line(f"{name}_sum", labels, histogram.sum), _line(f"{name}_count", labels, total)]
    page: list[str] = []
    for name, figure in CATALOGUE.items():
        if name in families:
            page += [f"# HELP {name} {figure.text}", f"# TYPE {name} {figure.kind}", *families[name]]
    return "\n".join(page) + "\n"


def _line(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(float(value)) if value % 1 else str(int(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
