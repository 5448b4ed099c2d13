"""An order, from the click to the confirmation: four plain async functions, and a payment that is tried again.

    python -m examples.orders

Run it twice: the ids are the caller's, so the second run starts nothing and gets the results of the first. (It uses
DURABLE_DATABASE_URL if that is set, else an embedded PostgreSQL whose data stays in .durable/.)
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import durable
from durable import Durable, NonRetryable, Retry, Workflow, assign, hours
from examples.services import carrier, email, payments, stock

Data = dict[str, Any]

orders = Workflow[Data, Data]("process_order", timeout=hours(2))


@orders.step
async def validate(order: Data) -> Data:
    if not order["items"]:
        raise NonRetryable(f"order {order['id']} has no items")
    await stock.reserve(order["id"], order["items"])
    return {"order_id": order["id"], **{key: order[key] for key in ("customer", "card", "items")}}


@orders.step
async def calculate_total(data: Data) -> Data:
    delivery = await carrier.quote(data["order_id"], data["customer"]["country"])
    return assign(data, total=delivery + sum(item["price"] * item["quantity"] for item in data["items"]))


@orders.step(retry=Retry(max_attempts=3, backoff="exponential"))
async def charge_payment(data: Data) -> Data:
    # A worker may die after the money has moved and before that is recorded. The next one charges again, under the
    # same key, and the payment service knows it.
    key = durable.context().idempotency_key
    charge = await payments.charge(data["order_id"], data["total"], data["card"], idempotency_key=key)
    return assign(data, charge_id=charge.id)


@orders.step
async def send_confirmation(data: Data) -> None:  # returns None: the data goes on unchanged
    await email.send_confirmation(data["order_id"], data["customer"]["email"])


def read_orders() -> list[Data]:
    """What customers have ordered. Prices are in cents."""
    found: list[Data] = json.loads((Path(__file__).parent / "data" / "orders.json").read_text(encoding="utf-8"))
    return found


async def main() -> None:
    async with Durable(workflows=[orders]):
        handles = [await durable.start(orders, order, id=order["id"]) for order in read_orders()[:3]]
        for handle in handles:
            data = await handle.result(timeout=60)
            began = "was started" if handle.created else "had been started before"
            print(f"{handle.id} {began}: {data['total'] / 100:.2f} EUR paid by {data['charge_id']}")


if __name__ == "__main__":
    asyncio.run(main())
