"""People in the middle of a workflow: a manager approves an expense, or forgets it, and the workflow goes on all the same.

    python -m examples.approval

The question stands in an inbox, which any process can show; the answer is checked before it is taken.
"""

from __future__ import annotations

import asyncio
from typing import Any

import durable
from durable import Durable, InputRejected, Workflow, assign, seconds
from examples.services import email

Data = dict[str, Any]
THREE_DAYS = 3 * 24 * 3600  # seconds

approvals = Workflow[Data, Data]("expense_approval")


@approvals.step
async def request_approval(expense: Data) -> Data:
    decision = await durable.wait_for_approval(
        "manager",
        prompt=f"{expense['amount']} EUR for {expense['what']}?",
        metadata={"employee": expense["employee"]},
        timeout=seconds(expense.get("patience", THREE_DAYS)),
        timeout_value="forgotten",
    )
    return assign(expense, decision=decision)


outcome = approvals.branch("outcome", on=lambda expense: expense["decision"])


@outcome.case("approved").step
async def reimburse(expense: Data) -> Data:
    await email.send(expense["employee"], f"{expense['amount']} EUR are on their way")
    return assign(expense, status="reimbursed")


@outcome.otherwise.step
async def refuse(expense: Data) -> Data:
    await email.send(expense["employee"], f"Your expense was {expense['decision']}.")
    return assign(expense, status="refused")


async def main() -> None:
    expenses = [
        {"employee": "ada@example.com", "what": "a train to Lyon", "amount": 84},
        {"employee": "bob@example.com", "what": "a yacht", "amount": 900_000},
        {"employee": "eve@example.com", "what": "a lamp", "amount": 40},
    ]
    async with Durable(workflows=[approvals]):
        handles = [await durable.start(approvals, expense | {"patience": 1}) for expense in expenses]
        while len(inbox := (await durable.list_pending_inputs(workflow=approvals)).items) < len(expenses):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        answers = {"ada@example.com": "approved", "bob@example.com": "rejected"}  # nobody looks at Eve's
        for asked in inbox:
            if (answer := answers.get(asked.metadata["employee"])) is None:
                continue
            try:
                await durable.provide_input(asked.id, asked.name, "why not", by="the manager")
            except InputRejected as error:
                print(f"{asked.prompt} -- why not: {error.problems['']}")
            await durable.provide_input(asked.id, asked.name, answer, by="the manager")
        for handle in handles:
            ended = await handle.result(timeout=30)
            print(f"{ended['what']}: {ended['decision']}, {ended['status']}")


if __name__ == "__main__":
    asyncio.run(main())
