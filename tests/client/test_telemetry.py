"""What an engine tells of itself: logs of bodies, metrics, health, hooks."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

import durable
from durable import ConfigurationError, Durable, ExecutionFailed, LogContext, Retry, Workflow, hours, seconds
from tests.support.invariants import assert_invariants

Data = dict[str, Any]

logger = logging.getLogger("app.orders")
gate = asyncio.Event()

talks = Workflow[Data, Data]("talks", retry=Retry(max_attempts=2, delay=seconds(0), jitter=0))


@talks.step
async def speak(data: Data) -> Data:
    logger.info("attempt %d of %s", durable.context().attempt, data["name"])
    logger.debug("this is too little")
    if durable.context().attempt == 1:
        raise ValueError("once")
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("it was caught\0")
    return data


@talks.step
def in_a_thread(data: Data) -> Data:
    logger.warning("from a thread")
    return data


chatty = Workflow[Data, Data]("chatty")


@chatty.step
async def chat(data: Data) -> Data:
    for n in range(500):
        logger.info("line %d", n)
    logger.info("x" * 100_000)
    return data


quiet = Workflow[Data, Data]("quiet")


@quiet.step
async def hum(data: Data) -> Data:
    if data.get("bad"):
        raise ValueError("bad")
    if data.get("gate"):
        logger.info("it has begun")
        await gate.wait()
    return data


naps = Workflow[Data, Data]("naps")


@naps.step
async def nap(data: Data) -> Data:
    await durable.sleep(hours(1))
    return data


FLOWS = [talks, chatty, quiet]


@pytest.fixture(autouse=True)
def fresh(caplog: pytest.LogCaptureFixture) -> None:
    global gate
    gate = asyncio.Event()
    caplog.set_level("DEBUG", logger="app")


@pytest.fixture
async def dsn(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


async def logs_of(engine: Durable, id: str) -> list[tuple[str, int, str, str]]:
    execution = await engine.get_execution(id, include_logs=True)
    return [(step.path, line.attempt, line.level, line.text) for step in execution.steps or () for line in step.logs]


async def until_logs(engine: Durable, id: str, count: int) -> list[tuple[str, int, str, str]]:
    async with asyncio.timeout(20):
        while len(logs := await logs_of(engine, id)) < count:  # noqa: ASYNC110 - nobody waits for logs
            await asyncio.sleep(0.01)
    return logs


async def test_what_bodies_log_is_kept_with_their_attempts(dsn: str) -> None:
    async with Durable(dsn, workflows=FLOWS) as engine:
        handle = await engine.start(talks, {"name": "ada"})
        await handle.result(20)
        logs = await until_logs(engine, handle.id, 4)
        assert [(path, attempt, level, text.split("\n")[0]) for path, attempt, level, text in logs] == [
            ("speak", 1, "INFO", "attempt 1 of ada"),
            ("speak", 2, "INFO", "attempt 2 of ada"),
            ("speak", 2, "ERROR", "it was caught\\0"),
            ("in_a_thread", 1, "WARNING", "from a thread"),
        ]
        assert "KeyError: 'x'" in logs[2][3]
        assert (await engine.get_execution(handle.id, include_steps=True)).steps[0].logs == []  # type: ignore[index]
        events = [event async for event in handle.events()]
        assert next(event.message for event in events if event.kind == "log") == "attempt 1 of ada"


async def test_what_one_run_may_log_is_bounded_and_says_so(dsn: str) -> None:
    async with Durable(dsn, workflows=FLOWS) as engine:
        handle = await engine.start(chatty, {})
        await handle.result(20)
        logs = await until_logs(engine, handle.id, 201)
        assert len(logs) == 201
        assert logs[-1][2:] == ("WARNING", "this run of the step has logged more, which is not kept")


async def test_nothing_is_kept_below_the_level_or_where_nobody_wants_it(dsn: str) -> None:
    async with Durable(dsn, workflows=FLOWS, capture_logs="ERROR") as engine:
        handle = await engine.start(talks, {"name": "ada"})
        await handle.result(20)
        assert [log[2] for log in await until_logs(engine, handle.id, 1)] == ["ERROR"]
    async with Durable(dsn, workflows=FLOWS, capture_logs=None) as engine:
        handle = await engine.start(talks, {"name": "ada"})
        await handle.result(20)
        assert await logs_of(engine, handle.id) == []
    with pytest.raises(ConfigurationError, match="capture_logs is 'LOUD'"):
        Durable(dsn, workflows=FLOWS, capture_logs="LOUD")


async def test_a_step_that_runs_is_seen_by_what_it_has_logged(dsn: str) -> None:
    async with Durable(dsn, workflows=FLOWS) as engine:
        handle = await engine.start(quiet, {"gate": True})
        assert await until_logs(engine, handle.id, 1) == [("hum", 1, "INFO", "it has begun")]
        execution = await engine.get_execution(handle.id, include_logs=True)
        assert [step.status for step in execution.steps or ()] == ["running"]
        gate.set()
        await handle.result(20)


async def test_log_records_say_from_which_execution_they_come(dsn: str) -> None:
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keep()
    handler.addFilter(LogContext())
    logger.addHandler(handler)
    try:
        async with Durable(dsn, workflows=FLOWS) as engine:
            handle = await engine.start(talks, {"name": "ada"}, id="mine")
            await handle.result(20)
        logger.info("outside")
    finally:
        logger.removeHandler(handler)
    shown = [(r.execution_id, r.workflow, r.path, r.attempt) for r in records]  # type: ignore[attr-defined]
    assert ("mine", "talks", "speak", 2) in shown
    assert ("mine", "talks", "in_a_thread", 1) in shown
    assert shown[-1] == ("", "", "", 0)


async def get(app: Any, path: str, method: str = "GET") -> tuple[int, str]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path}, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


async def test_metrics_are_counted_and_written_as_prometheus_reads_them(dsn: str) -> None:
    async with Durable(dsn, workflows=FLOWS, queues={"default": 7}) as engine:
        for _ in range(3):
            await (await engine.start(quiet, {})).result(20)
        with pytest.raises(ExecutionFailed):
            await (await engine.start(quiet, {"bad": True})).result(20)
        status, text = await get(engine.metrics_app(), "/durable/metrics")
        assert status == 200
        for line in (
            'durable_executions_started_total{workflow="quiet"} 4',
            'durable_executions_ended_total{workflow="quiet",status="completed"} 3',
            'durable_executions_ended_total{workflow="quiet",status="failed"} 1',
            'durable_step_seconds_count{workflow="quiet",step="hum",outcome="completed"} 3',
            'durable_step_seconds_bucket{workflow="quiet",step="hum",outcome="failed",le="+Inf"} 1',
            'durable_slots{queue="default"} 7',
            'durable_queue_ready{queue="default"} 0',
            "durable_workers 1",
            "durable_up 1",
        ):
            assert line in text.splitlines()
        for line in text.splitlines():
            assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)*\})? [-+.\w]+', line), line
        assert (await get(engine.metrics_app(), "/nothing"))[0] == 404
        assert (await get(engine.metrics_app(), "/metrics", "POST"))[0] == 405
        assert (await get(engine.metrics_app(), "/metrics", "HEAD"))[1] == ""


async def test_how_long_what_is_claimed_was_ready_is_told_but_not_of_what_was_held(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    async with Durable(dsn, workflows=FLOWS, worker=False) as client:
        handles = [await client.start(quiet, {}, id=id) for id in ("ready", "held")]
    await connection.execute("update durable.ready set ready_at = ready_at - interval '1 hour'")
    await connection.execute(
        "update durable.ready set held_by = '{1}', hold_reason = 'no code' where execution_id = $1",
        handles[1].execution_id,
    )
    await connection.close()
    async with Durable(dsn, workflows=FLOWS) as engine:
        for handle in handles:
            await engine.handle(handle.id).result(20)
        _, text = await get(engine.metrics_app(), "/metrics")
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert figures['durable_executions_claimed_total{queue="default"}'] == "2"
    assert figures['durable_ready_seconds_count{queue="default"}'] == "1"
    assert 3600 <= float(figures['durable_ready_seconds_sum{queue="default"}']) < 7200
    assert figures['durable_ready_seconds_bucket{queue="default",le="300"}'] == "0"


async def test_how_many_have_failed_and_wait_is_told_by_workflow(dsn: str) -> None:
    async with Durable(dsn, workflows=[*FLOWS, naps]) as engine:
        for _ in range(2):
            with pytest.raises(ExecutionFailed):
                await (await engine.start(quiet, {"bad": True})).result(20)
        handle = await engine.start(naps, {})
        async with asyncio.timeout(20):
            while await handle.status() != "waiting":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        _, text = await get(engine.metrics_app(), "/metrics")
        await handle.cancel()
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("durable_workflow_"))
    assert told['durable_workflow_failed{workflow="quiet",status="failed"}'] == "2"
    assert told['durable_workflow_failed{workflow="naps",status="failed"}'] == "0"
    assert told['durable_workflow_waiting{workflow="naps"}'] == "1"
    assert sum(map(int, told.values())) == 3
    assert len(told) == 4 * 4


async def test_health_says_what_is_wrong(dsn: str) -> None:
    async with Durable(dsn, workflows=FLOWS) as engine:
        async with asyncio.timeout(20):
            while not (health := await engine.health()).ready or health.checks["notifications"] != "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert health.live
        assert set(health.checks.values()) == {"ok"}
        assert (await get(engine.metrics_app(), "/readyz"))[0] == 200
        supervisor = engine.parts().supervisor
        assert supervisor is not None
        supervisor._tasks[0].cancel()
        async with asyncio.timeout(20):
            while (health := await engine.health()).live:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert health.checks["loops"] == "ended: durable claimer"
        assert (await get(engine.metrics_app(), "/healthz"))[0] == 503
    async with Durable(dsn, workflows=FLOWS, worker=False) as client:
        assert (await client.health()).ready


async def test_a_worker_without_workflows_is_well(dsn: str) -> None:
    async with Durable(dsn) as engine:
        await asyncio.sleep(0.1)  # for what would end by itself
        assert (await engine.health()).checks["loops"] == "ok"


async def test_a_hook_is_told_of_a_failure_and_breaks_nothing(dsn: str) -> None:
    told: list[durable.ExecutionEvent] = []
    both = asyncio.Event()

    async def tell(event: durable.ExecutionEvent) -> None:
        told.append(event)
        if len(told) == 2:
            both.set()
        raise RuntimeError("the pager is broken")

    async with Durable(dsn, workflows=FLOWS, on_execution_failed=tell) as engine:
        for id in ("one", "two"):
            with pytest.raises(ExecutionFailed):
                await (await engine.start(quiet, {"bad": True}, id=id)).result(20)
        await (await engine.start(quiet, {})).result(20)
        async with asyncio.timeout(20):
            await both.wait()
    assert {(event.id, event.workflow, event.status) for event in told} == {
        ("one", "quiet", "failed"),
        ("two", "quiet", "failed"),
    }
    assert told[0].failure is not None
    assert told[0].failure.message == "bad"
    with pytest.raises(ConfigurationError, match="on_worker_lost is"):
        Durable(dsn, workflows=FLOWS, on_worker_lost=print)  # type: ignore[arg-type]
