"""Waiting for the outside: a payment that a webhook confirms, refuses, or never mentions again.

    python -m examples.payment

The webhook may come before the workflow waits for it, twice, or while no worker runs. `examples.fastapi_app` has it as an
endpoint.
"""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Durable, Workflow, assign, seconds

Data = dict[str, Any]
A_WEEK = 7 * 24 * 3600  # seconds

payments = Workflow[Data, Data]("payment_flow")


@payments.step
async def create_order(order: Data) -> Data:
    return assign(order, payment_url=f"https://pay.example.com/{order['id']}")


@payments.step
async def await_payment(order: Data) -> Data:
    patience = seconds(order.get("patience", A_WEEK))
    event, details = await durable.wait_for_any(
        ["payment.success", "payment.failed"], timeout=patience, timeout_value=("payment.expired", None)
    )
    return assign(order, event=event, details=details)


paid = payments.branch("paid", on=lambda order: order["event"])


@paid.case("payment.success").step
async def fulfil(order: Data) -> Data:
    return assign(order, status="fulfilled", transaction=order["details"]["transaction"])


@paid.otherwise.step
async def cancel(order: Data) -> Data:
    return assign(order, status="cancelled")


async def webhook(id: str, event: str, delivery: str, **details: Any) -> None:
    """What the payment service calls, sometimes more than once: each delivery counts once."""
    sent = await durable.send_event(id, event, details, dedupe_key=delivery)
    print(f"{id}: {event} {'taken' if sent else 'known already'}")


async def main() -> None:
    async with Durable(workflows=[payments]):
        ids = ("order-1", "order-2", "order-3")
        handles = [await durable.start(payments, {"id": id, "patience": 0.5}, id=id) for id in ids]
        for _ in range(2):
            await webhook("order-1", "payment.success", "delivery-1", transaction="txn_123")
        await webhook("order-2", "payment.failed", "delivery-2", reason="card declined")
        for handle in handles:
            order = await handle.result(timeout=30)
            print(f"{order['id']}: {order['event']}, {order['status']}")


if __name__ == "__main__":
    asyncio.run(main())
