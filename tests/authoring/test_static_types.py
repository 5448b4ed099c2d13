"""What the type checkers say: `tests/typing` is accepted whole, and of REFUSED exactly the marked lines are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ACCEPTED = sorted((Path(__file__).parent.parent / "typing").glob("*.py"))

REFUSED = """\
# pyright: strict
from __future__ import annotations

from typing import Any

from durable.authoring import In, Out, Workflow
from durable.model.results import ArmResults, ItemResults


async def start(workflow: Workflow[In, Out], data: In) -> Out:
    raise NotImplementedError(workflow, data)


orders = Workflow[str, int]("orders")
dicts = Workflow[dict[str, Any], int]("dicts")


@orders.step
async def charge(order: str) -> int:
    return len(order)


@orders.step(retry=3)  # refused
async def wrong_retry(total: int) -> int:
    return total


orders.step("charge")  # refused
Workflow("orders", version="1")  # refused
Workflow("orders", retention=1)  # refused
Workflow()  # refused


outcome = orders.branch("outcome", on=lambda order: order)
fetch = dicts.parallel("fetch", merge="shallow")  # refused
each = dicts.foreach("each", items=lambda data: data["x"], on_error="complete_all")  # refused


@outcome.case(1)  # refused
async def no_decorator(order: str) -> None: ...


@outcome.step  # refused
async def no_case(order: str) -> None: ...


@orders.decision(compensate=charge)  # refused
async def no_step(order: str) -> None: ...


@orders.compensation(compensate_on="started")  # refused
async def no_compensation(order: str) -> None: ...


@orders.step(key="a")  # refused
async def no_arm(order: str) -> None: ...


def of_items(data: Any, results: ItemResults) -> Any: ...
def of_arms(data: Any, results: ArmResults) -> Any: ...
def four(data: Any, item: str, index: int, more: int) -> Any: ...


orders.branch("x", on="verdict")  # refused
orders.branch("x")  # refused
orders.loop("x", until=four)  # refused
orders.loop("x", until=len, max_iterations="3")  # refused
orders.parallel("x", into=of_items)  # refused
orders.parallel("x", on_error="continue")  # refused
dicts.foreach("x", items=len, into=of_arms)  # refused
dicts.foreach("x", items=len, tolerate="3")  # refused
each.step(compensate_on="failed")  # refused
fetch.arm("x", name="y")  # refused
each.decision(max_visits="3")  # refused


async def use() -> None:
    await charge(1)  # refused
    text: str = await charge("a")  # refused
    await start(orders, 1)  # refused
    result: str = await start(orders, "a")  # refused
    await start(dicts, {1: "a"})  # refused
    await start(dicts, {"a": 1})
    print(text, result)
"""


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    path = tmp_path / "refused.py"
    path.write_text(REFUSED, encoding="utf-8")
    return path


MARKED = {number for number, line in enumerate(REFUSED.splitlines(), 1) if line.endswith("# refused")}


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1, done.stdout + done.stderr  # errors were found, as they must be
    return done.stdout


def test_pyright_strict_accepts_what_is_right_and_refuses_what_is_wrong(refused: Path) -> None:
    pytest.importorskip("pyright")
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, str(refused), *map(str, ACCEPTED))
    report: dict[str, Any] = json.loads(output)
    errors = {(Path(e["file"]).name, e["range"]["start"]["line"] + 1) for e in report["generalDiagnostics"]}
    assert errors == {(refused.name, line) for line in MARKED}, output
    assert report["summary"]["filesAnalyzed"] == 1 + len(ACCEPTED)


def test_mypy_strict_accepts_what_is_right_and_refuses_what_is_wrong(refused: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    output = run("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(refused), *map(str, ACCEPTED))
    found = [(Path(e[1]).name, int(e[2])) for e in re.finditer(r"^(.+?):(\d+): error:", output, re.MULTILINE)]
    errors = {(name, line) for name, line in found if name in {path.name for path in (refused, *ACCEPTED)}}
    assert errors == {(refused.name, line) for line in MARKED}, output
    assert f"checked {1 + len(ACCEPTED)} source files" in output
