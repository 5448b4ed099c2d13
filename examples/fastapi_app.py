"""A web shop with FastAPI: a request starts an order and is answered at once; the order goes on whatever happens.

    uvicorn examples.fastapi_app:app        (needs: pip install fastapi uvicorn)

    curl -X POST localhost:8000/orders -H 'content-type: application/json' \\
         -d '{"id": "order-1", "customer": {"name": "Ada", "email": "ada@example.com", "country": "GB"},
              "card": "tok_visa", "items": [{"sku": "MUG", "price": 1400, "quantity": 1}]}'
    curl 'localhost:8000/orders/order-1/result?timeout=10'
    curl -N localhost:8000/orders/order-1/events

A payment is confirmed by a webhook, an expense approved by a person:

    curl -X POST localhost:8000/payments/pay-1
    curl -X POST localhost:8000/webhooks/payment -H 'content-type: application/json' \
         -d '{"delivery": "d-1", "id": "pay-1", "event": "payment.success", "details": {"transaction": "txn_1"}}'
    curl -X POST localhost:8000/expenses/e-1 -H 'content-type: application/json' \
         -d '{"employee": "ada@example.com", "what": "a lamp", "amount": 40}'
    curl localhost:8000/inbox
    curl -X POST localhost:8000/expenses/e-1/approval -H 'content-type: application/json' \
         -d '{"decision": "approved", "by": "bob"}'

Start as many processes of it as you like: they share the work through the database, and any of them answers for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

import durable
from durable import Durable
from examples.approval import approvals
from examples.orders import orders
from examples.payment import payments


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


class Delivery(BaseModel):
    delivery: str = Field(description="the payment service repeats it until it is answered")
    id: str
    event: Literal["payment.success", "payment.failed"]
    details: dict[str, Any] = {}


class Expense(BaseModel):
    employee: str
    what: str
    amount: int


class Decision(BaseModel):
    decision: str
    by: str


engine = Durable(workflows=[orders, payments, approvals])
app = FastAPI(lifespan=engine.lifespan)
app.mount("/durable", engine.metrics_app())  # /durable/metrics, /durable/healthz, /durable/readyz


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


@app.get("/orders/{id}/events")
async def follow_order(id: str, last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
    """Server-sent events. A browser's EventSource that was cut off comes back with the last position that it has seen."""
    await durable.get_execution(id)  # an unknown one is refused before the stream begins

    async def stream() -> AsyncIterator[bytes]:
        async for event in engine.events(id, after=last_event_id):
            yield b"id: %b\nevent: %b\ndata: %b\n\n" % (
                event.position.encode(),
                event.kind.encode(),
                msgspec.json.encode(event),
            )

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.post("/payments/{id}", status_code=202)
async def start_payment(id: str) -> dict[str, Any]:
    handle = await durable.start(payments, {"id": id}, id=id)
    return {"id": handle.id, "created": handle.created}


@app.post("/webhooks/payment")
async def payment_webhook(delivery: Delivery) -> dict[str, Any]:
    sent = await durable.send_event(delivery.id, delivery.event, delivery.details, dedupe_key=delivery.delivery)
    return {"taken": sent}


@app.post("/expenses/{id}", status_code=202)
async def start_expense(id: str, expense: Expense) -> dict[str, Any]:
    handle = await durable.start(approvals, expense.model_dump(), id=id)
    return {"id": handle.id, "created": handle.created}


@app.get("/inbox")
async def inbox(cursor: str | None = None) -> dict[str, Any]:
    page = await durable.list_pending_inputs(cursor=cursor)
    return {"asked": [{"id": i.id, "name": i.name, "prompt": i.prompt} for i in page.items], "cursor": page.cursor}


@app.post("/expenses/{id}/approval")
async def approve_expense(id: str, decision: Decision) -> dict[str, Any]:
    await durable.provide_input(id, "manager", decision.decision, by=decision.by)
    return {"id": id, "decision": decision.decision}


CODES: dict[type[Exception], int] = {
    durable.UnknownExecution: 404,
    durable.IdConflict: 409,
    durable.NoPendingInput: 409,
    durable.ExecutionEnded: 410,
    durable.ExecutionCancelled: 410,
    durable.PayloadTooLarge: 413,
    durable.EncodeError: 422,
    durable.InputRejected: 422,
    durable.ExecutionFailed: 502,
    durable.StoreUnavailable: 503,
    TimeoutError: 504,  # not ended yet: ask again
}


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in CODES.items() if isinstance(error, kind))
    return JSONResponse({"error": type(error).__name__, "message": str(error)}, status)


for kind in CODES:
    app.add_exception_handler(kind, answer_error)
