"""What destroys asks first, and does nothing unless the answer is yes."""

from __future__ import annotations

import asyncpg
import pytest

from durable import Cron, Durable, Status, UnknownExecution
from tests.cli import shop
from tests.cli.calling import APP, Caller
from tests.cli.test_asking_and_acting import GUARD, waiting
from tests.cli.test_operating import failing

AGED = "update durable.{} set created_at = created_at - interval '8 days', ended_at = ended_at - interval '8 days'"
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        (["n\n"], 1),
        (["NO\n"], 1),
        (["\n"], 1),
        (["perhaps\n", "\n"], 1),
        ([CTRL_D], 1),
        ([CTRL_C], 130),
        (["ye" + CTRL_C], 130),
    ],
)
async def test_whatever_is_not_a_yes_changes_nothing(
    durable: Caller, engine: Durable, keys: list[str], status: int
) -> None:
    await waiting(engine, "order-7")
    said = await durable.asked("cancel", "order-7", "--json", keys=keys)
    assert (said.status, said.out) == (status, "")
    assert "Cancel order-7? [y/N]" in said.err
    assert "nothing was changed" in said.err
    assert (await engine.get_execution("order-7")).status is Status.WAITING


@pytest.mark.parametrize("keys", [["y\n"], ["Yes\n"], ["perhaps\n", "y\n"]])
async def test_a_yes_does_it_and_programs_read_no_question(durable: Caller, engine: Durable, keys: list[str]) -> None:
    await waiting(engine, "order-7")
    said = await durable.asked("cancel", "order-7", "--json", keys=keys)
    assert (said.status, said.json) == (0, [{"id": "order-7", "cancelled": True}])
    assert (said.err.count("[y/N]"), said.err.count("Answer y or n.")) == (len(keys), len(keys) - 1)
    assert (await engine.get_execution("order-7")).status is Status.CANCELLED


@pytest.mark.parametrize(("verb", "hold"), [("pause", None), ("resume", "paused"), ("cancel", None), ("retry", None)])
async def test_an_act_on_all_that_fit_a_filter_asks_first(
    durable: Caller, engine: Durable, verb: str, hold: str | None
) -> None:
    if verb == "retry":
        await failing(engine, "order-1", "order-2")
    else:
        await waiting(engine, "order-1", "order-2")
    if hold == "paused":
        await engine.pause("order-1")
        await engine.pause("order-2")
    words = (verb, "--workflow", "process_order")
    nobody = await durable(*words)
    assert (nobody.status, nobody.out) == (2, "")
    assert (
        f"{verb.capitalize()} 2 executions? Nobody can be asked here: the standard input is no terminal." in nobody.err
    )
    assert "Give --yes to say so." in nobody.err
    declined = await durable.asked(*words, keys=["n\n"])
    assert (declined.status, declined.out) == (1, "")
    acts = [act for act in (await engine.list_acts()).items if act.by is not None]
    assert acts == [], "those of the command line say who acted"
    done = await durable.asked(*words, keys=["y\n"])
    assert done.status == 0
    assert done.out.endswith(" 2 executions\n")
    assert [act.kind for act in (await engine.list_acts()).items if act.by is not None] == [verb] * 2


async def test_a_schedule_is_deleted_only_after_a_yes(durable: Caller, engine: Durable) -> None:
    await engine.create_schedule("nightly", shop.quick, Cron("0 3 * * *"), 4)
    nobody = await durable("schedules", "delete", "nightly")
    assert nobody.status == 2
    assert "Delete schedule nightly? Nobody can be asked here" in nobody.err
    assert (await durable.asked("schedules", "delete", "nightly", keys=["\n"])).status == 1
    assert [item.name for item in (await engine.list_schedules()).items] == ["nightly"]
    assert (await durable.asked("schedules", "delete", "nightly", keys=["y\n"])).out == "deleted nightly\n"
    assert (await engine.list_schedules()).items == []


async def test_what_was_kept_for_long_enough_is_deleted_only_after_a_yes(durable: Caller, database: str) -> None:
    async with Durable(database, workflows=[shop.parcels]) as engine:
        await (await engine.start(shop.parcels, shop.Parcel(3), id="old")).result(GUARD)
    connection = await asyncpg.connect(database)
    for table in ("execution", "ended"):
        await connection.execute(AGED.format(table))
    await connection.close()
    async with Durable(database, worker=False) as client:
        assert (await durable.asked("cleanup", "--app", APP, keys=["n\n"])).status == 1
        assert (await client.get_execution("old")).status is Status.COMPLETED
        done = await durable.asked("cleanup", "--app", APP, keys=["y\n"])
        assert done.out == "1 execution deleted, 0 ids forgotten\n"
        with pytest.raises(UnknownExecution):
            await client.get_execution("old")
