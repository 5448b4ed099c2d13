"""`make mutants`, or `python -m tests.mutants [part of a name]...`: does the suite catch each mutant?

Each is put into a copy of the tree of its own, and there the tests are run that are to catch it. First all of these tests are
run without a mutant: they must pass. Exit status 1 if a mutant was not caught.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.mutant import Mutant, copy_tree, mutants
from tests.mutants.trial import Outcome, Verdict, refuse_strangers, try_tests, verdict_on
from tests.support.postgres import shared_cluster

PREPARED = "tests/sql/test_queries.py::test_the_header_of_every_query_says_what_postgresql_says"


def main(wanted: list[str]) -> int:
    """Try the mutants whose names contain one of *wanted*, or all; the exit status."""
    chosen = [mutant for mutant in mutants() if not wanted or any(part in mutant.name for part in wanted)]
    if not chosen:
        print(f"there is no mutant called like {' or '.join(wanted)}")
        return 2
    with shared_cluster() as cluster, tempfile.TemporaryDirectory(prefix="durable-mutants-") as folder:
        tree = Path(folder) / "sound"
        copy_tree(tree)
        refuse_strangers(tree)
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        print(f"{len(tests)} tests without a mutant: ", end="", flush=True)
        if wrong := [outcome for outcome in try_tests(tree, tests, cluster.dsn) if outcome.verdict != "passed"]:
            print("these do not pass")
            _show(wrong)
            return 1
        print("all pass")
        verdicts = [judge(mutant, Path(folder) / mutant.name, cluster.dsn) for mutant in chosen]
    caught = sum(verdict in ("caught", "hung") for verdict in verdicts)
    print(f"{caught} of {len(chosen)} mutants are caught")
    return 0 if caught == len(chosen) else 1


def judge(mutant: Mutant, tree: Path, dsn: str) -> Verdict:
    """Try one mutant in a new *tree*, and say what came of it."""
    began = time.monotonic()
    copy_tree(tree)
    mutant.apply(tree)
    prepared = [PREPARED] if mutant.file.startswith("sql/queries") else []
    outcomes = try_tests(tree, [*mutant.tests, *prepared], dsn)
    if prepared and (refused := outcomes.pop()).verdict != "passed":
        outcomes.append(Outcome(PREPARED, "broken", f"its SQL is refused: {refused.reason}"))
    verdict = verdict_on(outcomes)
    print(f"{verdict:8} law {mutant.law:2}  {mutant.name}  ({time.monotonic() - began:.0f} s)", flush=True)
    if verdict != "caught":
        _show(outcomes)
    return verdict


def _show(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        print(f"         {outcome.verdict}: {outcome.test} {outcome.reason[:200]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
