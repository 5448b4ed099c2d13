"""A web service with a worker in it, as an application would have it. Run by uvicorn; the DSN is in DURABLE_DATABASE_URL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

import durable
from tests.support import flows
from tests.support.report import say

engine = durable.Durable(workflows=[flows])


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await flows.open_ledger(os.environ["DURABLE_DATABASE_URL"])
    async with engine.lifespan(app):
        say("ready")
        yield
    say("stopped")


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{order}", status_code=202)
async def order(order: str, data: dict[str, Any]) -> dict[str, Any]:
    """Start an execution; the answer acknowledges it."""
    handle = await durable.start(flows.three, data, id=order)
    return {"id": handle.id, "created": handle.created}
