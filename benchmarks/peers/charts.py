"""Bar charts as plain SVG, readable in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.peers.figures import FLOOR, OURS, Results, cell

WIDTH, LABEL, VALUE, BAR, GAP, TITLE = 760, 120, 120, 16, 6, 34
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.floor { fill: none; stroke: #8c959f; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
  .floor { stroke: #6e7681 }
}
"""
CHARTS: Mapping[str, tuple[str, Sequence[str]]] = {
    "throughput": ("Executions a second", ("no_step", "one_step", "three_steps", "fan_out")),
    "starts": ("Starts a second", ("start_one", "start_fifty", "start_bulk")),
    "latency": ("Milliseconds (p50)", ("latency_here", "latency_away", "latency_start", "events")),
    "processes": ("Executions a second of four worker processes", ("four_no_step", "four_one_step")),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: how long, and what is written beside it."""

    label: str
    length: float
    value: str
    kind: str = "bar"


def svg(panels: Sequence[tuple[str, Sequence[Bar]]], title: str) -> str:
    """One panel below the other, each with a scale of its own that begins at zero."""
    lines: list[str] = []
    top = 0
    for heading, bars in panels:
        lines.append(f'<text class="title" x="0" y="{top + 22}">{escape(heading)}</text>')
        top += TITLE
        longest = max((bar.length for bar in bars), default=0) or 1
        for bar in bars:
            width = max((WIDTH - LABEL - VALUE) * bar.length / longest, 1)
            middle = top + BAR - 4
            lines += [
                f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>',
                f'<rect class="{bar.kind}" x="{LABEL}" y="{top}" width="{width:.1f}" height="{BAR}"/>',
                f'<text x="{LABEL + width + 6:.1f}" y="{middle}">{escape(bar.value)}</text>',
            ]
            top += BAR + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 6}" role="img" width="{WIDTH}">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *lines, "</svg>"]) + "\n"


def draw(results: Results) -> dict[str, tuple[str, str]]:
    """Charts of what was measured: by file name, the picture and its text."""
    drawn: dict[str, tuple[str, str]] = {}
    for name, (title, workloads) in CHARTS.items():
        panels = [(results.workloads[one].title, _bars(results, one)) for one in workloads if one in results.figures]
        if panels:
            drawn[f"{name}.svg"] = (svg(panels, title), title)
    return drawn


def _bars(results: Results, workload: str) -> list[Bar]:
    kinds = {OURS: "ours", FLOOR: "floor"}
    return [
        Bar(peer.title, figure, cell(results, workload, peer), kinds.get(peer.name, "bar"))
        for peer in results.peers
        if (figure := results.middle(workload, peer.name)) is not None
    ]
