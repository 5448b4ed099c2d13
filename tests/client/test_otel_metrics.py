"""OpenTelemetry is told the figures that Prometheus reads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from durable import ConfigurationError, Durable, ExecutionFailed, Workflow
from durable.telemetry import figures, otel
from durable.telemetry.catalogue import CATALOGUE
from durable.telemetry.figures import WORKFLOWS_MAX, _by_workflow
from durable.telemetry.meter import BUCKETS, SERIES_MAX, Meter
from durable.telemetry.prometheus import written
from tests.support.invariants import assert_invariants

Data = dict[str, Any]
Points = dict[tuple[str, frozenset[tuple[str, str]]], Any]


def flow(name: str) -> Workflow[Data, Data]:
    """A workflow of its own for each test: the sums of a process are never taken back."""
    workflow = Workflow[Data, Data](name)

    @workflow.step
    async def work(data: Data) -> Data:
        if data.get("bad"):
            raise ValueError("bad")
        return data

    return workflow


@pytest.fixture(scope="module")
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics.set_meter_provider(provider)
    yield reader
    provider.shutdown()


@pytest.fixture
async def dsn(database: str, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(figures, "FRESH", 0.0)
    monkeypatch.setattr(otel, "TOGETHER", 0.0)
    yield database
    await assert_invariants(database)


def collected(reader: InMemoryMetricReader) -> Points:
    """All data points, by their name and attributes."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        (metric.name, frozenset((str(k), str(v)) for k, v in (point.attributes or {}).items())): point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "durable"
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def labelled(points: Points, name: str, **labels: str) -> Any:
    return points[name, frozenset((f"durable.{label}", value) for label, value in labels.items())]


async def test_opentelemetry_and_prometheus_are_told_the_same_figures(dsn: str, reader: InMemoryMetricReader) -> None:
    workflow = flow("told_to_both")
    async with Durable(
        dsn, workflows=[workflow], queues={"default": 7}, otel_metrics=True, capture_logs=None
    ) as engine:
        for _ in range(3):
            await (await engine.start(workflow, {})).result(20)
        with pytest.raises(ExecutionFailed):
            await (await engine.start(workflow, {"bad": True})).result(20)
        supervisor = engine.parts().supervisor
        assert supervisor is not None
        async with asyncio.timeout(20):
            while any(used for _, _, used in supervisor.slots()):  # noqa: ASYNC110 - the last one is still leaving
                await asyncio.sleep(0.01)
        points = await asyncio.to_thread(collected, reader)
        page = await engine.metrics_app().text()
    assert labelled(points, "durable.execution.ended", workflow="told_to_both", status="completed").value == 3
    assert labelled(points, "durable.slot.limit", queue="default").value == 7
    assert labelled(points, "durable.up").value == 1
    compared = set[str]()
    for family in text_string_to_metric_families(page):
        name = family.name if family.type != "counter" else f"{family.name}_total"
        for sample in family.samples:
            labels = {label: value for label, value in sample.labels.items() if label != "le"}
            point = labelled(points, CATALOGUE[name].otel, **labels)
            if isinstance(point, HistogramDataPoint):
                assert tuple(point.explicit_bounds) == BUCKETS
                if sample.name.endswith("_bucket"):
                    bounds = (*BUCKETS, float("inf"))
                    counts = zip(bounds, point.bucket_counts, strict=True)
                    assert sum(count for bound, count in counts if bound <= float(sample.labels["le"])) == sample.value
                else:
                    assert sample.value == (point.sum if sample.name.endswith("_sum") else point.count)
            elif name not in ("durable_writes_total", "durable_flushes_total"):  # sums of all tests
                assert point.value == sample.value, sample
            compared.add(name)
    rare = {"durable_workers_lost_total", "durable_executions_claimed_total", "durable_ready_seconds"}
    assert compared | rare == set(CATALOGUE)


async def test_engines_of_one_process_make_one_sum_which_outlives_them(dsn: str, reader: InMemoryMetricReader) -> None:
    workflow, same = flow("summed"), flow("summed")
    async with Durable(dsn, workflows=[workflow], queues={"sums": 2}, otel_metrics=True) as one:
        await one.start(workflow, {})
        async with Durable(dsn, workflows=[same], queues={"sums": 3}, otel_metrics=True) as two:
            await two.start(same, {})
            points = await asyncio.to_thread(collected, reader)
            assert labelled(points, "durable.execution.started", workflow="summed").value == 2
            assert labelled(points, "durable.slot.limit", queue="sums").value == 5
            assert labelled(points, "durable.worker.count").value == 2, "of the database, not of each engine"
    points = await asyncio.to_thread(collected, reader)
    assert labelled(points, "durable.execution.started", workflow="summed").value == 2
    assert "durable.slot.limit" not in {name for name, _ in points}


async def test_a_collection_on_the_engines_own_loop_waits_for_nothing(dsn: str, reader: InMemoryMetricReader) -> None:
    workflow = flow("on_the_loop")
    async with Durable(dsn, workflows=[workflow], otel_metrics=True) as engine:
        await engine.start(workflow, {})
        points = collected(reader)
        assert labelled(points, "durable.execution.started", workflow="on_the_loop").value == 1
        async with asyncio.timeout(20):
            while not any(name == "durable.up" for name, _ in collected(reader)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_an_engine_that_was_not_told_to_tells_nothing(dsn: str, reader: InMemoryMetricReader) -> None:
    workflow = flow("silent")
    async with Durable(dsn, workflows=[workflow]) as engine:
        await (await engine.start(workflow, {})).result(20)
        points = await asyncio.to_thread(collected, reader)
    assert not any(("durable.workflow", "silent") in attributes for _, attributes in points)


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    otel.metrics.cache_clear()
    with pytest.raises(ConfigurationError, match=r"otel_metrics=True needs OpenTelemetry.*opentelemetry-api"):
        Durable(otel_metrics=True)


def test_of_many_workflows_those_with_the_most_are_told_by_name_and_the_others_together() -> None:
    rows = [{"workflow": f"w{n}", "failed": [1000 - n, 0, 1], "waiting": 2} for n in range(WORKFLOWS_MAX + 3)]
    samples = list(_by_workflow(rows))  # type: ignore[arg-type]
    assert len(samples) == (WORKFLOWS_MAX + 1) * 4
    told = {(name, labels[0][1], labels[1][1] if len(labels) > 1 else ""): value for name, labels, value in samples}
    assert told["durable_workflow_failed", "w0", "failed"] == 1000
    assert told["durable_workflow_failed", "other", "failed"] == 900 + 899 + 898
    assert told["durable_workflow_failed", "other", "compensation_failed"] == 3
    assert told["durable_workflow_waiting", "other", ""] == 6


def test_labels_beyond_a_thousand_are_counted_under_other() -> None:
    meter = Meter()
    told: list[tuple[str, str]] = []
    meter.also = lambda _, labels, __: told.append(labels[0])
    for number in range(SERIES_MAX + 2):
        meter.count("durable_executions_started_total", (("workflow", f"w{number}"),))
        meter.observe("durable_step_seconds", (("workflow", f"w{number}"),), 0.1)
    meter.count("durable_executions_started_total", (("workflow", "w0"),))
    counted = {labels: value for _, labels, value in meter.counters()}
    assert len(counted) == SERIES_MAX + 1
    assert counted[(("workflow", "other"),)] == 2
    assert counted[(("workflow", "w0"),)] == 2
    assert told[-1] == ("workflow", "other")
    page = written(meter.counters(), meter.histograms())
    assert 'durable_step_seconds_count{workflow="other"} 2' in page.splitlines()
