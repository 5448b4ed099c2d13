"""Schedules, made and looked after from the terminal."""

from __future__ import annotations

import asyncpg
import pytest

from durable import Cron, Durable, Every, Scheduled, Workflow, hours, minutes
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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--every", "1h", "--timezone", "Europe/Paris"], "an interval has no time zone"),
        (["--cron", "0 9 * * *", "--offset", "5m"], "a cron rule has no offset"),
        (["--cron", "0 9 * * *", "--every", "1h"], "there are two rules"),
        (["--timezone", "Europe/Paris"], "Give --cron or --every."),
        (["--cron", "0 9 * * *", "--timezone", "Europe/Nowhere"], "which is not known here"),
        (["--every", "1h", "--overlap", "never"], "Choose one of skip, allow, queue, cancel_previous"),
        (["--every", "1h", "--catch-up", "some"], "Choose one of latest, all, none"),
        (["--every", "1h", "--jitter", "2h"], "jitter is 2:00:00"),
        (["--every", "1h", "--catch-up", "none", "--catch-up-window", "1h"], "catches nothing up"),
        (["--every", "1h", "--tag", "x"], "Write it as key=value"),
    ],
)
async def test_what_cannot_be_kept_together_is_refused_and_nothing_is_made(
    durable: Caller, engine: Durable, words: list[str], told: str
) -> None:
    said = await durable("schedules", "create", "x", "double", "1", *words, "--app", APP)
    assert said.status == 2
    assert told in said.err
    assert (await engine.list_schedules()).items == []


async def test_every_option_of_the_library_can_be_said(durable: Caller, engine: Durable) -> None:
    words = ["--every", "6h", "--offset", "30m", "--overlap", "queue", "--catch-up", "all", "--catch-up-window", "12h"]
    words += ["--jitter", "5m", "--queue", "slow", "--priority", "7", "--tag", "team=a", "--tag", "n=1", "--paused"]
    said = await durable("schedules", "create", "full", "double", "4", *words, "--app", APP)
    assert said.status == 0, said.err
    made = await engine.get_schedule("full")
    assert made.rule == Every(hours(6), minutes(30))
    assert (made.overlap, made.catch_up, made.catch_up_window) == ("queue", "all", hours(12))
    assert (made.jitter, made.queue, made.priority) == (minutes(5), "slow", 7)
    assert (made.tags, made.status, made.data) == ({"team": "a", "n": 1}, "paused", 4)
    for told in ("every 6h + 30m", "all, 12h old at most", "jitter    5m", "slow", '{"n":1,"team":"a"}'):
        assert told in said.out


async def test_an_update_changes_what_is_given_and_leaves_the_rest(durable: Caller, engine: Durable) -> None:
    rule = Cron("0 9 * * *", "Europe/Paris")
    await engine.create_schedule(
        "a", shop.quick, rule, 4, overlap="allow", jitter=minutes(5), queue="slow", tags={"n": 1}
    )

    said = await durable("schedules", "update", "a", "--cron", "0 10 * * *", "--catch-up", "all", "--json")
    assert said.json["rule"] == {"cron": "0 10 * * *", "timezone": "Europe/Paris"}, said.err
    await durable("schedules", "update", "a", "--timezone", "Asia/Tokyo", "--priority", "3", "--tag", "m=2")
    changed = await engine.get_schedule("a")
    assert changed.rule == Cron("0 10 * * *", "Asia/Tokyo")
    assert (changed.overlap, changed.catch_up, changed.jitter, changed.queue) == ("allow", "all", minutes(5), "slow")
    assert (changed.priority, changed.tags, changed.data) == (3, {"m": 2}, 4)

    resets = [word for option in ("jitter", "queue", "priority", "tag") for word in ("--reset", option)]
    await durable("schedules", "update", "a", "--every", "2h", "--data", "5", *resets, "--app", APP)
    changed = await engine.get_schedule("a")
    assert (changed.rule, changed.data, changed.overlap) == (Every(hours(2)), 5, "allow")
    assert (changed.jitter, changed.queue, changed.priority, changed.tags) == (None, None, None, {})
    await durable("schedules", "update", "a", "--offset", "10m")
    assert (await engine.get_schedule("a")).rule == Every(hours(2), minutes(10))


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "say what to change"),
        (["--data", "5"], 2, "this needs your code"),
        (["--data", '"many"', "--app", APP], 2, "the data does not fit what 'double' takes"),
        (["--reset", "overlap"], 2, "It may be catch-up-window, jitter, queue, priority, tag."),
        (["--jitter", "1m", "--reset", "jitter"], 2, "contradict each other"),
        (["--offset", "1m"], 2, "a cron rule has no offset"),
        (["--jitter", "2d"], 2, "jitter is 2 days"),
    ],
)
async def test_an_update_that_cannot_be_is_refused_and_changes_nothing(
    durable: Caller, engine: Durable, words: list[str], status: int, told: str
) -> None:
    before = await engine.create_schedule("a", shop.quick, Cron("0 9 * * *"), 4)
    said = await durable("schedules", "update", "a", *words)
    assert (said.status, said.out) == (status, "")
    assert told in said.err
    assert await engine.get_schedule("a") == before


async def test_there_is_nothing_to_update_of_what_is_not_there_or_is_declared_in_code(
    durable: Caller, database: str
) -> None:
    declared = Workflow[int, int]("declared", schedule=Scheduled(Every(hours(1)), data=1))
    declared.step(shop.double)
    async with Durable(database, workflows=[declared]):
        gone = await durable("schedules", "update", "nowhere", "--jitter", "1m")
        assert (gone.status, "`durable schedules list` lists them." in gone.err) == (3, True)
        said = await durable("schedules", "update", "declared", "--jitter", "1m")
    assert said.status == 2
    assert "is declared in code, by workflow 'declared'. Change it there" in said.err


async def test_data_is_read_by_the_annotation_of_the_workflow(durable: Caller, engine: Durable) -> None:
    said = await durable("schedules", "create", "t", "parcel", '{"weight": 3}', "--every", "1h", "--app", APP)
    assert said.status == 0, said.err
    assert (await engine.get_schedule("t")).data == {"weight": 3}
    changed = await durable("schedules", "update", "t", "--data", '{"weight": 4, "fragile": true}', "--app", APP)
    assert changed.status == 0, changed.err
    assert (await engine.get_schedule("t")).data == {"weight": 4, "fragile": True}


async def test_a_rule_that_cannot_be_read_here_is_shown_with_its_problem(
    durable: Caller, engine: Durable, database: str
) -> None:
    await engine.create_schedule("a", shop.quick, Every(hours(1)), 4)
    connection = await asyncpg.connect(database)
    await connection.execute("update durable.schedule set rule = $1", '{"cron": "0 9 * * *", "timezone": "Mars/Dome"}')
    await connection.close()
    assert "unreadable" in (await durable("schedules", "list")).out
    shown = (await durable("schedules", "show", "a")).out
    assert "Cron('0 9 * * *'): timezone is 'Mars/Dome', which is not known here" in shown
    rule = (await durable("schedules", "show", "a", "--json")).json["rule"]
    assert rule["unreadable"] == {"cron": "0 9 * * *", "timezone": "Mars/Dome"}
    assert (await durable("schedules", "pause", "a")).out == "paused a\n"
    mended = await durable("schedules", "update", "a", "--cron", "0 9 * * *", "--timezone", "Europe/Rome")
    assert "rule      0 9 * * * Europe/Rome" in mended.out
    assert (await durable("schedules", "resume", "a")).out == "resumed a\n"
