"""Types all the way: what goes in, what passes between the steps, and what comes out.

    python -m examples.typed

The annotations are not only for the type checker. Neighbouring steps that do not fit are refused when the engine is
made, data that does not fit is refused before any body runs on it, and every value arrives as the type it left as,
because it goes through JSON between two steps even when nothing crashes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

import durable
from durable import Durable, Workflow


class Plan(Enum):
    MONTHLY = "monthly"
    YEARLY = "yearly"


class SignUp(msgspec.Struct, frozen=True):
    """What goes in: a msgspec.Struct. A Pydantic model or a TypedDict would do as well."""

    email: str
    plan: Plan
    began: datetime


@dataclass(frozen=True)
class Quote:
    """What passes from the first step to the second."""

    sign_up: SignUp
    net: Decimal


@dataclass(frozen=True)
class Invoice:
    """What comes out."""

    email: str
    gross: Decimal
    period: tuple[datetime, Plan]


invoicing = Workflow[SignUp, Invoice]("invoice")


@invoicing.step
async def price(sign_up: SignUp) -> Quote:
    return Quote(sign_up, Decimal("9.90") if sign_up.plan is Plan.MONTHLY else Decimal("99.00"))


@invoicing.step
def add_tax(quote: Quote) -> Invoice:  # a plain `def` runs in a thread
    gross = (quote.net * Decimal("1.19")).quantize(Decimal("0.01"))
    return Invoice(quote.sign_up.email, gross, (quote.sign_up.began, quote.sign_up.plan))


async def main() -> None:
    async with Durable(workflows=[invoicing]):
        # The type checker knows that start() wants a SignUp and that result() gives an Invoice.
        handle = await durable.start(invoicing, SignUp("ada@example.com", Plan.YEARLY, datetime.now(UTC)))
        invoice = await handle.result(timeout=60)
        print(f"{invoice.email} pays {invoice.gross} {invoice.period[1].value}, from {invoice.period[0]:%d %B %Y}")

        # Untyped callers exist. What does not fit is refused with the place and the reason.
        wrong: Any = {"email": "ada@example.com", "plan": "weekly", "began": "today"}
        try:
            await durable.start(invoicing, wrong)
        except durable.EncodeError as error:
            print(f"refused: {error}")


if __name__ == "__main__":
    asyncio.run(main())
