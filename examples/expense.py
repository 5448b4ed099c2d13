"""Choosing the way: back to a step that has to be done again, and into one of several blocks.

    python -m examples.expense

A branch chooses by what the data says already. A decision is a step that works something out, and may send the execution to
another node of its block. Both are recorded: after a crash nobody chooses again.
"""

from __future__ import annotations

import asyncio
from enum import Enum

import msgspec

import durable
from durable import Durable, Goto, NonRetryable, Workflow, assign
from examples.services import email, scanner


class Verdict(Enum):
    APPROVED = "approved"
    REJECTED = "rejected"


class Expense(msgspec.Struct, frozen=True):
    employee: str
    receipt: str
    verdict: Verdict  # what the manager has said
    dpi: int = 150
    amount: int = 0  # cents
    certainty: float = 0.0
    outcome: str = ""


expenses = Workflow[Expense, Expense]("expense")


@expenses.step
async def scan(expense: Expense) -> Expense:
    amount, certainty = await scanner.read(expense.receipt, expense.dpi)
    return assign(expense, amount=amount, certainty=certainty)


@expenses.decision
async def legible(expense: Expense) -> Goto | None:
    if expense.certainty >= 0.9:
        return None  # go on, with the data as it is
    if expense.dpi >= 1200:
        raise NonRetryable("the receipt cannot be read")
    return Goto("scan", assign(expense, dpi=expense.dpi * 2))


def verdict(expense: Expense) -> Verdict:
    return expense.verdict


decided = expenses.branch("decided", on=verdict)


@decided.case(Verdict.APPROVED).step
async def reimburse(expense: Expense) -> Expense:
    return assign(expense, outcome=f"{expense.amount / 100:.2f} EUR are on their way")


@decided.case(Verdict.REJECTED).step
async def refuse(expense: Expense) -> Expense:
    return assign(expense, outcome="the manager has refused it")


@expenses.step
async def tell(expense: Expense) -> None:  # after whichever case it was
    await email.send(expense.employee, expense.outcome)


async def main() -> None:
    async with Durable(workflows=[expenses]):
        for said in Verdict:
            handle = await durable.start(expenses, Expense("ada@example.com", "taxi.jpg", said))
            print(f"{said.value}: {(await handle.result(timeout=60)).outcome}")
            execution = await durable.get_execution(handle.id, include_steps=True)
            print("    by way of", ", ".join(step.path for step in execution.steps or []))


if __name__ == "__main__":
    asyncio.run(main())
