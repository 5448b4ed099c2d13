"""An execution is one trace, of whoever has started it, through whatever workers run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
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
