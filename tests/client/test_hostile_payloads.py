"""Whatever comes from outside, by calls or past them from SQL: it arrives as it is, or is refused with an error of ours, at the
call or at the step that reads it; it can be looked at; and the engine goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import durable
from durable import Cron, Durable, DurableError, EncodeError, ExecutionFailed, PayloadTooLarge, UsageError, Workflow
from durable.errors import InternalError, StoreUnavailable
from durable.paging import write_cursor
from tests.codec.test_codec_properties import ANYTHING, Refused, json_form, same
from tests.support.invariants import assert_invariants

GUARD = 30
FEW = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

relay = Workflow[Any, Any]("relay")


@relay.step
async def hear(data: Any) -> Any:
    return [data, await durable.wait_for_event("go")]


echo = Workflow[Any, Any]("echo")


@echo.step
async def say(data: Any) -> Any:
    return data


silent = Workflow[Any, Any]("silent")


@silent.step
async def look_away() -> None: ...


both = silent.parallel("both")
both.step(name="one")(look_away)
both.step(name="other")(look_away)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Durable]:
    async with Durable(database, workflows=[relay, echo, silent]) as engine:
        yield engine
        assert await (await engine.start(echo, "still there")).result(GUARD) == "still there"
    await assert_invariants(database)


@FEW
@given(ANYTHING)
async def test_any_input_and_event_arrives_in_its_json_form_or_is_refused_at_the_call(
    engine: Durable, value: Any
) -> None:
    try:
        expected = json_form(value)
    except Refused:
        waiting = await engine.start(relay, None)
        for call in (engine.start(echo, value), waiting.send_event("go", value), engine.emit("go", value)):
            with pytest.raises(EncodeError):
                await call
        await waiting.cancel()
        return
    handle = await engine.start(relay, value)
    await handle.send_event("go", value)
    assert same(await handle.result(GUARD), [expected, expected])


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


# JSON for PostgreSQL, which keeps it as it is: what Python cannot read of it is to be refused where it is read.
READ = [
    '"\\u0000"',
    '{"a\\u0000": 1}',
    nested(190),
    "1" * 400,
    '{"": 0}',
    "-0",
    "0.1e-400",
    '"' + "x" * 10_000_000 + '"',
]
UNREADABLE = ['"\\ud800"', '{"\\ud800": 1}', '"\\udc00\\ud800"', "1e999", nested(1_000)]
NEVER_STORED = [nested(100_000), "NaN", "'", ""]


async def test_what_sql_sends_arrives_or_fails_its_step_and_can_be_looked_at(engine: Durable, database: str) -> None:
    connection = await asyncpg.connect(database)
    start = "select durable.start_execution($1, $2::text::json, id => $3)"
    send = "select durable.send_event($1, 'go', $2::text::json)"
    for number, text in enumerate([*READ, *UNREADABLE]):
        for name, data in (("echo", text), ("relay", "null"), ("silent", text)):
            await connection.execute(start, name, data, f"{name} {number}")
        await connection.execute(send, f"relay {number}", text)
    for text in NEVER_STORED:
        for call in (connection.execute(start, "echo", text, "no"), connection.execute(send, "relay 0", text)):
            with pytest.raises(asyncpg.PostgresError):
                await call
    await connection.close()
    for number, text in enumerate(READ):
        value = json.loads(text)
        assert same(await engine.handle(f"echo {number}").result(GUARD), value)
        assert same(await engine.handle(f"relay {number}").result(GUARD), [None, value])
        assert same(await engine.handle(f"silent {number}").result(GUARD), value)
    for number in range(len(READ), len(READ) + len(UNREADABLE)):
        for name in ("echo", "relay"):
            with pytest.raises(ExecutionFailed, match=r"NonRetryable: .* take"):
                await engine.handle(f"{name} {number}").result(GUARD)
        with pytest.raises(DurableError):
            await engine.handle(f"silent {number}").result(GUARD)
    for number, text in enumerate(UNREADABLE, len(READ)):
        for name in ("echo", "relay", "silent"):
            seen = await engine.get_execution(f"{name} {number}", include_steps=True)
            assert seen.input == (None if name == "relay" else text)
            events = [event.kind async for event in engine.events(f"{name} {number}", follow=False)]
            assert events[-1] == "ended"


async def test_a_big_event_from_sql_arrives(engine: Durable, database: str) -> None:
    handle = await engine.start(relay, None)
    connection = await asyncpg.connect(database)
    await connection.execute("select durable.send_event($1, 'go', to_json(repeat('x', 10000000)))", handle.id)
    await connection.close()
    assert await handle.result(GUARD) == [None, "x" * 10_000_000]


async def test_what_is_too_big_is_refused_at_the_call_and_nothing_of_it_is_kept(engine: Durable) -> None:
    big = "x" * 10_000_000
    waiting = await engine.start(relay, None, id="waiting")
    for call in (engine.start(echo, big, id="big"), waiting.send_event("go", big), engine.emit("go", big)):
        with pytest.raises(PayloadTooLarge):
            await call
    with pytest.raises(durable.UnknownExecution):
        await engine.get_execution("big")
    await waiting.send_event("go", "small")
    assert await waiting.result(GUARD) == [None, "small"]


async def test_a_list_goes_on_behind_any_name(engine: Durable) -> None:
    names = ["a|b", "b|c|", "|"]
    for name in names:
        await engine.create_schedule(name, echo, Cron("0 0 1 1 *"), 1)
    found: list[str] = []
    cursor = None
    for _ in names:
        page = await engine.list_schedules(limit=1, cursor=cursor)
        found += [item.name for item in page.items]
        cursor = page.cursor
    assert sorted(found) == sorted(names)


async def listed(found: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in found]


def calls(engine: Durable, word: str) -> Iterator[Callable[[], Awaitable[Any]]]:
    """Every call that takes a word, with this one."""
    known: Any = {"id": "known"}
    yield lambda: engine.start(echo, 1, id=word)
    yield lambda: engine.start(echo, 1, queue=word)
    yield lambda: engine.start(echo, 1, tags={word: word})
    yield lambda: engine.start_many(echo, [1, 2], ids=[word, "other"])
    yield lambda: engine.send_event(known["id"], word, word)
    yield lambda: engine.send_event(known["id"], "go", 1, dedupe_key=word)
    yield lambda: engine.emit(word, {word: word})
    yield lambda: engine.provide_input(known["id"], word, word, by=word)
    yield lambda: engine.get_execution(word)
    yield lambda: engine.handle(word).status()
    yield lambda: engine.list_executions(workflow=word)
    yield lambda: engine.list_executions(tags={word: word})
    yield lambda: engine.list_executions(cursor=word)
    yield lambda: engine.list_children(known["id"], cursor=word)
    yield lambda: engine.list_pending_inputs(workflow=word, name=word)
    yield lambda: engine.list_pending_inputs(cursor=word)
    yield lambda: engine.list_acts(word)
    yield lambda: engine.list_acts(cursor=word)
    yield lambda: engine.list_schedules(workflow=word)
    yield lambda: engine.list_schedules(cursor=word)
    yield lambda: engine.create_schedule(word, echo, Cron("0 0 1 1 *"), word)
    yield lambda: engine.get_schedule(word)
    yield lambda: engine.pause_schedule(word, word, by=word)
    yield lambda: engine.pause_queue(word, word, by=word)
    yield lambda: engine.resume_queue(word)
    yield lambda: engine.pause(known["id"], word)
    yield lambda: engine.resume(known["id"], word, by=word)
    yield lambda: engine.retry(known["id"], word)
    yield lambda: engine.fork(known["id"], from_step=word)
    yield lambda: engine.fork(known["id"], new_id=word, reason=word)
    yield lambda: engine.cancel(known["id"], word)
    yield lambda: engine.cancel(known["id"], word, compensate=True)
    yield lambda: engine.cancel_many(queue=word, workflow=word, reason=word)
    yield lambda: listed(engine.events(known["id"], word, follow=False))


CALLS = ["list_executions", "list_children", "list_pending_inputs", "list_acts", "list_schedules"]
CURSORS = [write_cursor(call, *"xyz"[:count]) for call in CALLS for count in (1, 2, 3)]
CURSORS += [base64.b64encode(text).decode() for text in (b"{}", b"5", b"[[", b'["list_children", 5]', b"[" * 9_000)]
WORST = ["", "\0", "\ud800", "x" * 600, "a|b", "1.2.3", "99999999999999999999..9", ",", "*", "%"]


async def test_a_cursor_that_no_list_has_given_is_refused(engine: Durable) -> None:
    await engine.start(echo, 1, id="known")
    for cursor in ["eHx5", "é", *CURSORS]:
        for call in (
            engine.list_executions(cursor=cursor),
            engine.list_children("known", cursor=cursor),
            engine.list_pending_inputs(cursor=cursor),
            engine.list_acts(cursor=cursor),
        ):
            with pytest.raises(UsageError):
                await call


@FEW
@given(st.sampled_from(WORST) | st.text(st.characters(), max_size=6))
async def test_whatever_word_a_call_is_given_it_works_or_raises_an_error_of_ours(engine: Durable, word: str) -> None:
    await engine.start(echo, 1, id="known")
    for call in calls(engine, word):
        error: DurableError | None = None
        try:
            await call()
        except DurableError as refused:
            error = refused
        assert not isinstance(error, InternalError | StoreUnavailable), error
