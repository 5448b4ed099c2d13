"""Every example file runs by itself, and says what it promises to show."""

from __future__ import annotations

import pytest

from durable import NonRetryable
from examples.orders import calculate_total, read_orders, validate
from tests.examples.processes import ROOT, run

SERVERS = {"fastapi_app", "aiohttp_app"}  # see test_web_apps
PARTS = {"__init__", "services", "demo_report", "demo"}  # not lessons; see test_demo
SHOWN = {
    "orders": ["order-1001 was started: 70.80 EUR paid by ch_order-1001", "order-1003 was started"],
    "retries": [
        "fair: the report, at try 1 of 5",
        "shaky: the report, at try 4 of 5",
        "busy: the report, at try 2 of 5",
        "hanging: the report, at try 2 of 5",
        "StepTimeout",
        "forbidden: given up. durable.errors.NonRetryable: 403",
    ],
    "dashboard": [
        "Hello Ada. You ordered order-1001, order-1007. For you: free delivery in London.",
        "recorded: fetch, fetch/orders, fetch/person/offers, fetch/person/profile, render",
    ],
    "campaign": [
        """24 of 25 were sent; failed: ["'reader-at-example.com' is no e-mail address"]""",
        "send_all[7]/send has failed after 1 try",
    ],
    "trip": [
        "are booked and paid\ntrip-2: compensated, because tok_visa_declined will not pay 640.00 EUR",
        "    book_hotel was undone by book_hotel/cancel_hotel: completed\n"
        "    book_flight was undone by book_flight/cancel_flight: completed\n",
    ],
    "expense": [
        "approved: 84.50 EUR are on their way",
        "by way of scan, legible, scan#2, legible#2, scan#3, legible#3, decided, decided/approved/reimburse, tell",
        "rejected: the manager has refused it",
    ],
    "approval": [
        """900000 EUR for a yacht? -- why not: must be one of "approved", "rejected", not "why not\"""",
        "a train to Lyon: approved, reimbursed\na yacht: rejected, refused\na lamp: forgotten, refused",
    ],
    "payment": [
        "order-1: payment.success taken\norder-1: payment.success known already\norder-2: payment.failed taken",
        "order-1: payment.success, fulfilled\norder-2: payment.failed, cancelled\norder-3: payment.expired, cancelled",
    ],
    "agent": [
        "The agent wants to refund: 40 EUR\nDone: refund(40 EUR): 40 EUR were paid back",
        "['model', 'look_up', 'look_up', 'model', 'refund', 'model']",
    ],
    "trial": [
        "trial of user-1 is waiting: it will go on by itself",
        "user-1 was asked to stay\nuser-2 stays\nslept in: wait_three_days, wait_until_the_trial_ends",
    ],
    "typed": ["ada@example.com pays 117.81 yearly", "refused: $.plan"],
}


def test_every_example_file_is_run_by_a_test() -> None:
    files = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert files == SERVERS | PARTS | SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
async def test_an_example_runs_and_shows_what_it_is_about(name: str, database: str) -> None:
    status, output = await run("-W", "error", "-m", f"examples.{name}", DURABLE_DATABASE_URL=database)
    assert status == 0, output
    for line in SHOWN[name]:
        assert line in output, output


async def test_orders_run_twice_start_nothing_and_give_the_same_results(database: str) -> None:
    _, first = await run("-m", "examples.orders", DURABLE_DATABASE_URL=database)
    _, second = await run("-m", "examples.orders", DURABLE_DATABASE_URL=database)
    assert second == first.replace("was started", "had been started before")


async def test_a_step_is_a_function_that_a_unit_test_can_call() -> None:
    order = read_orders()[0]
    data = await calculate_total(await validate(order))
    assert data["total"] == 990 + 3 * 1400 + 1890
    with pytest.raises(NonRetryable, match="no items"):
        await validate({**order, "items": []})
