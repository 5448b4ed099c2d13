"""The world outside the examples: a stock room, a carrier, a payment service, a postman, a shop's records of its customers, a
travel agency and a scanner, all fakes. No lesson here.

They take a little while, as services do, and write down every call: when it came, from which process, for which order,
and when it was answered. `examples.demo` counts in that log what really happened, whatever the engine says of it.
The log and the charges are in the SQLite file that SHOP_LOG names, or in memory.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

TABLES = """
create table if not exists call (
    number integer primary key, service text, order_id text, caller text, answer text
);
create table if not exists charge (
    idempotency_key text primary key, charge_id text, order_id text, amount integer
);
"""


class ServiceBusy(Exception):
    """The service has no time now: the caller may try again."""


class CardDeclined(Exception):
    """The card will not pay, however often it is asked."""


class BadAddress(Exception):
    """No e-mail can go to that address."""


@dataclass(frozen=True)
class Charge:
    """Money taken. `repeated` is true when it had been taken before, under the same idempotency key."""

    id: str
    amount: int
    repeated: bool


def open_log(path: str) -> sqlite3.Connection:
    """The log in the file *path*; several processes may have it open."""
    log = sqlite3.connect(path, timeout=30, isolation_level=None)
    log.execute("pragma journal_mode = wal")
    log.execute("pragma synchronous = off")
    log.executescript(TABLES)
    return log


@functools.cache
def _log() -> sqlite3.Connection:
    return open_log(os.environ.get("SHOP_LOG", ":memory:"))


async def _take_time(seconds: float, order_id: str) -> None:
    """About *seconds*: less for some orders and more for others, always the same for one."""
    await asyncio.sleep(seconds * (0.5 + zlib.crc32(order_id.encode()) % 100 / 100))


@asynccontextmanager
async def _call(service: str, order_id: str) -> AsyncGenerator[None]:
    """Write a call down when it comes, and once more when it is answered."""
    caller = os.environ.get("WORKER_NAME", "this process")
    statement = "insert into call (service, order_id, caller) values (?, ?, ?)"
    number = _log().execute(statement, (service, order_id, caller)).lastrowid
    answer = "gone"
    try:
        yield
        answer = "ok"
    except Exception as error:
        answer = str(error)
        raise
    finally:
        _log().execute("update call set answer = ? where number = ?", (answer, number))


class Stock:
    """The stock room."""

    async def reserve(self, order_id: str, items: list[dict[str, Any]]) -> None:
        """Put *items* aside for the order."""
        async with _call("stock", order_id):
            await _take_time(0.2, order_id)


class Carrier:
    """The carrier."""

    async def quote(self, order_id: str, country: str) -> int:
        """What delivery to *country* costs, in cents."""
        async with _call("carrier", order_id):
            await _take_time(0.1, order_id)
            return 490 if country in {"DE", "NL", "FR"} else 990


class Payments:
    """The payment service. The same idempotency key is charged once, however often it is asked for.

    As with real ones, there are cards to test with: `..._busy_once` makes it refuse the first call, `..._slow` makes it
    take a minute, `..._declined` does not pay.
    """

    async def charge(self, order_id: str, amount: int, card: str, *, idempotency_key: str) -> Charge:
        """Take *amount* cents from *card*. Raises `ServiceBusy`, `CardDeclined`."""
        async with _call("payments", order_id):
            await _take_time(60 if card.endswith("_slow") else 0.15, order_id)
            if card.endswith("_busy_once") and self._calls(order_id) == 1:
                raise ServiceBusy("503 busy, try again")
            if card.endswith("_declined"):
                raise CardDeclined(f"{card} will not pay {amount / 100:.2f} EUR")
            row = (idempotency_key, f"ch_{order_id}", order_id, amount)
            taken = _log().execute("insert or ignore into charge values (?, ?, ?, ?)", row).rowcount == 1
            await _take_time(0.3, order_id)  # the money has moved, and the answer is still on its way
            return Charge(f"ch_{order_id}", amount, repeated=not taken)

    def _calls(self, order_id: str) -> int:
        counted = "select count(*) from call where service = 'payments' and order_id = ?"
        return int(_log().execute(counted, (order_id,)).fetchone()[0])


class Email:
    """The postman, who sends whatever he is given, as often as he is given it."""

    async def send_confirmation(self, order_id: str, address: str) -> None:
        """Tell the customer that the order is on its way."""
        async with _call("email", order_id):
            await _take_time(0.2, order_id)

    async def send(self, address: str, subject: str) -> None:
        """Send any e-mail. Raises `BadAddress`."""
        async with _call("email", f"{address}: {subject}"):
            await _take_time(0.1, address)
            if "@" not in address:
                raise BadAddress(f"{address!r} is no e-mail address")


class Customers:
    """What the shop knows of its customers."""

    async def profile(self, customer_id: str) -> dict[str, str]:
        """Who it is."""
        async with _call("profile", customer_id):
            await _take_time(0.2, customer_id)
            return {"name": "Ada", "city": "London"}

    async def orders(self, customer_id: str) -> list[str]:
        """What was ordered lately."""
        async with _call("order history", customer_id):
            await _take_time(0.3, customer_id)
            return ["order-1001", "order-1007"]

    async def offers(self, city: str) -> list[str]:
        """What is on offer in *city*."""
        async with _call("offers", city):
            await _take_time(0.1, city)
            return [f"free delivery in {city}"]


class Travel:
    """The travel agency. Booking or cancelling again under the same reference changes nothing."""

    async def book(self, what: str, reference: str) -> str:
        """Book a flight or a hotel; returns the booking's number."""
        async with _call(f"book {what}", reference):
            await _take_time(0.1, reference)
            return f"{what}-{zlib.crc32(reference.encode()) % 10_000:04}"

    async def cancel(self, booking: str) -> None:
        """Give a booking back."""
        async with _call("cancel", booking):
            await _take_time(0.1, booking)


class Scanner:
    """Reads receipts: badly at a low resolution, slowly at a high one."""

    async def read(self, receipt: str, dpi: int) -> tuple[int, float]:
        """The amount in cents, and how sure the scanner is of it, from 0 to 1."""
        async with _call("scanner", receipt):
            await _take_time(dpi / 3000, receipt)
            return 8450, min(dpi / 600, 1.0)


stock, carrier, payments, email = Stock(), Carrier(), Payments(), Email()
customers, travel, scanner = Customers(), Travel(), Scanner()
