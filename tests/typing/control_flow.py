# pyright: strict
"""What pyright strict and mypy strict must understand of nodes with blocks inside. Nothing here runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, assert_type

import durable
from durable import ArmResults, Context, Err, Goto, ItemResults, Ok, Retry, assign
from durable.authoring import BlockBuilder, BranchBuilder, ForeachBuilder, LoopBuilder, ParallelBuilder, Workflow
from durable.model.definition import Definition

Data = dict[str, Any]


class Verdict(Enum):
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass
class Expense:
    amount: int
    verdict: Verdict


@dataclass
class Paid:
    reference: str


async def tell(expense: Expense, ctx: Context) -> None: ...


expense = Workflow[Expense, Paid]("expense", on_failure=tell)
assert_type(expense, Workflow[Expense, Paid])
assert_type(expense.definition, Definition)


# --- builders and decorated functions --------------------------------------------------------------------------------

outcome = expense.branch("outcome", on=lambda data: data.verdict)
assert_type(outcome, BranchBuilder)
assert_type(outcome.case(Verdict.APPROVED), BlockBuilder)
assert_type(outcome.case(None, name="none"), BlockBuilder)
assert_type(outcome.otherwise, BlockBuilder)


@outcome.case("approved").step
async def process(data: Expense) -> Paid:
    return Paid(str(data.amount))


@outcome.otherwise.step(name="reject", retry=Retry(max_attempts=2))
def notify_rejection(data: Expense) -> None: ...


@expense.decision
async def check(data: Paid) -> Paid | Goto:
    return durable.Goto("outcome", data) if not data.reference else data


@expense.decision(max_visits=5, timeout=timedelta(seconds=3))
def check_again(data: Paid, ctx: Context) -> Goto | None:
    return Goto("outcome") if ctx.attempt > 1 else None


assert_type(notify_rejection(Expense(1, Verdict.APPROVED)), None)
as_awaitable: Callable[[Expense], Awaitable[Paid]] = process
as_decision: Callable[[Paid], Awaitable[Paid | Goto]] = check
as_function: Callable[[Paid, Context], Goto | None] = check_again


# --- parallel --------------------------------------------------------------------------------------------------------

dashboard = Workflow[Data, Data]("dashboard")
fetch = dashboard.parallel("fetch", merge="deep", on_error="fail_fast")
assert_type(fetch, ParallelBuilder)


@fetch.step
async def user(data: Data) -> Data:
    return assign(data, user=1)


@fetch.step(key="cart", compensate=tell, compensate_on="started")
async def fetch_cart(data: Data) -> Data:
    return data


shipping = fetch.arm("shipping", key="s")
assert_type(shipping, BlockBuilder)


@shipping.step
async def quote(data: Data) -> Data:
    return data


as_quote: Callable[[Data], Awaitable[Data]] = quote
as_user: Callable[[Data], Awaitable[Data]] = user
as_cart: Callable[[Data], Awaitable[Data]] = fetch_cart

dashboard.parallel(
    "lambda",
    on_error="complete_all",
    into=lambda data, results: assign(data, user=results.ok["user"], failed=list(results.errors)),
)
dashboard.parallel("short", into=lambda data: data)


def combine(data: Data, results: ArmResults) -> Data | Goto:
    one = results["user"]
    if isinstance(one, Err):
        return Goto("lambda", assign(data, why=one.error.message))
    assert_type(one, Ok[Any])
    return assign(data, user=one.value)


async def combine_later(data: Data, results: ArmResults) -> Data:
    return data


dashboard.parallel("function", into=combine)
dashboard.parallel("coroutine", into=combine_later)


# --- foreach ---------------------------------------------------------------------------------------------------------

campaign = Workflow[Data, Data]("campaign")
send_emails = campaign.foreach(
    "send_emails",
    items=lambda data: data["recipients"],
    concurrency=10,
    on_error="continue",
    tolerate=0.1,
    into=lambda data, results: assign(data, sent_count=len(results.ok), failed=[e.message for e in results.errors]),
)
assert_type(send_emails, ForeachBuilder)


@send_emails.step
async def send(data: Data, recipient: str, index: int) -> str:
    return recipient


as_send: Callable[[Data, str, int], Awaitable[str]] = send
send_emails.branch("kind", on=lambda data, recipient: recipient["kind"])
send_emails.foreach("parts", items=lambda data, recipient, index: [recipient, index])
send_emails.loop("retry", until=lambda data, recipient, index: index > 3)
campaign.foreach("collected", items=lambda data: [1, 2], collect_as="numbers")


def recipients(data: Data) -> list[str]:
    return []


async def recipients_later(data: Data, limit: int = 3) -> list[str]:
    return []


def summarize(data: Data, results: ItemResults) -> Data:
    return assign(data, ok=[result.value for result in results if isinstance(result, Ok)])


campaign.foreach("function", items=recipients, into=summarize)
campaign.foreach("coroutine", items=recipients_later)


# --- loop ------------------------------------------------------------------------------------------------------------

report = Workflow[Data, Data]("report")


def list_of(data: Data) -> list[int]:
    return []


poll = report.loop("poll", until=lambda data: data["ready"], max_iterations=100)
assert_type(poll, LoopBuilder)
assert_type(poll.loop("inner", until=lambda: True), LoopBuilder)
assert_type(
    poll.branch("b", on=lambda data: data["x"]).case(1).parallel("p").arm("a").foreach("f", items=list_of),
    ForeachBuilder,
)


# --- undoing ---------------------------------------------------------------------------------------------------------

trip = Workflow[Data, Data]("trip")


@trip.compensation(retry=Retry(max_attempts=5), timeout=timedelta(minutes=1), name="cancel", process=False)
async def cancel_hotel(data: Data) -> None: ...


@trip.compensation
def cancel_flight(data: Data, ctx: Context) -> None: ...


@trip.step(compensate=cancel_hotel)
async def book_hotel(data: Data) -> Data:
    return data


@trip.step(compensate=cancel_flight, compensate_on="started", process=True)
def book_flight(data: Data) -> Data:
    return data


as_undo: Callable[[Data], Awaitable[None]] = cancel_hotel
as_other: Callable[[Data, Context], None] = cancel_flight
assert_type(book_flight({}), Data)
