"""From figures to words: cells, ratios, tables and the section of `RESULTS.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.roster import Peer
from benchmarks.peers.workloads import Workload
from benchmarks.report import RESULTS, Table, facts_table, median, percentile, put

Figure = float | list[float]
OURS = "durable"
FLOOR = "floor"
MARK = "peers"


@dataclass(slots=True)
class Results:
    """What was measured: by workload and peer, a figure for each round, or why there is none."""

    peers: Sequence[Peer]
    workloads: Mapping[str, Workload]
    figures: dict[str, dict[str, list[Figure]]] = field(default_factory=dict[str, dict[str, list[Figure]]])
    processor: dict[str, Mapping[str, Sequence[tuple[float, float]]]] = field(
        default_factory=dict[str, Mapping[str, Sequence[tuple[float, float]]]]
    )
    """By peer and workload: the processor time of an execution in each round, in seconds, of workers and PostgreSQL."""
    failures: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def add(self, workload: str, peer: str, figure: Figure) -> None:
        """One more round."""
        self.figures.setdefault(workload, {}).setdefault(peer, []).append(figure)

    def percentiles(self, workload: str, peer: str) -> tuple[float, float] | None:
        """The p50 and p99 of all rounds' samples, in milliseconds."""
        pooled = [sample for one in self._rounds(workload, peer) if isinstance(one, list) for sample in one]
        return (percentile(pooled, 0.5) * 1000, percentile(pooled, 0.99) * 1000) if pooled else None

    def middle(self, workload: str, peer: str) -> float | None:
        """The median of the rounds; of latencies the p50 of all samples, in milliseconds. None if it was not measured."""
        if (found := self.percentiles(workload, peer)) is not None:
            return found[0]
        rounds = self._middles(workload, peer)
        return median(rounds) if rounds else None

    def ahead(self, workload: str, peer: str) -> float | None:
        """How many times better durable is than *peer*; below 1: worse. None if either was not measured.

        The median of the ratios, round by round: what disturbs a round disturbs both sides of its ratio.
        """
        pairs = list(zip(self._middles(workload, OURS), self._middles(workload, peer), strict=False))
        if not pairs or any(min(pair) <= 0 for pair in pairs):
            return None
        higher = self.workloads[workload].higher
        return median([ours / theirs if higher else theirs / ours for ours, theirs in pairs])

    def _rounds(self, workload: str, peer: str) -> Sequence[Figure]:
        return self.figures.get(workload, {}).get(peer, ())

    def _middles(self, workload: str, peer: str) -> list[float]:
        return [percentile(one, 0.5) if isinstance(one, list) else one for one in self._rounds(workload, peer)]

    def best(self, workload: str) -> Peer | None:
        """The best of the peers, the floor not counted."""
        others = [peer for peer in self.peers if peer.name not in (OURS, FLOOR)]
        measured = [(found, peer) for peer in others if (found := self.middle(workload, peer.name)) is not None]
        if not measured:
            return None
        choose = max if self.workloads[workload].higher else min
        return choose(measured, key=lambda pair: pair[0])[1]


def cell(results: Results, workload: str, peer: Peer) -> str:
    """A figure as it stands in a table."""
    figure = results.middle(workload, peer.name)
    if figure is None:
        return "failed" if (workload, peer.name) in results.failures else "-"
    if (both := results.percentiles(workload, peer.name)) is not None:
        return f"{both[0]:,.1f} / {both[1]:,.1f}"
    return f"{figure:,.0f}"


def times(ratio: float | None) -> str:
    """A ratio."""
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 20 else f"{ratio:.1f}x" if ratio >= 2 else f"{ratio:.2f}x"


def tables(results: Results) -> list[Table]:
    """The figures, the ratios, and who was left out of what."""
    titles = tuple(peer.title for peer in results.peers)
    units = {"/s": "/s", "ms": "p50 / p99 ms", "bytes": "bytes"}
    measured = [(name, workload) for name, workload in results.workloads.items() if name in results.figures]
    figures = [
        (f"{workload.title}, {units[workload.unit]}", *(cell(results, name, peer) for peer in results.peers))
        for name, workload in measured
    ]
    others = [peer for peer in results.peers if peer.name != OURS]
    ratios = [
        (workload.title, *(times(results.ahead(name, peer.name)) for peer in others), _best(results, name))
        for name, workload in measured
    ]
    spent = [
        (workload.title, *(_spent(results.processor.get(peer.name, {}).get(name, ())) for peer in results.peers))
        for name, workload in measured
        if any(name in found for found in results.processor.values())
    ]
    return [
        Table("Beside its peers", ("", *titles), figures, ["-: left out, or not possible; see below."]),
        Table(
            "How many times better durable is",
            ("", *(peer.title for peer in others), "best peer"),
            ratios,
            [
                "Of rates: ours / theirs. Of latencies (p50) and memory: theirs / ours. The floor is no engine, and no peer."
            ],
        ),
        Table(
            "Processor time of one execution, microseconds: workers + PostgreSQL",
            ("", *titles),
            spent,
            ["Less disturbed by a busy machine than rates are. Starting to work, polling and heartbeats are in it."],
        ),
    ]


def _spent(rounds: Sequence[tuple[float, float]]) -> str:
    if not rounds:
        return "-"
    return " + ".join(f"{median(side) * 1e6:,.0f}" for side in zip(*rounds, strict=True))


def _best(results: Results, workload: str) -> str:
    best = results.best(workload)
    return "-" if best is None else f"{times(results.ahead(workload, best.name))} ({best.title})"


def notes(results: Results, versions: Mapping[str, str]) -> str:
    """Markdown: what each peer is, what it runs, and what it is left out of."""
    lines: list[str] = []
    for peer in results.peers:
        lines += ["", f"**{peer.title}** ({versions[peer.name]}): {peer.configuration}.", ""]
        for name, workload in results.workloads.items():
            if name in results.figures and name in peer.runs:
                lines.append(f"- {workload.title}: {peer.runs[name]}")
        left_out: dict[str, list[str]] = {}
        for name, reason in peer.cannot.items():
            if name in results.figures:
                left_out.setdefault(reason, []).append(results.workloads[name].title)
        lines += [f"- left out, {reason}: {'; '.join(titles)}" for reason, titles in left_out.items()]
        failed = {name: why for (name, who), why in results.failures.items() if who == peer.name}
        lines += [f"- failed, {results.workloads[name].title}: {why}" for name, why in failed.items()]
    return "\n".join(lines).strip() + "\n"


def markdown(
    results: Results,
    facts: Sequence[tuple[str, str]],
    versions: Mapping[str, str],
    rounds: int,
    charts: Mapping[str, str],
) -> str:
    """The whole section. *charts*: alternative texts by file."""
    head = (
        "# Beside its peers\n\n"
        "Made by `make bench-peers`. Each peer in an environment of its own and at its best honest configuration, all on the "
        f"same PostgreSQL, in turns, each measurement on a new database: medians of {rounds} round(s), percentiles of the "
        "samples of all. The ratios travel to other machines, the figures do not.\n"
    )
    pictures = "\n".join(f"![{text}](peers/{file})" for file, text in charts.items())
    parts = [head, facts_table(facts), pictures + "\n", *(table.markdown() for table in tables(results))]
    return "\n".join([*parts, "## What was run\n", notes(results, versions)])


def write(text: str, path: Path = RESULTS) -> None:
    """Put the section into *path*, and leave alone what else is there."""
    put(text, MARK, path)
