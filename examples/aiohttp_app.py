"""The web shop of `examples.fastapi_app`, with aiohttp.

python -m examples.aiohttp_app [PORT]        (needs: pip install aiohttp)
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

import durable
from durable import Durable
from examples.orders import orders


class Order(msgspec.Struct):
    id: str  # chosen by the caller, who may safely send the same order again
    customer: dict[str, str]
    card: str
    items: list[dict[str, Any]]


engine = Durable(workflows=[orders])
routes = web.RouteTableDef()

CODES: dict[type[Exception], int] = {
    durable.UnknownExecution: 404,
    durable.IdConflict: 409,
    durable.ExecutionCancelled: 410,
    durable.PayloadTooLarge: 413,
    durable.EncodeError: 422,
    durable.ExecutionFailed: 502,
    durable.StoreUnavailable: 503,
    TimeoutError: 504,  # not ended yet: ask again
    msgspec.DecodeError: 400,
}


@routes.post("/orders")
async def start_order(request: web.Request) -> web.Response:
    order = msgspec.json.decode(await request.read(), type=Order)
    handle = await durable.start(orders, msgspec.to_builtins(order), id=order.id)
    return web.json_response({"id": handle.id, "created": handle.created}, status=202)


@routes.get("/orders/{id}")
async def show_order(request: web.Request) -> web.Response:
    execution = await durable.get_execution(request.match_info["id"], include_steps=True)
    steps = [{"step": s.path, "status": s.status, "attempts": len(s.attempts)} for s in execution.steps or []]
    return web.json_response({"id": execution.id, "status": execution.status, "steps": steps})


@routes.get("/orders/{id}/result")
async def await_result(request: web.Request) -> web.Response:
    id = request.match_info["id"]
    timeout = min(msgspec.convert(request.query.get("timeout", "10"), float, strict=False), 60)
    return web.json_response({"id": id, "result": await engine.handle(id, orders).result(timeout)})


@routes.delete("/orders/{id}")
async def cancel_order(request: web.Request) -> web.Response:
    id = request.match_info["id"]
    return web.json_response({"id": id, "cancelled": await durable.cancel(id, "by request")})


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except tuple(CODES) as error:
        status = next(code for kind, code in CODES.items() if isinstance(error, kind))
        return web.json_response({"error": type(error).__name__, "message": str(error)}, status=status)


def make_app() -> web.Application:
    app = web.Application(middlewares=[answer_errors])
    app.add_routes(routes)
    app.cleanup_ctx.append(engine.cleanup_ctx)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
