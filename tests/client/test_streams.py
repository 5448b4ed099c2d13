"""Following executions on a real engine: steps, progress and chunks are pushed, in order, from any place, through crashes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import durable
from durable import (
    Durable,
    LifeEvent,
    NonRetryable,
    Retry,
    UnknownExecution,
    UsageError,
    Workflow,
    context,
    days,
    seconds,
)
from durable.following import GAPS_MAX, Place
from durable.testing import run
from tests.client.test_waiting import GUARD, checked
from tests.support.proxy import Proxy

__all__ = ["checked"]

Flow = Workflow[Any, Any]


def told(event: LifeEvent) -> tuple[Any, ...]:
    """What is the same every time."""
    return (event.kind, event.path, event.message if event.kind in ("ended", "progress") else event.value)


async def follow(engine: Durable, id: str, after: str | None = None) -> list[LifeEvent]:
    async with asyncio.timeout(GUARD):
        return [event async for event in engine.events(id, after)]


def writer() -> Flow:
    workflow = Flow("flow")

    @workflow.step
    async def write(data: Any) -> str:
        for number in range(3):
            await context().stream.send({"part": number})
            context().progress(number / 2, f"{number} of 2")
        return "all"

    @workflow.step
    def count(text: str) -> int:
        context().progress(1.0)
        return len(text)

    return workflow


LIFE = [
    *[event for n in range(3) for event in (("chunk", "write", {"part": n}), ("progress", "write", f"{n} of 2"))],
    ("completed", "write", "all"),
    ("progress", "count", None),
    ("completed", "count", 3),
    ("ended", "", "completed"),
]


async def test_what_is_told_after_a_record_is_never_seen_before_it(checked: str) -> None:
    workflow = writer()
    async with (
        Proxy(checked) as proxy,
        Durable(checked, workflows=[workflow]) as engine,
        Durable(proxy.dsn, workflows=[workflow], worker=False) as client,
    ):
        # A reader has begun to look, and before it has seen what was told all is over.
        look = proxy.hold(lambda sql: "from durable.stream" in sql)
        handle = await engine.start(workflow, 1, delay=seconds(0.3))
        following = asyncio.create_task(follow(client, handle.id))
        await look
        assert await handle.result(GUARD) == 3
        look.release()
        assert [told(event) for event in await following] == LIFE


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_the_life_of_an_execution_is_told_in_its_order_to_readers_here_and_elsewhere(
    checked: str, elsewhere: bool
) -> None:
    workflow = writer()
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handle = await client.start(workflow, 1)
        events = await follow(client if elsewhere else engine, handle.id)
        assert [told(event) for event in events] == LIFE
        for place, event in enumerate(events[:-1]):
            rest = await follow(client, handle.id, event.position)
            assert [told(event) for event in rest] == LIFE[place + 1 :], "it can be gone on with from any place"


async def test_events_are_pushed_to_other_processes_and_not_only_found_by_polling(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.following.LOOK_EVERY", 60.0)
    workflow, seen = Flow("flow"), [asyncio.Event() for _ in range(3)]

    @workflow.step
    async def write(data: Any) -> None:
        await durable.wait_for_event("go")  # until it is followed
        for event in seen:
            await context().stream.send(1)
            await event.wait()

    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handle = await engine.start(workflow, 1)
        left = iter(seen)
        async with asyncio.timeout(GUARD):
            async for event in client.events(handle.id):
                if event.kind == "waiting":
                    await asyncio.sleep(0.2)  # until the worker has heard of us
                    await handle.send_event("go")
                elif event.kind == "chunk":
                    next(left).set()
        assert next(left, None) is None


async def test_chunks_of_a_failed_attempt_are_withdrawn(checked: str) -> None:
    workflow = Flow("flow")

    @workflow.step(retry=Retry(2, delay=seconds(0.01)))
    async def write(data: Any) -> None:
        await context().stream.send(context().attempt)
        if context().attempt == 1:
            raise ValueError("no")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        events = [told(event) for event in await follow(engine, handle.id)]
    assert events == [
        ("chunk", "write", 1),
        ("retrying", "write", None),
        ("withdrawn", "write", None),
        ("chunk", "write", 2),
        ("completed", "write", None),
        ("ended", "", "completed"),
    ]


async def test_chunks_of_a_run_that_was_cut_off_are_withdrawn(checked: str) -> None:
    workflow, block = Flow("flow"), True

    @workflow.step
    async def write(data: Any) -> None:
        await context().stream.send("first" if block else "again")
        if block:
            await asyncio.sleep(60)

    async with Durable(checked, workflows=[workflow], drain=seconds(0)) as engine:
        handle = await engine.start(workflow, 1, id="x")
        async with asyncio.timeout(GUARD):
            async for event in handle.events():
                place = event.position
                break
    block = False
    async with Durable(checked, workflows=[workflow]) as engine:
        events = [told(event) for event in await follow(engine, "x", place)]
    assert events == [
        ("withdrawn", "write", None),
        ("chunk", "write", "again"),
        ("completed", "write", None),
        ("ended", "", "completed"),
    ]


async def test_concurrent_steps_and_waits_are_told_of_too(checked: str) -> None:
    workflow = Flow("flow")
    each = workflow.foreach("each", items=lambda data: list(range(20)), concurrency=10, on_error="continue")

    @each.step
    async def one(data: Any, item: int) -> int:
        if item == 7:
            raise NonRetryable("no")
        await durable.run(str, item)
        await context().stream.send(item)
        return item

    @workflow.step
    async def wait(data: Any) -> Any:
        return await durable.wait_for_event("go", timeout=days(1))

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        events: list[LifeEvent] = []
        async with asyncio.timeout(GUARD):
            async for event in handle.events():
                events.append(event)
                if event.kind == "waiting":
                    await handle.send_event("go", "on")
    assert sorted(e.value for e in events if e.kind == "chunk") == [n for n in range(20) if n != 7]
    paths = [(e.kind, e.path) for e in events]
    assert len(paths) == len(set(paths)), "each is told of once"
    assert ("failed", "each[7]/one") in paths
    assert {kind for kind, path in paths if path == "wait"} == {"waiting", "answered", "completed"}


async def test_what_cannot_be_told_or_followed_is_refused(checked: str) -> None:
    workflow = Flow("flow")

    @workflow.step
    async def write(data: Any) -> list[str]:
        said: list[str] = []
        for act in (lambda: context().stream.send(object()), lambda: context().progress(2)):
            try:
                if (awaited := act()) is not None:
                    await awaited
            except durable.DurableError as error:
                said.append(type(error).__name__)
        return said

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        assert await handle.result(GUARD) == ["EncodeError", "UsageError"]
        with pytest.raises(UnknownExecution):
            await follow(engine, "nobody")
        with pytest.raises(UsageError, match="position"):
            await follow(engine, handle.id, "nonsense")
        for place in ("1.2", "a..1", "-1..0", f"{1 << 31}..0", "9.1_x.0", f"1..{1 << 63}"):
            with pytest.raises(UsageError, match="position"):
                await follow(engine, handle.id, place)


async def test_what_a_life_has_said_stands_when_the_next_one_begins_to_speak(checked: str) -> None:
    @durable.workflow("flow")
    async def workflow(data: int) -> str:
        await context().stream.send(f"life {data}")
        if data < 2:
            await durable.continue_as(data + 1)
        return "done"

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 0)
        await handle.result(GUARD)
        events = await follow(engine, handle.id)
        assert [e.value for e in events if e.kind == "chunk"] == [f"life {n}" for n in range(3)]
        assert not [e for e in events if e.kind == "withdrawn"]
        for place, event in enumerate(events):
            if event.kind == "chunk":
                rest = await follow(engine, handle.id, event.position)
                assert [told(e) for e in rest] == [told(e) for e in events[place + 1 :]]


RECORD = """
insert into durable.journal (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path, value)
values ($1, $2::int, 1, durable.clock() - interval '10 minutes', $1, 0, 'completed', 'step ' || $2::int, '1')
"""


async def test_a_record_that_becomes_visible_long_after_later_ones_is_told_of(checked: str) -> None:
    workflow = writer()
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow], worker=False) as client:
        handle = await client.start(workflow, 1, delay=days(1))
        seen: asyncio.Queue[LifeEvent] = asyncio.Queue()

        async def reads(after: str | None) -> None:
            async for event in client.events(handle.id, after):
                seen.put_nowait(event)

        reader, places = asyncio.create_task(reads(None)), list[str]()
        for seq in (1, 4, 3, 9, 2):
            await connection.execute(RECORD, UUID(handle.id), seq)
            event = await asyncio.wait_for(seen.get(), GUARD)
            assert event.path == f"step {seq}"
            places.append(event.position)
        reader.cancel()
        reader = asyncio.create_task(reads(places[1]))  # where 1 and 4 are seen
        assert {(await asyncio.wait_for(seen.get(), GUARD)).path for _ in range(3)} == {"step 3", "step 9", "step 2"}
        assert seen.empty()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    await connection.close()


@given(st.permutations(range(1, 12)), st.integers(0, 10))
def test_a_place_knows_what_was_seen_in_whatever_order_and_however_often_it_is_written(
    order: list[int], length: int
) -> None:
    place, now = Place(), datetime.now(UTC)
    for seq in order[:length]:
        place.see(seq, now, now)
        place = Place.read(str(place))
    missing = [n for gap in place.gaps for n in range(gap.first, gap.last + 1)]
    assert {*missing, *order[:length]} == set(range(1, place.high + 1))
    assert not {*missing} & {*order[:length]}


def test_old_gaps_are_given_up_when_there_are_many_and_young_ones_are_not() -> None:
    began = datetime.now(UTC)
    place = Place()
    for seq in range(2, 1000, 2):
        place.see(seq, began, began + timedelta(seconds=61))
    assert (len(place.gaps), place.gaps[0].first) == (GAPS_MAX, 997 - 2 * (GAPS_MAX - 1))
    place = Place()
    for seq in range(2, 1000, 2):
        place.see(seq, began, began + timedelta(seconds=59))
    assert len(place.gaps) == 499


async def test_a_message_of_progress_that_cannot_be_stored_is_spelled_out_and_costs_nothing_else(checked: str) -> None:
    workflow = Flow("flow")

    @workflow.step
    async def write(data: Any) -> str:
        context().progress(0.5, "a\0b\ud800c")
        with pytest.raises(UsageError, match="Give a text"):
            context().progress(0.6, 7)  # type: ignore[arg-type]
        return "done"

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        assert await handle.result(GUARD) == "done"
        assert [e.message for e in await follow(engine, handle.id) if e.kind == "progress"] == ["a\\0b\\ud800c"]


async def test_in_memory_what_was_told_is_kept_with_the_run() -> None:
    ended = await run(writer(), 1)
    assert [(t.kind, t.path, t.value) for t in ended.told if t.kind == "chunk"] == [
        ("chunk", "write", f'{{"part":{n}}}') for n in range(3)
    ]


@pytest.mark.parametrize("how", ["its timeout", "a cancel", "an undo"])
async def test_a_body_that_streams_for_ever_is_ended_by(checked: str, how: str) -> None:
    workflow, flowing = Flow("flow"), asyncio.Event()

    @workflow.step(timeout=seconds(0.3) if how == "its timeout" else None)
    async def write(data: Any) -> None:
        while True:
            await context().stream.send("more")
            flowing.set()

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        async with asyncio.timeout(GUARD):
            await flowing.wait()
        if how != "its timeout":
            await handle.cancel("enough", compensate=how == "an undo")
        with pytest.raises(durable.ExecutionFailed if how == "its timeout" else durable.ExecutionCancelled):
            await handle.result(GUARD)


async def test_more_chunks_than_a_page_come_before_the_record_that_withdraws_them(checked: str) -> None:
    workflow = Flow("flow")

    @workflow.step
    async def write(data: Any) -> None:
        for number in range(1_200):
            await context().stream.send(number)
        raise ValueError("no")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        with pytest.raises(durable.ExecutionFailed):
            await handle.result(GUARD)
        events = [told(event) for event in await follow(engine, handle.id)]
    assert [value for kind, _, value in events if kind == "chunk"] == list(range(1_200))
    assert [kind for kind, _, _ in events[1_200:]] == ["failed", "withdrawn", "ended"]
