"""A schedule that a program cannot read, or cannot fire, is shown with its problem, and is in nobody's way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from durable import (
    Codec,
    DefinitionError,
    Durable,
    Every,
    Queue,
    UnreadableRule,
    UsageError,
    Workflow,
    hours,
    seconds,
)
from durable.codec import JsonCodec
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

GUARD = 20
report = Workflow[Data, Data]("report")


@report.step
async def write(data: Data) -> Data:
    return data


async def overwrite(dsn: str, name: str, rule: dict[str, Any]) -> None:
    """What another host, or a newer version, has written. It is due."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "update durable.schedule set rule = $2, next_at = durable.clock(), due_at = durable.clock() where name = $1",
        name,
        json.dumps(rule),
    )
    await connection.close()


async def fires(engine: Durable, name: str) -> None:
    """Have a schedule fire, and wait for what it starts."""
    await engine.create_schedule(name, report, Every(seconds(1)), {"by": name})
    async with asyncio.timeout(GUARD):
        while (last := (await engine.get_schedule(name)).last_execution) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await engine.pause_schedule(name)
    await engine.handle(last, report).result(GUARD)


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"cron": "0 9 * * *", "timezone": "Mars/Olympus_Mons"}, "'Mars/Olympus_Mons', which is not known here"),
    ({"cron": "0 0 9 * * *", "timezone": "UTC"}, "'0 0 9 * * *'"),
    ({"cron": "0 9 * * *", "timezone": "UTC", "holidays": "CH"}, "no rule that this version of durable knows"),
    ({"cron": 9, "timezone": "UTC"}, "Cron: 9 is no rule"),
    ({"every": "hour", "offset": 0}, "no rule that this version of durable knows"),
    ({"every": 1e30, "offset": 0}, "no rule that this version of durable knows"),
    ({"every": 0, "offset": 0}, "the interval is"),
    ({"full_moon": True}, "no rule that this version of durable knows"),
]


@pytest.mark.parametrize(("rule", "problem"), UNREADABLE)
async def test_a_rule_that_cannot_be_read_is_listed_with_its_problem_and_the_others_fire(
    database: str, rule: dict[str, Any], problem: str
) -> None:
    async with Durable(database, workflows=[report]) as engine:
        await engine.create_schedule("a", report, Every(hours(1)), {})
        await overwrite(database, "a", rule)
        engine.parts().herald.scheduled()
        await fires(engine, "b")
        listed, other = (await engine.list_schedules()).items
        assert (listed.name, listed.status, other.name) == ("a", "unreadable", "b")
        assert isinstance(listed.rule, UnreadableRule)
        assert problem in listed.rule.problem
        assert json.loads(listed.rule.text) == rule
        assert listed.next_times(3) == [listed.next_at]
    await assert_invariants(database)


async def test_a_schedule_that_cannot_be_read_is_paused_triggered_given_another_rule_and_deleted(database: str) -> None:
    rule = {"cron": "0 9 * * *", "timezone": "Mars/Olympus_Mons"}
    async with Durable(database, workflows=[report]) as engine:
        await engine.create_schedule("a", report, Every(hours(1)), {"n": 1})
        await overwrite(database, "a", rule)
        paused = await engine.pause_schedule("a", "who has written that?", by="ann")
        assert (paused.status, paused.paused_by) == ("paused", "ann")
        assert isinstance(paused.rule, UnreadableRule)
        assert json.loads(paused.rule.text) == rule, "whoever can read it still can"
        assert await (await engine.trigger_schedule("a")).result(GUARD) == {"n": 1}
        with pytest.raises(DefinitionError, match="Mars/Olympus_Mons"):
            await engine.resume_schedule("a")
        with pytest.raises(DefinitionError, match=r"its rule cannot be read here: .*Mars/Olympus_Mons"):
            await engine.update_schedule("a", data={"n": 2})
        with pytest.raises(DefinitionError, match="its rule cannot be read here"):
            await engine.create_schedule("b", report, paused.rule, {})  # type: ignore[arg-type]
        assert (await engine.update_schedule("a", rule=Every(hours(2)))).rule == Every(hours(2))
        assert (await engine.resume_schedule("a")).status == "active"
        await overwrite(database, "a", rule)
        await engine.delete_schedule("a")
        assert (await engine.list_schedules()).items == []


class Failing:
    """A codec that has no key for some data."""

    def encode(self, value: Any, annotation: Any = Any) -> str:
        return JsonCodec().encode(value, annotation)

    def decode(self, text: str, annotation: Any = Any) -> Any:
        if annotation is not Any and "secret" in text:
            raise LookupError("there is no key for this")
        return JsonCodec().decode(text, annotation)


async def test_data_that_the_codec_cannot_read_stops_no_other_schedule(database: str) -> None:
    async with Durable(database, workflows=[report], worker=False) as client:
        await client.create_schedule("a", report, Every(hours(1)), {"secret": 1})
    await overwrite(database, "a", {"every": 3_600_000_000, "offset": 0})
    codec: Codec = Failing()
    queues = {"default": Queue(key=lambda data: "x")}
    async with Durable(database, workflows=[report], codec=codec, queues=queues) as engine:
        await fires(engine, "b")
        assert (await engine.get_schedule("a")).last_execution is None


async def test_pages_of_schedules_go_on_whatever_characters_their_names_have(database: str) -> None:
    names = ["a|b", "a|b|c", 'd"[]', "e\\", "é ü|", "日本|"]
    async with Durable(database, workflows=[report], worker=False) as client:
        for name in names:
            await client.create_schedule(name, report, Every(hours(1)), {})
        found, cursor = list[str](), None
        while len(found) <= len(names):
            page = await client.list_schedules(limit=1, cursor=cursor)
            found += [item.name for item in page.items]
            if (cursor := page.cursor) is None:
                break
        assert sorted(found) == sorted(names)


async def test_a_cursor_of_another_list_is_refused(database: str) -> None:
    async with Durable(database, workflows=[report], worker=False) as client:
        await client.create_schedule("a", report, Every(hours(1)), {})
        await client.start(report, {})
        executions = (await client.list_executions(limit=1)).cursor
        schedules = (await client.list_schedules(limit=1)).cursor
        assert executions is not None
        assert schedules is not None
        lists = [
            (client.list_acts, executions),
            (client.list_pending_inputs, executions),
            (client.list_schedules, executions),
            (client.list_executions, schedules),
            (client.list_executions, "é"),
            (client.list_executions, "bm8="),
            (client.list_executions, "MQ=="),
        ]
        for call, cursor in lists:
            with pytest.raises(UsageError, match=f"the cursor is not one that {call.__name__} gave"):
                await call(cursor=cursor)
