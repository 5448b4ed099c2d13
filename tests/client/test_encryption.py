"""With a codec that encrypts, and that writes the same thing differently each time: all works, and no table shows the data."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    ArmResults,
    Durable,
    Every,
    ExecutionFailed,
    Ok,
    Retry,
    Scheduled,
    Status,
    Workflow,
    append,
    assign,
    days,
    seconds,
)
from durable.codec import JsonCodec
from tests.support.codecs import ToyXorCodec
from tests.support.invariants import assert_invariants

GUARD = 30
SECRET = "sesame"
CODEC = ToyXorCodec(JsonCodec(), b"key")
TABLES = "select table_name from information_schema.tables where table_schema = 'durable' and table_type = 'BASE TABLE'"

Data = dict[str, Any]


async def showing(dsn: str) -> list[str]:
    """The rows that hold the secret as it is, each behind its table."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = [name for (name,) in await connection.fetch(TABLES)]
        assert "journal" in tables
        rows = {name: await connection.fetch(f"select t::text from durable.{name} t") for name in tables}
        return [f"{name} {row}" for name, found in rows.items() for (row,) in found if SECRET in row]
    finally:
        await connection.close()


def engine(dsn: str, *workflows: Workflow[Any, Any]) -> Durable:
    return Durable(dsn, workflows=list(workflows), codec=CODEC)


async def until_waiting(client: Durable, id: str, after: str = "") -> None:
    """Until the execution has come past *after*, and its body is not in memory any more."""
    async with asyncio.timeout(GUARD):
        while True:
            seen = await client.get_execution(id, include_steps=True)
            if seen.status is Status.WAITING and after in str(seen.steps):
                return
            await asyncio.sleep(0.01)


async def test_calls_of_a_body_are_made_once_though_their_arguments_are_written_differently_each_time(
    database: str,
) -> None:
    made = Counter[str]()
    tried = Counter[str]()

    def pay(who: str) -> str:
        made[who] += 1
        return f"{who} is paid"

    async def flaky(who: str) -> str:
        tried[who] += 1
        if tried[who] < 3:
            raise ValueError("not yet")
        return who

    async def body(data: Data) -> Any:
        made["runs"] += 1
        paid = [await durable.run(pay, data["secret"]), await durable.run(pay, data["secret"])]
        got = await durable.wait_for_event("go")
        both = await asyncio.gather(durable.run(pay, "a"), durable.run(pay, "b"))
        late = await durable.run(flaky, data["secret"], retry=Retry(5, delay=seconds(0.01)))
        return [*paid, got, *both, late, await durable.wait_for_event("go again")]

    flow = Workflow[Any, Any]("flow")
    flow.step(name="body")(body)
    async with engine(database, flow) as client:
        handle = await client.start(flow, {"secret": SECRET}, id="1")
        await until_waiting(client, "1")
        await handle.send_event("go", SECRET)
        await until_waiting(client, "1", "flaky")
        await handle.send_event("go again", SECRET)
        paid = f"{SECRET} is paid"
        assert await handle.result(GUARD) == [paid, paid, SECRET, "a is paid", "b is paid", SECRET, SECRET]
    assert made.pop("runs") > 1
    assert made == {SECRET: 2, "a": 1, "b": 1}
    assert tried == {SECRET: 3}
    assert await showing(database) == []
    await assert_invariants(database)


