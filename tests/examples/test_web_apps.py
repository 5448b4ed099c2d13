"""The FastAPI and the aiohttp example answer alike, each in a server process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from durable import Durable, Workflow
from tests.examples.processes import Server, serving

APPS = {
    "fastapi": ("-m", "uvicorn", "examples.fastapi_app:app", "--port", "0"),
    "aiohttp": ("-m", "examples.aiohttp_app", "0"),
}
STEPS = ["validate", "calculate_total", "charge_payment", "send_confirmation"]


def an_order(id: str, **changes: Any) -> dict[str, Any]:
    customer = {"name": "Ada", "email": "ada@example.com", "country": "DE"}
    items = [{"sku": "MUG", "price": 1400, "quantity": 2}]
    return {"id": id, "customer": customer, "card": "tok_visa", "items": items, **changes}


@pytest.fixture(params=APPS)
async def server(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Server]:
    async with serving(*APPS[request.param], database=database) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


async def test_an_order_is_accepted_at_once_and_its_result_can_be_awaited(http: httpx.AsyncClient) -> None:
    accepted = await http.post("/orders", json=an_order("order-1", card="tok_visa_busy_once"))
    assert (accepted.status_code, accepted.json()) == (202, {"id": "order-1", "created": True})

    awaited = await http.get("/orders/order-1/result", params={"timeout": 50})
    assert awaited.status_code == 200
    assert awaited.json()["result"]["total"] == 490 + 2 * 1400

    shown = (await http.get("/orders/order-1")).json()
    assert shown["status"] == "completed"
    assert [(step["step"], step["status"]) for step in shown["steps"]] == [(step, "completed") for step in STEPS]
    assert [step["attempts"] for step in shown["steps"]] == [1, 1, 2, 1]


async def test_the_same_order_sent_twice_is_one_order(http: httpx.AsyncClient) -> None:
    first = await http.post("/orders", json=an_order("order-1", card="tok_visa_slow"))
    again = await http.post("/orders", json=an_order("order-1"))
    assert [first.json()["created"], again.json()["created"]] == [True, False]
    assert again.status_code == 202


async def test_a_cancelled_order_is_gone_and_cancelling_again_changes_nothing(http: httpx.AsyncClient) -> None:
    await http.post("/orders", json=an_order("order-1", card="tok_visa_slow"))
    cancelled = await http.delete("/orders/order-1")
    assert (cancelled.status_code, cancelled.json()) == (200, {"id": "order-1", "cancelled": True})
    assert (await http.delete("/orders/order-1")).json()["cancelled"] is False
    assert (await http.get("/orders/order-1")).json()["status"] == "cancelled"
    gone = await http.get("/orders/order-1/result")
    assert (gone.status_code, gone.json()["error"]) == (410, "ExecutionCancelled")


async def test_a_result_that_is_not_there_in_time_is_a_504_and_the_order_goes_on(http: httpx.AsyncClient) -> None:
    await http.post("/orders", json=an_order("order-1", card="tok_visa_slow"))
    late = await http.get("/orders/order-1/result", params={"timeout": 0.1})
    assert (late.status_code, late.json()["error"]) == (504, "TimeoutError")
    assert (await http.get("/orders/order-1")).json()["status"] == "running"


async def test_an_order_that_fails_tells_its_error(http: httpx.AsyncClient) -> None:
    await http.post("/orders", json=an_order("order-1", items=[]))
    failed = await http.get("/orders/order-1/result", params={"timeout": 50})
    assert (failed.status_code, failed.json()["error"]) == (502, "ExecutionFailed")
    assert "order order-1 has no items" in failed.json()["message"]
    assert "Traceback" not in failed.text


async def test_metrics_and_health_are_served_beside_the_application(database: str) -> None:
    async with (
        serving(*APPS["fastapi"], database=database) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        await http.post("/orders", json=an_order("order-1"))
        assert (await http.get("/orders/order-1/result", params={"timeout": 50})).status_code == 200
        answer = await http.get("/durable/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        assert families["durable_up"].samples[0].value == 1
        assert families["durable_executions_ended"].samples[0].labels == {
            "workflow": "process_order",
            "status": "completed",
        }
        buckets = [s for s in families["durable_step_seconds"].samples if s.labels.get("le") == "+Inf"]
        assert {s.labels["step"] for s in buckets} == set(STEPS)
        for page in ("healthz", "readyz"):
            health = await http.get(f"/durable/{page}")
            assert (health.status_code, health.json()["checks"]["database"]) == (200, "ok")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/orders/none"), ("GET", "/orders/none/result"), ("DELETE", "/orders/none")]
)
async def test_an_unknown_order_is_a_404(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (404, "UnknownExecution")


async def test_an_id_of_another_workflow_is_a_409(http: httpx.AsyncClient, database: str) -> None:
    refunds = Workflow[Any, Any]("refunds", queue="nobody serves this")

    @refunds.step
    async def refund(data: Any) -> None: ...

    async with Durable(database, workflows=[refunds], worker=False) as client:
        await client.start(refunds, {}, id="order-1")
    answer = await http.post("/orders", json=an_order("order-1"))
    assert (answer.status_code, answer.json()["error"]) == (409, "IdConflict")


async def test_an_order_that_is_too_large_is_a_413(http: httpx.AsyncClient) -> None:
    answer = await http.post("/orders", json=an_order("order-1", card="x" * (1 << 20)))
    assert answer.status_code == 413


@pytest.mark.parametrize("content", ["not json", "[]", "{}"])
async def test_what_is_no_order_is_refused(http: httpx.AsyncClient, content: str) -> None:
    answer = await http.post("/orders", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


async def test_a_timeout_that_is_no_number_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get("/orders/order-1/result", params={"timeout": "soon"})
    assert answer.status_code in (400, 422)


async def test_an_order_outlives_the_server_that_accepted_it(database: str) -> None:
    command = APPS["fastapi"]
    async with serving(*command, database=database) as first:
        async with httpx.AsyncClient(base_url=first.url) as http:
            await http.post("/orders", json=an_order("order-1"))
        await first.kill()
    async with (
        serving(*command, database=database) as second,
        httpx.AsyncClient(base_url=second.url, timeout=60) as http,
    ):
        awaited = await http.get("/orders/order-1/result", params={"timeout": 50})
        assert awaited.status_code == 200, awaited.text
        assert awaited.json()["result"]["charge_id"] == "ch_order-1"


async def test_fastapi_takes_webhooks_and_approvals_and_streams_progress(database: str) -> None:
    async with (
        serving(*APPS["fastapi"], database=database) as server,
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
    ):
        await http.post("/payments/pay-1")
        delivery = {"delivery": "d-1", "id": "pay-1", "event": "payment.success", "details": {"transaction": "txn_1"}}
        taken = [(await http.post("/webhooks/payment", json=delivery)).json() for _ in range(2)]
        assert taken == [{"taken": True}, {"taken": False}]
        paid = await events_of(http, "pay-1")
        assert paid[-1] == ("ended", "completed")
        assert ("completed", "paid/payment.success/fulfil") in paid

        expense = {"employee": "ada@example.com", "what": "a lamp", "amount": 40}
        await http.post("/expenses/e-1", json=expense)
        async with asyncio.timeout(60):
            while not (asked := (await http.get("/inbox")).json()["asked"]):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        assert asked == [{"id": "e-1", "name": "manager", "prompt": "40 EUR for a lamp?"}]
        wrong = await http.post("/expenses/e-1/approval", json={"decision": "maybe", "by": "bob"})
        assert (wrong.status_code, wrong.json()["error"]) == (422, "InputRejected")
        assert (
            await http.post("/expenses/e-1/approval", json={"decision": "approved", "by": "bob"})
        ).status_code == 200
        assert ("completed", "outcome/approved/reimburse") in await events_of(http, "e-1")
        late = await http.post("/expenses/e-1/approval", json={"decision": "approved", "by": "bob"})
        assert late.status_code == 410
        assert (await http.get("/orders/nobody/events")).status_code == 404


async def events_of(http: httpx.AsyncClient, id: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with http.stream("GET", f"/orders/{id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                found.append((event["kind"], event["message"] if event["kind"] == "ended" else event["path"]))
    return found
