"""An execution is one trace, of whoever has started it, through whatever workers run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import durable
from durable import Durable, Retry, Workflow, seconds
from durable.telemetry.tracing import waits_of
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

exporter = InMemorySpanExporter()
flow = Workflow[Data, Any]("traced", retry=Retry(max_attempts=2, delay=seconds(0), jitter=0))


@flow.step
async def first(data: Data) -> Data:
    with trace.get_tracer("app").start_as_current_span("inside"):
        if durable.context().attempt == 1:
            raise ValueError("once")
    return data


@flow.step
async def second(data: Data) -> Any:
    await durable.wait_for_event("go")
    return await durable.call_workflow(child, {"n": 1})


child = Workflow[Data, Data]("child")


@child.step
def in_a_thread(data: Data) -> Data:
    with trace.get_tracer("app").start_as_current_span("in the thread"):
        return data


waiting = Workflow[Data, Any]("waiting", retry=Retry(max_attempts=2, delay=seconds(0), jitter=0))


@waiting.step
async def waits_much(data: Data) -> Any:
    await durable.sleep(seconds(0.01), key="in place")
    await durable.sleep(seconds(0.4), key="asleep")
    await asyncio.gather(durable.sleep(seconds(0.4), key="shorter"), durable.sleep(seconds(1), key="longer"))
    await durable.wait_for_event("go")
    await durable.wait_for_text("who")
    await durable.wait_for_event("never", timeout=seconds(0.4), timeout_value=None)
    await durable.call_workflow(child, {"n": 1}, ref="mine")
    if durable.context().attempt == 1:
        raise ValueError("once")
    return data


stubborn = Workflow[Data, Data]("stubborn")


@stubborn.step
async def refuses(data: Data) -> Data:
    await durable.sleep(seconds(0.3))
    if durable.context().attempt == 1:
        raise ValueError("once")
    return data


@pytest.fixture(scope="module")
def provider() -> Iterator[TracerProvider]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield provider
    provider.shutdown()


@pytest.fixture
async def dsn(database: str, provider: TracerProvider) -> AsyncIterator[str]:
    exporter.clear()
    yield database
    await assert_invariants(database)


def spans() -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


async def test_an_execution_is_one_trace_with_that_of_its_starter_through_several_workers(dsn: str) -> None:
    async with Durable(dsn, workflows=[flow, child], tracing=True) as one:
        with trace.get_tracer("app").start_as_current_span("request") as request:
            handle = await one.start(flow, {})
        async with asyncio.timeout(20):
            while await handle.status() != "waiting":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    async with Durable(dsn, workflows=[flow, child], tracing=True) as two:
        await two.send_event(handle.id, "go")
        await two.handle(handle.id).result(20)
    found = spans()
    ids = {
        span.context.trace_id for name, group in found.items() for span in group if name != "request" and span.context
    }
    assert ids == {request.get_span_context().trace_id}
    assert len(found["run traced"]) >= 2
    stays = {span.context.span_id: span for span in found["run traced"] if span.context}
    attempts = found["step first"]
    assert [span.attributes["durable.attempt"] for span in attempts if span.attributes] == [1, 2]
    assert [span.status.is_ok for span in attempts] == [False, True]
    assert all(span.parent is not None and span.parent.span_id in stays for span in attempts)
    inner = {span.parent.span_id for span in found["inside"] if span.parent}
    assert inner == {span.context.span_id for span in attempts if span.context}
    assert all(not span.status.description for span in found["step second"]), "what waits has not failed"
    (thread,) = found["in the thread"]
    assert thread.parent is not None
    assert thread.parent.span_id == next(span.context.span_id for span in found["step in_a_thread"] if span.context)


async def test_what_cannot_be_traced_runs_all_the_same(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a sampler of somebody's")

    async with Durable(dsn, workflows=[child], tracing=True) as engine:
        supervisor = engine.parts().supervisor
        assert supervisor is not None
        monkeypatch.setattr(supervisor._tracing, "arrived", fails)
        assert await (await engine.start(child, {"n": 1})).result(20) == {"n": 1}


def of(span: ReadableSpan, *names: str) -> tuple[Any, ...]:
    assert span.attributes is not None
    return tuple(span.attributes[f"durable.{name}"] for name in names)


async def until_waiting_for(engine: Durable, id: str, name: str) -> None:
    async with asyncio.timeout(20):
        while True:
            execution = await engine.get_execution(id)
            if execution.status == "waiting" and name in str(execution.waits_for):
                return
            await asyncio.sleep(0.01)


async def test_each_wait_is_one_span_from_its_beginning_to_its_end_whoever_runs_the_execution_then(dsn: str) -> None:
    flows = [waiting, child]
    async with Durable(dsn, workflows=flows, tracing=True) as one:
        with trace.get_tracer("app").start_as_current_span("request") as request:
            handle = await one.start(waiting, {})
        await until_waiting_for(one, handle.id, "go")
    async with Durable(dsn, workflows=flows, tracing=True) as two:
        await two.send_event(handle.id, "go")
        async with asyncio.timeout(20):
            while not (asked := (await two.list_pending_inputs()).items):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await two.provide_input(handle.id, asked[0].name, "me")
        await two.handle(handle.id).result(20)
    waits = [span for name, group in spans().items() if name.startswith("wait ") for span in group]
    assert sorted((span.name, *of(span, "wait", "path", "attempt", "outcome")) for span in waits) == [
        ("wait child", 'child:"mine"', "waits_much", 1, "answered"),
        ("wait event", 'event:"go"', "waits_much", 1, "answered"),
        ("wait event", 'event:"never"', "waits_much", 1, "expired"),
        ("wait input", 'input:"who"', "waits_much", 1, "answered"),
        ("wait sleep", 'sleep:"asleep"', "waits_much", 1, "passed"),
        ("wait sleep", 'sleep:"in place"', "waits_much", 1, "passed"),
        ("wait sleep", 'sleep:"longer"', "waits_much", 1, "passed"),
        ("wait sleep", 'sleep:"shorter"', "waits_much", 1, "passed"),
    ]
    attempts = {span.context.span_id for span in spans()["step waits_much"] if span.context}
    for span in waits:
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert {link.context.span_id for link in span.links} <= attempts
        assert len(span.links) == 1
        assert not span.status.description
    lasted = {of(span, "wait")[0]: (span.end_time or 0) - (span.start_time or 0) for span in waits}
    assert lasted['sleep:"asleep"'] > 0.39e9
    assert lasted['sleep:"longer"'] > 0.99e9
    connection = await asyncpg.connect(dsn)
    asked_at = await connection.fetchval(
        "select recorded_at from durable.journal where kind = 'waiting' and key = $1", 'event:"go"#1'
    )
    await connection.close()
    (event,) = [span for span in waits if of(span, "wait") == ('event:"go"',)]
    assert abs((event.start_time or 0) - asked_at.timestamp() * 1e9) < 1e4, (
        "the moment of the record, told by another worker"
    )
    finished = [
        of(span, "attempt")
        for span in spans()["step waits_much"]
        if "durable.interrupted" not in (span.attributes or {})
    ]
    assert finished == [(1,), (2,)]


BEGAN = datetime(2020, 1, 1, tzinfo=UTC)


def row(key: str, kind: str = "waiting", at: float = 0.0, due: float | None = None) -> dict[str, Any]:
    run_at = None if due is None else BEGAN + timedelta(seconds=due)
    return {"path": "step", "key": key, "kind": kind, "recorded_at": BEGAN + timedelta(seconds=at), "run_at": run_at}


@pytest.mark.parametrize(
    ("rows", "ready", "waits"),
    [
        pytest.param(
            [row("sleep#1", due=60)], 60.02, {"sleep#1"}, id="what has woken it, by a timer that was set late"
        ),
        pytest.param([row("sleep#1", due=60)], 7200, set(), id="what was slept before something else has woken it"),
        pytest.param([row("sleep#1", due=60)], 30, {"sleep#1"}, id="what is not over yet"),
        pytest.param([row("sleep#1", due=60)], None, set(), id="what is over, where nobody knows what has woken it"),
        pytest.param(
            [row("sleep:a#1", due=60), row("sleep:b#1", due=60.1), row("sleep:c#1", due=61)],
            60.1,
            {"sleep:a#1", "sleep:b#1", "sleep:c#1"},
            id="what goes on in one stay",
        ),
        pytest.param(
            [row("sleep:a#1", due=60), row("sleep:b#1", due=61)],
            61.01,
            {"sleep:b#1"},
            id="what was over in the stay before",
        ),
        pytest.param(
            [row("sleep#1", due=60), row("event#1", at=60.1)],
            60.2,
            {"event#1"},
            id="after which something was recorded",
        ),
        pytest.param(
            [row("event#1"), row("event#1", "expired", at=1), row("event#2", at=2)],
            9,
            {"event#2"},
            id="what has no answer",
        ),
        pytest.param(
            [row("event#1"), {**row("", "continued"), "key": None}, row("event#2")], 9, {"event#2"}, id="of this life"
        ),
    ],
)
def test_an_execution_brings_along_the_waits_that_have_not_ended(
    rows: Any, ready: float | None, waits: set[str]
) -> None:
    found = waits_of(rows, None if ready is None else BEGAN + timedelta(seconds=ready))
    assert {key for _, key in found} == waits


async def test_a_retry_of_an_execution_is_told_from_an_attempt_of_a_step(dsn: str) -> None:
    async with Durable(dsn, workflows=[stubborn], tracing=True) as engine:
        handle = await engine.start(stubborn, {})
        with pytest.raises(durable.ExecutionFailed):
            await handle.result(20)
        await engine.retry(handle.id)
        await handle.result(20)
    found = spans()
    ended = [span for span in found["step refuses"] if "durable.interrupted" not in (span.attributes or {})]
    assert [of(span, "retry", "attempt") for span in ended] == [(0, 1), (1, 2)]
    assert {of(span, "retry") for span in found["run stubborn"]} == {(0,), (1,)}
    assert [of(span, "retry", "outcome") for span in found["wait sleep"]] == [(0, "passed")], (
        "what was slept is not again"
    )


async def test_one_that_is_started_without_a_trace_gets_the_same_everywhere(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    async with Durable(dsn, workflows=[flow, child], tracing=True) as one:
        id = await connection.fetchval("""select durable.start_execution('child', '{"n": 1}')""")
        await one.handle(id).result(20)
    await connection.close()
    assert {span.context.trace_id for group in spans().values() for span in group if span.context} == {UUID(id).int}


async def test_without_tracing_there_are_no_spans(dsn: str) -> None:
    async with Durable(dsn, workflows=[flow, child]) as one:
        await (await one.start(child, {"n": 1})).result(20)
    assert [name for name in spans() if name != "in the thread"] == []
