"""An execution is one trace, whoever runs it, and whoever is killed in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from durable import Durable
from tests.support import flows
from tests.support.crew import Crew, first_to_say
from tests.support.flows import heard, planned
from tests.support.ledger import Ledger
from tests.support.spans import read_spans

LEASE = 1.5
STARTER = SpanContext(0xA1B2C3, 0xD4E5, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


async def test_an_execution_is_the_trace_of_its_starter_with_one_span_for_each_finished_step_though_a_worker_is_killed(
    database: str, crew: Crew, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "spans"
    workers = await crew.start_two(lease=LEASE, spans=str(path))
    async with Durable(database, workflows=[flows], worker=False, tracing=True) as client:
        with trace.use_span(NonRecordingSpan(STARTER)):
            handle = await client.start(heard, planned(after={"stuck": 1}), id="order")
        async with asyncio.timeout(30):
            while await handle.status() != "waiting":  # noqa: ASYNC110 - another process decides it
                await asyncio.sleep(0.01)
        await client.send_event("order", "go", 1)
        victim = await first_to_say(workers, "begin", path="after")
        victim.kill()
        await victim.wait()
        assert (await handle.result(60))["after"]
    (heir,) = (worker for worker in workers if worker is not victim)
    heir.terminate()
    await heir.message("stopped")

    spans = read_spans(path)
    assert {span.trace_id for span in spans} == {STARTER.trace_id}
    stays = {span.span_id: span for span in spans if span.name == "run heard"}
    assert {stay.parent_id for stay in stays.values()} == {STARTER.span_id}
    steps = [span for span in spans if span.name.startswith("step ")]
    finished = {span.name: span for span in steps if "durable.interrupted" not in span.attributes}
    assert sorted(span.name for span in steps if "durable.interrupted" not in span.attributes) == [
        "step after",
        "step before",
        "step hears_go",
    ]
    assert not any(span.failed for span in spans)
    assert [span.name for span in steps if "durable.interrupted" in span.attributes] == ["step hears_go"], (
        "it has waited"
    )
    assert {span.attributes["durable.attempt"] for span in steps} == {1}, "a crash is no attempt"
    for span in steps:
        stay = stays.get(span.parent_id or 0)
        if stay is None:  # that in which the victim was killed
            assert span.pid == victim.pid
        else:
            assert span.pid == stay.pid
            assert stay.start <= span.start <= span.end <= stay.end
    assert finished["step after"].pid == heir.pid
    last = stays[finished["step after"].parent_id or 0]
    assert last.attributes["durable.crashes"] == 1
    assert finished["step hears_go"].parent_id not in stays, "it has ended in the stay that was lost with the victim"
    (wait,) = (span for span in spans if span.name.startswith("wait "))
    assert (wait.name, wait.attributes["durable.wait"], wait.pid) == ("wait event", 'event:"go"', victim.pid)
    assert wait.parent_id == STARTER.span_id
    assert finished["step before"].end <= wait.start <= wait.end <= finished["step hears_go"].end
