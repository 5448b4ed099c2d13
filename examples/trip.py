"""A saga: a flight and a hotel are booked, the card is declined, and both bookings are given back.

    python -m examples.trip

What undoes a step is declared with it. Why the execution has failed is recorded before anything is undone, so that a
crash, a deadline or a second cancel in the middle of it changes nothing: whoever takes over goes on undoing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Context, Durable, ExecutionFailed, Retry, Workflow, assign
from examples.services import email, payments, travel

Data = dict[str, Any]


async def apologize(trip: Data, ctx: Context) -> None:  # runs last, on the input
    assert ctx.failure is not None
    await email.send(trip["email"], f"We could not book your trip: {ctx.failure.message}")


trips = Workflow[Data, Data]("book_trip", on_failure=apologize)


@trips.compensation(retry=Retry(max_attempts=10))  # undoing should be more patient than doing
async def cancel_flight(trip: Data) -> None:
    await travel.cancel(trip["flight"])


async def cancel_hotel(trip: Data) -> None:  # without options of its own it needs no decorator
    await travel.cancel(trip["hotel"])


@trips.step(compensate=cancel_flight)
async def book_flight(trip: Data) -> Data:
    return assign(trip, flight=await travel.book("flight", durable.context().idempotency_key))


@trips.step(compensate=cancel_hotel)
async def book_hotel(trip: Data) -> Data:
    return assign(trip, hotel=await travel.book("hotel", durable.context().idempotency_key))


@trips.step
async def charge(trip: Data) -> Data:
    key = durable.context().idempotency_key
    paid = await payments.charge(trip["id"], trip["price"], trip["card"], idempotency_key=key)
    return assign(trip, charge_id=paid.id)


async def main() -> None:
    async with Durable(workflows=[trips]):
        for id, card in (("trip-1", "tok_visa"), ("trip-2", "tok_visa_declined")):
            trip = {"id": id, "email": "ada@example.com", "price": 64000, "card": card}
            handle = await durable.start(trips, trip, id=id)
            try:
                booked = await handle.result(timeout=60)
                print(f"{id}: {booked['flight']} and {booked['hotel']} are booked and paid")
            except ExecutionFailed as failed:
                print(f"{id}: {failed.status}, because {failed.failure.message}")
            execution = await durable.get_execution(id, include_steps=True)
            for undone in execution.compensations:
                print(f"    {undone.compensates} was undone by {undone.path}: {undone.status}")


if __name__ == "__main__":
    asyncio.run(main())
