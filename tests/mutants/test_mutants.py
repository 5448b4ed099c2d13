"""Every mutant fits the code, and whoever tries them can tell a caught one from others. `make mutants` tries them."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from tests.mutants.mutant import ROOT, Mutant, mutants, table
from tests.mutants.trial import Outcome, refuse_strangers, try_tests, verdict_on

ALL = mutants()
each = pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)


@each
def test_a_mutant_can_be_put_into_the_code_as_it_is(mutant: Mutant) -> None:
    assert mutant.file.startswith(("durable/", "sql/"))
    mutated = mutant.applied(ROOT)
    assert mutated != (ROOT / mutant.file).read_text("utf-8")
    if mutant.file.endswith(".py"):
        compile(mutated, mutant.file, "exec")


@each
def test_the_tests_that_are_to_catch_a_mutant_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert name.partition("[")[0] in found, test


def test_every_law_has_a_mutant() -> None:
    assert {mutant.law for mutant in ALL} == set(range(1, 14))


def test_the_document_lists_the_mutants() -> None:
    assert table(ALL) in (ROOT / "docs" / "mutants.md").read_text("utf-8")


def test_a_mutant_whose_place_is_gone_or_is_not_one_place_is_refused(tmp_path: Path) -> None:
    mutant = Mutant("some", 1, "", "code.py", "a = 1", "a = 2", ())
    for text in ("b = 1", "a = 1\na = 1"):
        (tmp_path / "code.py").write_text(text)
        with pytest.raises(ValueError, match="mutant some: its old text occurs"):
            mutant.apply(tmp_path)
    (tmp_path / "code.py").write_text("a = 1\n")
    mutant.apply(tmp_path)
    assert (tmp_path / "code.py").read_text() == "a = 2\n"


TRIED = """
import pytest

def test_passes(): pass
def test_fails(): assert False, "why"
@pytest.mark.parametrize("n", [1, 2])
def test_fails_once(n): assert n == 1
@pytest.fixture
def broken(): raise RuntimeError
def test_cannot_begin(broken): pass
@pytest.fixture
def law(): yield; assert False
def test_breaks_a_law(law): pass
@pytest.mark.skip
def test_is_skipped(): pass
"""


def test_each_test_of_a_tree_has_its_outcome(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(TRIED)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    wanted = {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_fails_once": "failed",
        "test_fails_once[1]": "passed",
        "test_cannot_begin": "broken",
        "test_breaks_a_law": "failed",
        "test_is_skipped": "broken",
    }
    outcomes = try_tests(tmp_path, [f"tests/test_it.py::{name}" for name in wanted])
    assert {outcome.test.partition("::")[2]: outcome.verdict for outcome in outcomes} == wanted
    (gone,) = try_tests(tmp_path, ["tests/test_it.py::test_that_is_gone"])
    assert gone.verdict == "broken"


def test_a_mutant_is_caught_when_each_of_its_tests_has_failed() -> None:
    def verdict(*kinds: str) -> str:
        return verdict_on([Outcome("t", kind) for kind in kinds])  # type: ignore[arg-type]

    assert verdict("failed", "failed") == "caught"
    assert verdict("failed", "hung") == "hung"
    assert verdict("failed", "passed") == "survived"
    assert verdict("failed", "broken") == "broken"
    assert verdict() == "broken"


def test_tests_of_another_tree_than_the_copy_are_refused(tmp_path: Path) -> None:
    for name in ("durable", "sql"):
        os.symlink(ROOT / name, tmp_path / name)
    with pytest.raises(RuntimeError, match="which is not in it"):
        refuse_strangers(tmp_path)
