"""docs/testing.md: its programs are a project whose tests pass, every warning an error, and print the report that it shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.examples.processes import ROOT, run
from tests.support.postgres import Cluster

TEXT = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def test_every_python_block_is_a_whole_program() -> None:
    assert TEXT.count("```python\n") == len(PROGRAMS)
    programs = {"billing.py", "conftest.py", "test_steps.py", "test_billing.py", "test_crashes.py", "test_service.py"}
    assert programs == PROGRAMS.keys()


async def test_the_tests_of_the_document_pass_and_print_its_report(postgres_cluster: Cluster, tmp_path: Path) -> None:
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    status, output = await run(
        *("-m", "pytest", "-s", "-p", "no:cacheprovider"),
        cwd=tmp_path,
        timeout=100,
        DURABLE_TEST_DSN=postgres_cluster.dsn,
    )
    assert status == 0, output
    assert f"{sum(text.count('async def test_') for text in PROGRAMS.values())} passed" in output
    report = TEXT[TEXT.index("\n24 crashed runs") + 1 :].partition("```")[0]
    assert report in output
