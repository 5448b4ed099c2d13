"""Who takes part: what the file of each peer says of itself, and the environment that it runs in.

A peer is a module here with a literal `ABOUT`, which is read without importing it (its packages are not installed here), and
with roles for `protocol.main`: `setup` makes the tables, `seed` starts executions in bulk, `work` is a worker process, `each`
starts one by one, `latency`, `events`, `fan_out` and `memory` answer the question of their name.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER / ".venvs"
NAMES = ("durable", "dbos", "absurd", "procrastinate", "pgqueuer", "floor")
"""In the order in which they take their turns."""
_VERSIONS = "import sys; from importlib.metadata import version; print(' '.join(version(n) for n in sys.argv[1:]))"


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer says of itself."""

    name: str
    title: str
    requires: Sequence[str]
    """What is installed into its environment; nothing: it runs in that of the harness."""
    versions: Sequence[str]
    """The distributions whose versions the report gives."""
    configuration: str
    unfinished: str
    """A query: is there an execution that has not ended?"""
    runs: Mapping[str, str]
    """By workload: what it runs, in its own words."""
    cannot: Mapping[str, str]
    """By workload: why it is left out."""
    counts: Mapping[str, int]
    """By workload: how many, where its speed asks for other than the workload's own number."""

    @property
    def module(self) -> str:
        """What is run."""
        return f"benchmarks.peers.{self.name}"

    @property
    def python(self) -> str:
        """The interpreter that runs it."""
        return str(ENVIRONMENTS / self.name / "bin" / "python") if self.requires else sys.executable


def read(name: str, folder: Path = FOLDER) -> Peer:
    """The peer of the file *name*.py. Raises ValueError when it has no `ABOUT` that could be read."""
    path = folder / f"{name}.py"
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["ABOUT"]:
            about: dict[str, Any] = ast.literal_eval(node.value)
            return Peer(name=name, **about)
    raise ValueError(f"{path}: there is no ABOUT. Say in a literal dictionary what the peer is; see roster.Peer.")


def install(peer: Peer) -> None:
    """Make the environment of *peer* if it is missing or has other requirements. Raises CalledProcessError."""
    folder = ENVIRONMENTS / peer.name
    stamp = folder / "requirements.txt"
    wanted = "\n".join(peer.requires) + "\n"
    if not peer.requires or (stamp.exists() and stamp.read_text("utf-8") == wanted):
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
    pip = [peer.python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *peer.requires], check=True, timeout=600)
    stamp.write_text(wanted, "utf-8")


def versions(peer: Peer) -> str:
    """Its distributions with their versions."""
    command = [peer.python, "-c", _VERSIONS, *peer.versions]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    return ", ".join(f"{name} {version}" for name, version in zip(peer.versions, found, strict=True))
