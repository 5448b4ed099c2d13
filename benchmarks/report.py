"""Tables of results, for the terminal and for `RESULTS.md`, and the words in which figures are said."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table as RichTable

RESULTS = Path(__file__).with_name("RESULTS.md")
MARKS = ("peers", "scale")  # of sections with a command of their own
SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to one question. The first column is words, the others are figures."""

    question: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list[str])

    def show(self, console: Console) -> None:
        """Print it."""
        table = RichTable(
            title=self.question, title_justify="left", caption="\n".join(self.notes), caption_justify="left"
        )
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        console.print()

    def markdown(self) -> str:
        """The same as a section of Markdown."""
        lines = [
            f"## {self.question}",
            "",
            _line(self.columns),
            _line([":--", *["--:"] * (len(self.columns) - 1)]),
            *map(_line, self.rows),
            "",
            *(f"- {note}" for note in self.notes),
        ]
        return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def median(values: Sequence[float]) -> float:
    """The middle of *values*."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that at least *share* (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def rate(values: Sequence[float]) -> str:
    """The median of rates."""
    return f"{median(values):,.0f}"


def spread(values: Sequence[float]) -> str:
    """From the least to the greatest rate."""
    return f"{min(values):,.0f} - {max(values):,.0f}"


def ratio(values: Sequence[float], floors: Sequence[float]) -> str:
    """The median of the ratios, round by round: what disturbs a round disturbs both sides of its ratio."""
    return f"{median([value / floor for value, floor in zip(values, floors, strict=True)]):.2f}"


def milliseconds(seconds: float) -> str:
    """A short time."""
    return f"{seconds * 1000:.2f}"


async def machine(dsn: str) -> list[tuple[str, str]]:
    """What the figures depend on."""
    connection = await asyncpg.connect(dsn)
    try:
        postgres: str = await connection.fetchval("show server_version")
        settings = [f"{name} {await connection.fetchval(f'show {name}')}" for name in SETTINGS]
    finally:
        await connection.close()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        ("date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("revision", await asyncio.to_thread(_revision)),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("processor", f"{os.cpu_count()} cores, {await asyncio.to_thread(_processor)}"),
        ("memory", f"{memory / (1 << 30):.0f} GiB"),
        ("load before", " ".join(f"{load:.1f}" for load in os.getloadavg())),
        ("PostgreSQL", f"{postgres}, on the same machine: {', '.join(settings)}"),
        ("Python", f"{platform.python_version()}, uvloop {version('uvloop')}, asyncpg {version('asyncpg')}"),
    ]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _revision() -> str:
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def facts_table(facts: Sequence[tuple[str, str]]) -> str:
    """What the figures depend on, as Markdown."""
    return "\n".join([_line(("", "")), _line((":--", ":--")), *map(_line, facts), ""])


def section(text: str, mark: str) -> str:
    """The part of *text* between `<!-- mark: begin -->` and `<!-- mark: end -->`, these included; empty if there is none."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    _, found, after = text.partition(begin)
    inside, closed, _ = after.partition(end)
    return found + inside + closed if closed else ""


def write(facts: Sequence[tuple[str, str]], tables: Sequence[Table], rounds: int) -> None:
    """Replace `RESULTS.md`, but for the sections that others have written."""
    head = [
        "# What was measured",
        "",
        "Made by `python -m benchmarks --write`. The figures are those of one machine: compare each with the floor beside it, "
        f"which was measured in the same run, in turns. Medians of {rounds} rounds, each on a fresh database.",
        "",
        facts_table(facts),
    ]
    before = RESULTS.read_text("utf-8") if RESULTS.exists() else ""
    text = "\n".join(head) + "\n" + "\n".join(table.markdown() for table in tables)
    kept = [part for mark in MARKS if (part := section(before, mark))]
    RESULTS.write_text("\n".join([text, *(f"{part}\n" for part in kept)]), "utf-8")


def put(text: str, mark: str, path: Path = RESULTS) -> None:
    """Put *text* into *path* as the section of *mark*, one of `MARKS`, and leave alone what else is there."""
    before = path.read_text("utf-8") if path.exists() else ""
    rest = before.replace(section(before, mark), "").rstrip()
    path.write_text(f"{rest}\n\n<!-- {mark}: begin -->\n{text.strip()}\n<!-- {mark}: end -->\n".lstrip(), "utf-8")
