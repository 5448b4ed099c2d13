"""Metrics and health over HTTP: a small ASGI app, for any server and any framework to mount."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import msgspec

from durable.errors import DurableError
from durable.telemetry.figures import ANSWER_SECONDS
from durable.telemetry.prometheus import written

if TYPE_CHECKING:
    from durable.parts import Parts

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
        figures = self._parts().figures
        await figures.ask()
        return written([*figures.here(), *figures.known], figures.meter.histograms())
