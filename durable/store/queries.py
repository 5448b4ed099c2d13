"""The SQL of the library: one statement a file under ``sql/``, each with a header that says what it takes and gives.

Owns finding and reading the files. A test prepares every file and compares the header with what PostgreSQL says.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from durable.errors import InternalError

_PARAMETER = re.compile(r"^-- \$(\d+)\s+(\w+)\s+(\w+(?:\[\])?)")
_FILLED = re.compile(r"\bdurable\.filled\(\$(\d+)::")
_COLUMN = re.compile(r"(\w+) (\w+(?:\[\])?)")


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One statement. `parameters` and `columns` are (name, type) pairs as the header declares them; `filled` are the places,
    from 0, of those parameters of which one value is enough where all are alike."""

    name: str
    sql: str
    parameters: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    filled: frozenset[int] = frozenset()


def sql_folder() -> Path:
    """Where the SQL lies: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_sql", package.parent / "sql"):
        if (folder / "migrations").is_dir():
            return folder
    raise InternalError(f"the SQL files of durable are missing beside {package}. Reinstall the package.")


@functools.cache
def load(name: str) -> Query:
    """Read ``sql/queries/<name>.sql``; *name* is ``noun/verb``."""
    text = (sql_folder() / "queries" / f"{name}.sql").read_text("utf-8")
    header, body = _split(text)
    parameters: list[tuple[str, str]] = []
    columns: tuple[tuple[str, str], ...] = ()
    for line in header:
        if found := _PARAMETER.match(line):
            if int(found[1]) != len(parameters) + 1:
                raise InternalError(f"sql/queries/{name}.sql: parameter ${found[1]} is out of order in the header.")
            parameters.append((found[2], found[3]))
        elif line.startswith("-- Returns ") and line != "-- Returns nothing":
            columns = tuple(_COLUMN.findall(line.removeprefix("-- Returns ")))
    filled = frozenset(int(place) - 1 for place in _FILLED.findall(body))
    return Query(name, body, tuple(parameters), columns, filled)


def _split(text: str) -> tuple[list[str], str]:
    # The header stays out of what is sent: the server need not parse it, and its log shows the statement first.
    lines = text.splitlines()
    size = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return lines[:size], "\n".join(lines[size:]).strip()
