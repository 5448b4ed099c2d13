"""A child process with an embedded PostgreSQL, as the tests see it. `child.py` is its other side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


class Child:
    """A process that has started an embedded PostgreSQL. `dsn` and `owner` are what it said last."""

    def __init__(self, directory: Path, *arguments: str, python: str = sys.executable, **options: Any) -> None:
        command = [python, str(Path(__file__).with_name("child.py")), str(directory), *arguments]
        path = os.pathsep.join([str(REPOSITORY), *(entry for entry in sys.path if "site-packages" in entry)])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            cwd="/",
            **options,
        )

    def ready(self) -> Child:
        """Wait for its next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the child ended without an answer"
        self.answer: dict[str, Any] = json.loads(line)
        self.dsn: str = self.answer["dsn"]
        self.owner: bool = self.answer["owner"]
        return self

    def ask(self) -> Child:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self.ready()

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Let it end in good order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
