"""Mutants: one small fault each, as data beside this file, which breaks a law on purpose.

Owns reading them, and putting one into a copy of the tree. A mutant that the tests named in it do not catch shows a hole in
the suite: what is missing is a test.
"""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
NO_PART_OF_THE_TREE = (
    ".git",
    ".venv",
    ".durable",
    ".hypothesis",
    "__pycache__",
    "*_cache",
    "*.egg-info",
    "build",
    "dist",
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old`, which occurs once in `file`, is replaced by `new`. That `breaks` what the law of this number promises (see
    docs/mutants.md), and each of `tests` is to fail."""

    name: str
    law: int
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, tree: Path) -> str:
        """The text of its file in *tree*, mutated. Raises ValueError where that is not what this mutant was made for."""
        text = (tree / self.file).read_text("utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"mutant {self.name}: its old text occurs {count} times in {self.file}, not once. The code has changed: "
                f"write the same fault into the new code in tests/mutants/{self.name}.toml."
            )
        return text.replace(self.old, self.new)

    def apply(self, tree: Path) -> None:
        """Put it into *tree*. Raises ValueError, see `applied`."""
        (tree / self.file).write_text(self.applied(tree), "utf-8")


def mutants(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants, by law and name."""
    found = [_read(path) for path in folder.glob("*.toml")]
    return sorted(found, key=lambda mutant: (mutant.law, mutant.name))


def _read(path: Path) -> Mutant:
    values = tomllib.loads(path.read_text("utf-8"))
    return Mutant(name=path.stem, **{**values, "tests": tuple(values["tests"])})


def copy_tree(target: Path) -> None:
    """Copy the repository, without what can be made again, to *target*, which is made."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NO_PART_OF_THE_TREE))


def table(found: list[Mutant]) -> str:
    """The mutants as a table in Markdown, for docs/mutants.md."""
    lines = ["| law | what is broken on purpose | where | caught by |", "|---|---|---|---|"]
    for mutant in found:
        caught = ", ".join(f"`{test.partition('::')[2]}`" for test in mutant.tests)
        lines.append(f"| {mutant.law} | {mutant.breaks} | `{mutant.file}` | {caught} |")
    return "\n".join(lines)
