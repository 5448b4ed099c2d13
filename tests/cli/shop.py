"""The application that the tests of the command line use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import durable
from durable import Durable, Retry, Workflow, assign, days, hours, seconds

Data = dict[str, Any]

orders = Workflow[Data, Data]("process_order")


async def refund(order: Data) -> None: ...


@orders.step
async def calculate_total(order: Data) -> Data:
    return assign(order, total=sum(item["price"] for item in order["items"]))


@orders.step(retry=Retry(2, delay=seconds(0.01)), compensate=refund)
async def charge(order: Data) -> Data:
    if durable.context().attempt == 1:
        raise ConnectionError("the payment service is away")
    return order


@orders.step
async def approve(order: Data) -> Data:
    said = await durable.wait_for_approval("manager", prompt=f"Ship {order['id']}?", timeout=hours(1))
    return assign(order, decision=said)


@orders.step
async def ship(order: Data) -> Data:
    return assign(order, by=await durable.wait_for_event("shipped"))


listeners = Workflow[Data, Any]("listen")


@listeners.step
async def hear(data: Data) -> Any:
    return await durable.wait_for_event("news", match={"topic": data["topic"]})


quick = Workflow[int, int]("double")


@quick.step
async def double(number: int) -> int:
    logging.getLogger("shop").warning("doubling %d", number)
    return 2 * number


@dataclass
class Parcel:
    weight: int
    fragile: bool = False


parcels = Workflow[Parcel, int]("parcel", retention=days(7))


@parcels.step
async def weigh(parcel: Parcel) -> int:
    return parcel.weight


engine = Durable(workflows=[orders, listeners, quick, parcels])
