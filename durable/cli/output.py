"""How the command line says things: tables for people, JSON for programs, errors that say what to do, and exit statuses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from durable.doctor import duration

PIPE_WIDTH = 200  # columns, where nobody says how wide it is: lines are for grep then


class Exit(IntEnum):
    """What a program that calls `durable` learns."""

    OK = 0
    NO = 1  # it was asked whether something is so, and it is not
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4  # not in the state that it is in
    DATABASE = 5
    INTERRUPTED = 130


class Problem(Exception):
    """Something that the user can mend. *cure* says how."""

    def __init__(self, what: str, cure: str = "", status: Exit = Exit.USAGE) -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure
        self.status = status


class Declined(Exception):
    """Somebody was asked whether it is to be done, and did not say yes."""

    def __init__(self, status: Exit) -> None:
        super().__init__(status)
        self.status = status


UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal obeys, but for tab and newline


class _Console(Console):
    """A console on which nothing that is shown can move the cursor, change colours or answer in the user's name."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            if segment.control is None and _CONTROL.search(segment.text):
                yield Segment(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", segment.text), segment.style)
            else:
                yield segment


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    # What is shown has names that others have chosen: nothing in it is markup.
    return _Console(stderr=stderr, width=width, highlight=False, soft_wrap=False, markup=False, emoji=False)


out = _console()
err = _console(stderr=True)

COLOURS = {
    "completed": "green",
    "running": "cyan",
    "pending": "blue",
    "waiting": "yellow",
    "compensating": "magenta",
    "compensated": "magenta",
    "failed": "red",
    "compensation_failed": "red",
    "cancelled": "dim",
    "retrying": "yellow",
    "error": "red",
    "warning": "yellow",
    "note": "dim",
}


def print_json(value: Any) -> None:
    """Print *value* as JSON, indented."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_json_line(value: Any) -> None:
    """Print *value* as one line of JSON, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def say(text: str, style: str = "") -> None:
    """A line for people; it is no markup."""
    out.print(Text(text, style=style))


def print_line(line: Text) -> None:
    """A line of many that follow each other, at once: cut at the edge of a terminal, whole in a pipe."""
    if out.is_terminal:
        out.print(line, no_wrap=True, overflow="ellipsis")
    else:
        out.print(line, soft_wrap=True)
    sys.stdout.flush()


def raw(text: str) -> None:
    """Text for another program, as it is: no line of it is broken."""
    sys.stdout.write(f"{text}\n")


def hint(text: str) -> None:
    """What may be done next, for people, beside the result."""
    err.print(Text(text, style="dim"), soft_wrap=True)


def complain(problem: Problem) -> None:
    """Tell of an error and its cure."""
    err.print(Text.assemble(("error: ", "bold red"), problem.what), soft_wrap=True)
    if problem.cure:
        err.print(Text(f"  {problem.cure}"), soft_wrap=True)


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=COLOURS.get(status, ""))


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; the first column is never cut."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        justify = "right" if column in right else "left"
        made.add_column(column, justify=justify, no_wrap=place == 0, overflow="fold")
    return made


def ago(at: datetime | None) -> str:
    """How long ago something was, or how long it is until then."""
    if at is None:
        return ""
    seconds = (datetime.now(at.tzinfo) - at).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def length(of: timedelta) -> str:
    """A duration as it is typed, whole: 1h30m."""
    left, parts = of, list[str]()
    for name, unit in UNITS.items():
        count, left = divmod(left, unit)
        parts += [f"{count}{name}"] if count else []
    return "".join(parts) or "0s"


def took(began: datetime, ended: datetime | None) -> str:
    """How long it took."""
    return "" if ended is None else spent((ended - began).total_seconds())


def spent(seconds: float) -> str:
    """A short time for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def short(value: Any, limit: int = 80) -> str:
    """A value in one line, cut."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
