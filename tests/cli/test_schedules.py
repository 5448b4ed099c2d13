"""Schedules, made and looked after from the terminal."""

from __future__ import annotations

from durable import Durable
from tests.cli import shop
from tests.cli.calling import APP, Caller
from tests.cli.test_asking_and_acting import GUARD


async def test_a_schedule_is_made_shown_paused_resumed_triggered_and_deleted(durable: Caller, engine: Durable) -> None:
    made = await durable("schedules", "create", "nightly", "double", "4", "--cron", "0 3 * * *", "--app", APP)
    assert made.status == 0, made.err
    assert "rule      0 3 * * * UTC" in made.out
    listed = await durable("schedules", "list")
    assert listed.out.splitlines()[1].split()[:2] == ["nightly", "double"]
    (item,) = (await durable("schedules", "list", "--json")).json["items"]
    assert item["rule"] == {"cron": "0 3 * * *", "timezone": "UTC"}
    assert (await durable("schedules", "pause", "nightly", "--by", "ada", "-r", "holidays")).out == "paused nightly\n"
    assert "by ada: holidays" in (await durable("schedules", "show", "nightly")).out
    assert (await durable("schedules", "resume", "nightly", "--json")).json["status"] == "active"
    triggered = (await durable("schedules", "trigger", "nightly", "--app", APP, "--json")).json["id"]
    assert await engine.handle(triggered, shop.quick).result(GUARD) == 8
    assert (await durable("schedules", "delete", "nightly")).status == 2
    assert (await durable("schedules", "delete", "nightly", "--yes")).out == "deleted nightly\n"
    gone = await durable("schedules", "show", "nightly")
    assert gone.status == 3
    assert "`durable schedules list` lists them." in gone.err


async def test_a_rule_that_cannot_be_is_refused(durable: Caller) -> None:
    for words, told in (
        (["--cron", "0 9 31 2 *"], ""),
        (["--cron", "61 * * * *"], ""),
        ([], "Give --cron or --every."),
        (["--every", "soon"], "Write it like 90s"),
    ):
        said = await durable("schedules", "create", "x", "double", "1", *words, "--app", APP)
        assert said.status == 2
        assert told in said.err
