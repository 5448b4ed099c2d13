"""The command `durable`: what a developer and an operator type. It needs the extra ``cli``.

Owns words, tables, questions and exit statuses; what it does is done by the library, which has all of it for programs, too.
"""

from __future__ import annotations

import importlib.util
import sys

MISSING = """durable: the command line needs the extra "cli", which is not installed (there is no module {module!r}).
Install durable with it, or what it brings:  pip install typer rich"""


def main() -> None:
    """The entry point. Exits with a status that docs/cli.md explains."""
    for module in ("typer", "rich"):
        if importlib.util.find_spec(module) is None:
            print(MISSING.format(module=module), file=sys.stderr)  # noqa: T201 - there is nothing better to print with
            raise SystemExit(2)
    from durable.cli.commands import run

    run()
