"""Metrics and health over HTTP: a small ASGI app, for any server and any framework to mount."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import msgspec

from durable.errors import DurableError
from durable.telemetry.meter import Labels, written

if TYPE_CHECKING:
    from durable.parts import Parts

FRESH = 5.0  # seconds for which what the database said of its queues is said again
ANSWER_SECONDS = 2.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is. `live`: what it does by itself goes on; if not, restart the process. `ready`: it would serve what
    comes now. `checks` says what is wrong, by what was looked at; "ok" is well."""

    live: bool
    ready: bool
    checks: dict[str, str]


async def health_of(parts: Parts) -> Health:
    """Ask an engine how it is; PostgreSQL gets two seconds to answer."""
    supervisor = parts.supervisor
    dead = [] if supervisor is None else supervisor.dead_loops()
    checks = {"loops": "ok" if not dead else f"ended: {', '.join(dead)}"}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await parts.executions.fetch("queue/limits")
        checks["database"] = "ok"
    except (TimeoutError, DurableError):
        checks["database"] = f"no answer within {ANSWER_SECONDS:.0f} s"
    # It goes on without notifications, only later: no reason to take it out of service.
    notifications = "ok" if parts.listener.healthy else "none come; everything is found by polling"
    if supervisor is not None:
        checks["lease"] = "ok" if supervisor.well else "it does not hold, or is about to lapse"
        checks["draining"] = "ok" if not supervisor.draining else "this worker ends"
    ready = all(check == "ok" for check in checks.values())
    return Health(live=not dead, ready=ready, checks=checks | {"notifications": notifications})


class Page:
    """``/metrics``, ``/healthz`` (200 while it is live) and ``/readyz`` (200 while it is ready), below wherever it is
    mounted."""

    def __init__(self, parts: Callable[[], Parts]) -> None:
        self._parts = parts
        self._known: list[tuple[str, Labels, float]] = []
        self._asked_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the metrics are for HTTP, not for {scope['type']!r}")
        path = scope["path"].rstrip("/").rpartition("/")[2]
        kind = "application/json"
        if scope["method"] not in ("GET", "HEAD"):
            status, body = 405, b'{"error":"GET only"}'
        elif path == "metrics":
            status, body, kind = 200, (await self.text()).encode(), "text/plain; version=0.0.4; charset=utf-8"
        elif path in ("healthz", "readyz"):
            health = await health_of(self._parts())
            status = 200 if (health.live if path == "healthz" else health.ready) else 503
            body = msgspec.json.encode(health)
        else:
            status, body = 404, b'{"error":"there are /metrics, /healthz and /readyz"}'
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def text(self) -> str:
        """The metrics as Prometheus reads them: of this process, and of the database's queues, asked for every few seconds."""
        parts = self._parts()
        if time.monotonic() - self._asked_at > FRESH:
            self._asked_at = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    self._known = [("durable_up", (), 1.0), *await _of_the_database(parts)]
            except (TimeoutError, DurableError):
                self._known = [("durable_up", (), 0.0)]
        rows, flushes = parts.commit.written
        own: list[tuple[str, Labels, float]] = [
            ("durable_writes_total", (), rows),
            ("durable_flushes_total", (), flushes),
        ]
        if parts.supervisor is not None:
            own += _of_lanes(parts)
        return written([*parts.meter.samples(), *own, *self._known])


def _of_lanes(parts: Parts) -> Iterator[tuple[str, Labels, float]]:
    assert parts.supervisor is not None
    for queue, most, used in parts.supervisor.slots():
        yield "durable_slots", (("queue", queue),), most
        yield "durable_slots_used", (("queue", queue),), used


async def _of_the_database(parts: Parts) -> list[tuple[str, Labels, float]]:
    samples: list[tuple[str, Labels, float]] = []
    for row in await parts.executions.fetch("queue/list"):
        label: Labels = (("queue", row["queue"]),)
        samples += [
            ("durable_queue_ready", label, row["ready"]),
            ("durable_queue_held", label, row["held"]),
            ("durable_queue_running", label, row["running"]),
            ("durable_queue_oldest_seconds", label, max(row["oldest_seconds"] or 0.0, 0.0)),
            ("durable_queue_paused", label, row["paused"]),
        ]
    workers = await parts.executions.fetch("worker/list")
    samples.append(("durable_workers", (), sum(row["lease_in"] > 0 and not row["dead"] for row in workers)))
    samples.append(("durable_waiting", (), (await parts.executions.fetch("wake/count"))[0]["n"]))
    return samples
