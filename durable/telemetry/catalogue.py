"""Which figures there are: how Prometheus and OpenTelemetry call each, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
Sample: TypeAlias = tuple[str, Labels, float]
"""A figure by its name for Prometheus, its labels, and its value."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`otel` and `unit` are its name and its unit (UCUM) for OpenTelemetry. `adds`: it is of one engine, so that those of
    several engines in a process make a sum; else all of them say the same of the database."""

    kind: Literal["counter", "gauge", "histogram"]
    text: str
    otel: str
    unit: str
    adds: bool = False


CATALOGUE = {
    "durable_executions_started_total": Figure(
        "counter", "Executions started by this process.", "durable.execution.started", "{execution}", adds=True
    ),
    "durable_executions_ended_total": Figure(
        "counter",
        "Executions whose end this process has written, by status.",
        "durable.execution.ended",
        "{execution}",
        adds=True,
    ),
    "durable_executions_claimed_total": Figure(
        "counter",
        "Times that this worker has taken an execution up.",
        "durable.execution.claimed",
        "{execution}",
        adds=True,
    ),
    "durable_ready_seconds": Figure(
        "histogram",
        "How long what this worker has claimed had been ready, by queue.",
        "durable.execution.ready.duration",
        "s",
    ),
    "durable_step_seconds": Figure(
        "histogram", "How long attempts of steps ran here, by outcome.", "durable.step.duration", "s"
    ),
    "durable_writes_total": Figure(
        "counter",
        "Rows that this process has written through the group commit.",
        "durable.write.rows",
        "{row}",
        adds=True,
    ),
    "durable_flushes_total": Figure(
        "counter", "Statements that they were written with.", "durable.write.flushes", "{flush}", adds=True
    ),
    "durable_workers_lost_total": Figure(
        "counter", "Dead workers that this worker has buried.", "durable.worker.lost", "{worker}", adds=True
    ),
    "durable_slots": Figure(
        "gauge", "Executions that this worker runs at most, by queue.", "durable.slot.limit", "{slot}", adds=True
    ),
    "durable_slots_used": Figure(
        "gauge", "Executions that this worker runs now, by queue.", "durable.slot.usage", "{slot}", adds=True
    ),
    "durable_queue_ready": Figure(
        "gauge",
        "Executions that are ready and wait for a slot, in all the database.",
        "durable.queue.ready",
        "{execution}",
    ),
    "durable_queue_held": Figure(
        "gauge",
        "Executions that are held: paused, or their code is missing.",
        "durable.queue.held",
        "{execution}",
    ),
    "durable_queue_running": Figure(
        "gauge", "Executions that workers run, in all the database.", "durable.queue.running", "{execution}"
    ),
    "durable_queue_oldest_seconds": Figure(
        "gauge", "For how long the oldest of what is ready has been so.", "durable.queue.oldest_age", "s"
    ),
    "durable_queue_paused": Figure("gauge", "1 while the queue is paused.", "durable.queue.paused", "1"),
    "durable_workflow_failed": Figure(
        "gauge",
        "Executions that are kept and have failed, by status; at most 10,000 are counted.",
        "durable.workflow.failed",
        "{execution}",
    ),
    "durable_workflow_waiting": Figure(
        "gauge",
        "Executions that sleep; about, where they are more than 10,000.",
        "durable.workflow.waiting",
        "{execution}",
    ),
    "durable_workers": Figure("gauge", "Workers whose lease holds.", "durable.worker.count", "{worker}"),
    "durable_waiting": Figure(
        "gauge",
        "Executions that sleep: until a time, an event, an answer.",
        "durable.execution.waiting",
        "{execution}",
    ),
    "durable_up": Figure("gauge", "1 while PostgreSQL answers this process.", "durable.up", "1"),
}
