"""What a process takes. Standard library only: it runs in environments that lack all else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROC = Path("/proc")


def resident(pid: int | None = None) -> int:
    """The resident memory of the process *pid*, else of this one, in bytes. `ps` knows it on Linux and macOS alike."""
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid or os.getpid())], capture_output=True, text=True, check=True
    )
    return int(shown.stdout) * 1024


def processor(pid: int) -> float | None:
    """The processor time of *pid* and of its ended children, in seconds. None where there is no /proc, and for no process."""
    fields = _stat(pid)
    return None if fields is None else sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def processor_of_children(pid: int) -> float | None:
    """The processor time of *pid*, and of its children of the first generation, running or ended; None as above."""
    own = processor(pid)
    if own is None:
        return None
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None and int(fields[1]) == pid:
            own += processor(int(entry.name)) or 0
    return own


def parent(pid: int, name: str) -> int | None:
    """The process that has started *pid*; None as above, and if *pid* is not a program of that *name*: a stranger's number."""
    fields = _stat(pid)
    if fields is None or not (PROC / str(pid) / "comm").read_text("utf-8").startswith(name):
        return None
    return int(fields[1])


def _stat(pid: int) -> list[str] | None:
    """What follows the name of the program: its state, its parent..."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return None
