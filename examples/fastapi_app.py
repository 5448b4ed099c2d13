"""A web shop with FastAPI: a request starts an order and is answered at once; the order goes on whatever happens.

    uvicorn examples.fastapi_app:app        (needs: pip install fastapi uvicorn)

    curl -X POST localhost:8000/orders -H 'content-type: application/json' \\
         -d '{"id": "order-1", "customer": {"name": "Ada", "email": "ada@example.com", "country": "GB"},
              "card": "tok_visa", "items": [{"sku": "MUG", "price": 1400, "quantity": 1}]}'
    curl 'localhost:8000/orders/order-1/result?timeout=10'

Start as many processes of it as you like: they share the work through the database, and any of them answers for all.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import durable
from durable import Durable
from examples.orders import orders


class Customer(BaseModel):
    name: str
    email: str
    country: str


class Item(BaseModel):
    sku: str
    price: int = Field(ge=0, description="in cents")
    quantity: int = Field(ge=1)


class Order(BaseModel):
    id: str = Field(min_length=1, description="chosen by the caller, who may safely send the same order again")
    customer: Customer
    card: str
    items: list[Item]


engine = Durable(workflows=[orders])
app = FastAPI(lifespan=engine.lifespan)


@app.post("/orders", status_code=202)
async def start_order(order: Order) -> dict[str, Any]:
    handle = await durable.start(orders, order.model_dump(), id=order.id)
    return {"id": handle.id, "created": handle.created}


@app.get("/orders/{id}")
async def show_order(id: str) -> dict[str, Any]:
    execution = await durable.get_execution(id, include_steps=True)
    steps = [{"step": s.path, "status": s.status, "attempts": len(s.attempts)} for s in execution.steps or []]
    return {"id": execution.id, "status": execution.status, "steps": steps}


@app.get("/orders/{id}/result")
async def await_result(id: str, timeout: Annotated[float, Query(gt=0, le=60)] = 10) -> dict[str, Any]:
    return {"id": id, "result": await engine.handle(id, orders).result(timeout)}


@app.delete("/orders/{id}")
async def cancel_order(id: str) -> dict[str, Any]:
    return {"id": id, "cancelled": await durable.cancel(id, "by request")}


CODES: dict[type[Exception], int] = {
    durable.UnknownExecution: 404,
    durable.IdConflict: 409,
    durable.ExecutionCancelled: 410,
    durable.PayloadTooLarge: 413,
    durable.EncodeError: 422,
    durable.ExecutionFailed: 502,
    durable.StoreUnavailable: 503,
    TimeoutError: 504,  # not ended yet: ask again
}


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in CODES.items() if isinstance(error, kind))
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status)


for kind in CODES:
    app.add_exception_handler(kind, answer_error)
