"""`durable check`, as it is called in continuous integration."""

from __future__ import annotations

from pathlib import Path

from durable import Durable
from tests.cli.calling import ROOT, Caller
from tests.cli.test_asking_and_acting import waiting


def broken(folder: Path, old: str, new: str) -> Caller:
    text = (ROOT / "tests" / "cli" / "shop.py").read_text(encoding="utf-8")
    assert old in text
    (folder / "changed.py").write_text(text.replace(old, new), encoding="utf-8")
    return Caller(None, folder)


async def test_code_that_was_not_changed_passes(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-1", "order-2")
    said = await durable("check", "tests.cli.shop:engine")
    assert said.status == 0
    assert said.out.splitlines()[1].split() == ["process_order", "2", "2", "0", "0"]
    assert "every execution in flight resumes" in said.out


async def test_a_broken_definition_fails_and_names_the_executions_the_step_and_the_reason(
    database: str, engine: Durable, tmp_path: Path
) -> None:
    await waiting(engine, "order-1", "order-2")
    call = broken(tmp_path, "async def ship(", "async def deliver(")
    said = await call("check", "changed:engine", "--dsn", database)
    assert said.status == 1
    assert said.out.splitlines()[1].split() == ["process_order", "2", "0", "2", "0"]
    assert "process_order: 2 executions would be held at approve" in said.out
    assert 'expected step "ship" still to come, found step "deliver"' in said.out
    assert {"order-1", "order-2"} <= set(said.out.replace(",", " ").split())
    told = (await call("check", "changed", "--dsn", database, "--json")).json
    assert (told["ok"], told["held"]) == (False, 2)
    each = await call("check", "--app", "changed", "--dsn", database, "--json", "--each")
    assert sorted((line["id"], line["outcome"]) for line in each.lines) == [("order-1", "held"), ("order-2", "held")]


async def test_data_that_does_not_decode_any_more_is_told_with_its_path_and_reason(
    database: str, engine: Durable, tmp_path: Path
) -> None:
    await waiting(engine, "order-1")
    call = broken(
        tmp_path, "async def approve(order: Data) -> Data:", "async def approve(order: dict[str, str]) -> Data:"
    )
    said = await call("check", "changed", "--dsn", database)
    assert said.status == 1
    assert "process_order: 1 execution would fail at approve" in said.out
    assert "expected str, got array" in said.out


async def test_workflows_of_other_programs_are_passed_over_when_they_are_named(
    database: str, engine: Durable, tmp_path: Path
) -> None:
    await waiting(engine, "order-1")
    (tmp_path / "other.py").write_text("from durable import Durable\nengine = Durable()\n")
    call = Caller(None, tmp_path)
    said = await call("check", "other", "--dsn", database)
    assert said.status == 1
    assert "found no workflow of that name" in said.out
    assert (await call("check", "other", "--dsn", database, "--elsewhere", "process_order")).status == 0


async def test_a_definition_that_cannot_work_is_told_without_a_traceback(database: str, tmp_path: Path) -> None:
    call = broken(tmp_path, 'Workflow[int, int]("double")', 'Workflow[int, int]("dou/ble")')
    said = await call("check", "changed", "--dsn", database)
    assert said.status == 2
    assert "changed.py" in said.err
