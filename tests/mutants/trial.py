"""Trying a mutant: the tests named in it, in a process of their own, in a copy of the tree.

Owns the verdict. A test that could not even begin, because PostgreSQL refuses the mutated SQL or because there is no such
test, has caught nothing: such a mutant is broken.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from durable.testing.server import DSN_VARIABLE

TEST_SECONDS = 60  # a test that hangs because of a mutant fails by then
SLACK_SECONDS = 60  # for collecting, and for what is taken down
HUNG = "from pytest-timeout"

# What is tested must be the copy: an installed `durable` leads to another tree, whose SQL is another too.
_WITNESS = "import durable, durable.store.queries as q; print(durable.__file__, q.sql_folder(), sep='\\n')"

Verdict = Literal["caught", "hung", "survived", "broken"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test: `passed`, `failed`, `hung` (it failed by its time limit) or `broken`; and why."""

    test: str
    verdict: Literal["passed", "failed", "hung", "broken"]
    reason: str = ""


def verdict_on(outcomes: Sequence[Outcome]) -> Verdict:
    """On a mutant, by its tests: caught when each of them has failed."""
    kinds = {outcome.verdict for outcome in outcomes}
    if "broken" in kinds or not kinds:
        return "broken"
    if "passed" in kinds:
        return "survived"
    return "hung" if "hung" in kinds else "caught"


def refuse_strangers(tree: Path) -> None:
    """Raise RuntimeError if tests that are run in *tree* would test something else."""
    said = subprocess.run(
        [sys.executable, "-c", _WITNESS], cwd=tree, env=_environment(), capture_output=True, text=True, check=True
    )
    for path in said.stdout.split():
        if not Path(path).resolve().is_relative_to(tree.resolve()):
            raise RuntimeError(f"tests in {tree} would run {path}, which is not in it")


def try_tests(tree: Path, tests: Sequence[str], dsn: str | None = None) -> list[Outcome]:
    """Run *tests* in *tree*, on the server of *dsn* if there is one; one outcome for each, in their order."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-o", f"timeout={TEST_SECONDS}", f"--junitxml={report}", *tests],
        cwd=tree,
        env=_environment(dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that it can be ended with all that it has started
    )
    try:
        output, _ = process.communicate(timeout=TEST_SECONDS * len(tests) + SLACK_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # politely: it ends its servers and programs
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        return [Outcome(test, "hung", f"the tests did not end within {time.time() - began:.0f} s") for test in tests]
    found = _outcomes(report) if report.exists() else {}
    last = output.strip().splitlines()[-1:] or ["pytest has said nothing"]
    return [_of(test, found) or Outcome(test, "broken", last[0]) for test in tests]


def _environment(dsn: str | None = None) -> dict[str, str]:
    # Without what would lead elsewhere, and without what a pytest around us says of itself.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return kept | ({} if dsn is None else {DSN_VARIABLE: dsn})


def _of(test: str, found: dict[str, list[Outcome]]) -> Outcome | None:
    """The outcome of *test*, which may have several cases: it has failed if one of them has."""
    file, _, name = test.partition("::")
    cases = found.get(f"{file.removesuffix('.py').replace('/', '.')}::{name}", [])
    if "[" not in name:
        cases = cases + [case for key, several in found.items() for case in several if _is_case(key, file, name)]
    for kind in ("broken", "failed", "hung", "passed"):
        for case in cases:
            if case.verdict == kind:
                return Outcome(test, case.verdict, case.reason)
    return None


def _is_case(key: str, file: str, name: str) -> bool:
    return key.startswith(f"{file.removesuffix('.py').replace('/', '.')}::{name}[")


def _outcomes(report: Path) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        key = f"{case.get('classname')}::{case.get('name')}"
        found.setdefault(key, []).append(_outcome(key, case))
    return found


def _outcome(key: str, case: ElementTree.Element) -> Outcome:
    for what in ("error", "failure"):
        if (element := case.find(what)) is not None:
            reason = (element.get("message") or "").partition("\n")[0]
            if "failed on setup" in reason or "collection failure" in reason:
                return Outcome(key, "broken", reason)
            hung = HUNG in (element.get("message") or "") or HUNG in (element.text or "")
            return Outcome(key, "hung" if hung else "failed", reason)
    if case.find("skipped") is not None:
        return Outcome(key, "broken", "it was skipped")
    return Outcome(key, "passed")
