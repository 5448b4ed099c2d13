"""The acts of an operator, on one execution and on many, and queues."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import Durable, Status
from durable.cli.acting import read_duration
from durable.cli.output import length
from tests.cli import shop
from tests.cli.calling import APP, Caller
from tests.cli.test_asking_and_acting import GUARD, until, waiting


async def failing(engine: Durable, *ids: str) -> None:
    for id in ids:
        await engine.start(shop.orders, {"id": id}, id=id)
        await until(engine, id, Status.FAILED)


async def test_pause_and_resume_one(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    paused = await durable("pause", "order-7", "--reason", "the warehouse is closed", "--by", "ada")
    assert (paused.status, paused.out) == (0, "paused order-7\n")
    assert "held      the warehouse is closed" in (await durable("show", "order-7")).out
    again = await durable("pause", "order-7")
    assert again.status == 4
    assert (await durable("resume", "order-7", "--json")).json == [{"id": "order-7", "resumed": True}]
    told = await durable("acts", "order-7")
    assert [line.partition(" ago ")[2].split()[:2] for line in told.out.splitlines()[2:]] == [["ada", "pause"]]
    assert "the warehouse is closed" in told.out
    assert [act["kind"] for act in (await durable("acts", "--json")).json["items"]] == ["resume", "pause"]


async def test_retry_goes_on_from_the_step_that_failed(durable: Caller, engine: Durable) -> None:
    await failing(engine, "order-1")
    assert (await durable("retry", "order-1", "--by", "ada")).out == "retried order-1\n"
    await until(engine, "order-1", Status.FAILED)
    await waiting(engine, "order-2")
    said = await durable("retry", "order-2")
    assert said.status == 4
    assert "order-2 could not be retried as it stands now." in said.err


async def test_many_are_found_by_a_filter_shown_first_and_changed_when_confirmed(
    durable: Caller, engine: Durable
) -> None:
    await waiting(engine, "order-1", "order-2")
    dry = await durable("pause", "--workflow", "process_order", "--dry-run")
    assert sorted(dry.out.split()) == ["order-1", "order-2"]
    assert "2 executions would be paused" in dry.err
    asked = await durable("pause", "--tag", "tenant=acme")
    assert asked.status == 2
    assert "Pause 2 executions?" in asked.err
    assert (await engine.get_execution("order-1")).hold is None
    done = await durable("pause", "--tag", "tenant=acme", "--yes", "--json")
    assert (done.json["matched"], done.json["changed"]) == (2, 2)
    assert (await engine.get_execution("order-1")).hold == "paused"
    resumed = await durable("resume", "--status", "waiting", "--status", "pending", "-y")
    assert resumed.out == "resumed 2 executions\n"
    cancelled = await durable("cancel", "-w", "process_order", "--limit", "1", "-y")
    assert cancelled.out == "cancelled 1 execution\n"
    none = await durable("cancel", "-w", "double", "-y")
    assert "there are none like that" in none.err


async def test_young_and_old_ones_are_told_apart(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-1")
    assert (await durable("cancel", "--created-before", "1h", "--dry-run")).out == ""
    assert (await durable("cancel", "--created-after", "1h", "--dry-run")).out == "order-1\n"
    assert (await durable("cancel", "--created-after", "2026-01-01", "--dry-run")).status == 2


@pytest.mark.parametrize(
    "words", [["pause"], ["pause", "order-1", "--workflow", "process_order"], ["retry", "--reason", "x"]]
)
async def test_which_ones_must_be_said_in_one_way(durable: Caller, engine: Durable, words: list[str]) -> None:
    said = await durable(*words)
    assert said.status == 2
    assert "Give ids, or a filter" in said.err


async def test_fork_starts_anew_from_a_step_with_other_data(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    data = '{"id": "7b", "items": [], "total": 1}'
    said = await durable("fork", "order-7", "--from-step", "approve", "--data", data, "--id", "fork-7", "--app", APP)
    assert (said.status, said.out) == (0, "fork-7\n")
    await until(engine, "fork-7", Status.WAITING)
    assert "Ship 7b?" in (await durable("pending")).out
    wrong = await durable("fork", "order-7", "--from-step", "nowhere", "--app", APP)
    assert wrong.status == 2
    without = await durable("fork", "order-7")
    assert without.status == 2
    assert "this needs your code" in without.err


async def test_cleanup_asks_and_tells(durable: Caller, engine: Durable) -> None:
    await (await engine.start(shop.quick, 1)).result(GUARD)
    assert (await durable("cleanup", "--app", APP)).status == 2
    said = await durable("cleanup", "--app", APP, "--dry-run", "--json")
    assert said.json["deleted"] == 0


async def test_queues_are_listed_paused_and_resumed(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    assert (
        await durable("queues", "pause", "default", "--reason", "the night", "--by", "ada")
    ).out == "paused default\n"
    listed = await durable("queues", "list")
    assert listed.out.splitlines()[1].split()[0] == "default"
    assert "paused: the night" in listed.out
    queued = await durable("start", "double", "4", "--id", "late")
    assert queued.status == 0
    assert (await durable("doctor")).out.count("stuck") == 0
    assert (await engine.get_execution("late")).status is Status.PENDING
    assert (await durable("queues", "resume", "default")).out == "resumed default\n"
    assert await engine.handle("late", shop.quick).result(GUARD) == 8
    assert (await durable("queues", "list", "--json")).json[0]["paused"] is False


async def test_a_pause_of_a_queue_that_nobody_has_used_asks_whether_that_is_its_name(
    durable: Caller, engine: Durable
) -> None:
    await (await engine.start(shop.quick, 1)).result(GUARD)
    known = await durable("queues", "pause", "default")
    assert (known.status, known.err) == (0, "")
    unknown = await durable("queues", "pause", "defualt")
    assert (unknown.status, unknown.out) == (0, "paused defualt\n")
    assert "is that its name?" in unknown.err


async def test_the_version_is_told(durable: Caller) -> None:
    assert (await durable("--version")).out == f"durable {version('durable')}\n"


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=400)))
def test_a_length_is_shown_as_it_is_typed(of: timedelta) -> None:
    whole = timedelta(milliseconds=of // timedelta(milliseconds=1))
    assert read_duration(length(whole)) == whole