async def test_every_node_and_every_wait_works_and_shows_nothing(database: str) -> None:
    child = Workflow[Any, Any]("child")

    @child.step
    async def echo(data: Data) -> Data:
        return assign(data, child=True)

    flow = Workflow[Data, Any]("flow")

    @flow.step
    async def first(data: Data) -> Data:
        durable.context().progress(0.5)
        await durable.context().stream.send(SECRET)
        return assign(data, first=SECRET)

    @flow.step(transactional=True)
    async def writes(data: Data, step: durable.Context) -> Data:
        await step.connection.execute("select 1")
        return assign(data, second=SECRET)

    which = flow.branch("which", on=lambda data: data["secret"] == SECRET)

    @which.case(True).step
    async def known(data: Data) -> Data:
        return assign(data, known=SECRET)

    @which.otherwise.step
    async def unknown(data: Data) -> Data:
        raise AssertionError

    def joined(data: Data, arms: ArmResults) -> Data:
        return assign(data, arms=[arm.value for arm in (arms["left"], arms["right"]) if isinstance(arm, Ok)])

    both = flow.parallel("both", into=joined)

    @both.step
    async def left(data: Data) -> str:
        return f"left {SECRET}"

    @both.step
    async def right(data: Data) -> str:
        return f"right {SECRET}"

    each = flow.foreach("each", items=lambda data: [SECRET, SECRET], collect_as="items")

    @each.step
    async def one(data: Data, item: str, index: int) -> str:
        return f"{item} {index}"

    again = flow.loop("again", until=lambda data: len(data["rounds"]) == 2)

    @again.step
    async def more(data: Data) -> Data:
        return append(data, "rounds", SECRET)

    @flow.step
    async def waits(data: Data) -> Data:
        event = await durable.wait_for_event("go")
        answer = await durable.wait_for_text("who", metadata={"about": SECRET})
        called = await durable.call_workflow(child, {"secret": SECRET})
        begun = await durable.start_workflow(child, {"secret": SECRET})
        await durable.sleep(seconds(0.01))
        return assign(data, waited=[event, answer, called, await begun.result()])

    async with engine(database, flow, child) as client:
        handle = await client.start(flow, {"secret": SECRET, "rounds": []}, id="1")
        await client.send_event("1", "go", SECRET)
        async with asyncio.timeout(GUARD):
            while not (pending := (await client.list_pending_inputs()).items):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert pending[0].metadata == {"about": SECRET}
        await client.provide_input("1", "who", SECRET)
        result = await handle.result(GUARD)
        of_child = {"secret": SECRET, "child": True}
        assert result == {
            "secret": SECRET,
            "rounds": [SECRET, SECRET],
            "first": SECRET,
            "second": SECRET,
            "known": SECRET,
            "arms": [f"left {SECRET}", f"right {SECRET}"],
            "items": [f"{SECRET} 0", f"{SECRET} 1"],
            "waited": [SECRET, SECRET, of_child, of_child],
        }
        events = [event async for event in handle.events()]
        assert SECRET in [event.value for event in events if event.kind == "chunk"]
        seen = await client.get_execution("1", include_steps=True)
        assert seen.result == result
        assert "not written with this key" not in str(seen)
    assert await showing(database) == []
    await assert_invariants(database)


async def test_so_do_undoing_beginning_afresh_retries_and_schedules(database: str) -> None:
    undone: list[Any] = []
    declared = Workflow[Any, Any]("declared", schedule=Scheduled(Every(days(30)), data={"secret": SECRET}))
    trip = Workflow[Any, Any]("trip")
    failing = [True]

    async def undo(data: Data) -> None:
        undone.append(data)

    @trip.step(compensate=undo)
    async def book(data: Data) -> Data:
        return assign(data, booked=SECRET)

    @trip.step
    async def look(data: Data) -> None: ...

    @trip.step
    async def pay(data: Data) -> Data:
        if failing[0]:
            raise ValueError("declined")
        return data

    @declared.step
    async def report(data: Data) -> Data:
        return data

    @durable.workflow("counts")
    async def counts(data: Data) -> Data:
        if data["n"] < 3:
            await durable.continue_as(assign(data, n=data["n"] + 1))
        return data

    fails = Workflow[Any, Any]("fails")

    @fails.step(name="book")
    async def book_again(data: Data) -> Data:
        return assign(data, booked=SECRET)

    @fails.step
    async def break_once(data: Data) -> None:
        if durable.context().attempt == 1:
            raise ValueError("declined")

    silent = Workflow[Any, Any]("silent")

    @silent.step
    async def say_nothing(data: Data) -> None: ...

    @durable.workflow("child")
    async def child(data: Any) -> None: ...

    def none() -> None: ...

    @durable.workflow("nothing")
    async def nothing(data: Any) -> Any:
        got = [await durable.run(none), await durable.call_workflow(child, None)]
        await durable.sleep(seconds(0.01))
        return [*got, await durable.run(none)]

    workflows = (declared, trip, fails, counts, silent, child, nothing)
    async with engine(database, *workflows) as client:
        handle = await client.start(trip, {"secret": SECRET})
        with_booking = {"secret": SECRET, "booked": SECRET}
        with pytest.raises(ExecutionFailed):
            await handle.result(GUARD)
        assert undone == [with_booking]
        failing[0] = False
        fork = await client.fork(handle.id, from_step="pay")
        assert await fork.result(GUARD) == with_booking

        flaky = await client.start(fails, {"secret": SECRET})
        with pytest.raises(ExecutionFailed):
            await flaky.result(GUARD)
        await client.retry(flaky.id)
        assert await flaky.result(GUARD) == with_booking

        assert await (await client.start(counts, {"secret": SECRET, "n": 0})).result(GUARD) == {
            "secret": SECRET,
            "n": 3,
        }

        assert await (await client.start(nothing, None)).result(GUARD) == [None, None, None]
        assert await (await client.start(silent, {"secret": SECRET})).result(GUARD) == {"secret": SECRET}

        revision = (await client.get_schedule("declared")).changed_at
        fired = await client.trigger_schedule("declared")
        assert await fired.result(GUARD) == {"secret": SECRET}
        made = await client.create_schedule("made", declared, Every(days(1)), {"secret": SECRET})
        assert made.data == {"secret": SECRET}
    async with engine(database, *workflows) as client:
        assert (await client.get_schedule("declared")).changed_at == revision, "the same data, and declared again"
    assert await showing(database) == []
    await assert_invariants(database)
