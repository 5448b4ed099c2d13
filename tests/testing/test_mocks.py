"""Mocks: only the body is exchanged. What goes in and out, and what follows from a failure, stays as it is."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from msgspec import Struct

from durable import Context, Goto, Retry, Status, UsageError, Workflow, hours, seconds
from durable.testing import crash_everywhere, run


class Order(Struct):
    id: str
    cents: int


def never(data: Any) -> Any:
    raise AssertionError("the body of a mocked step was called")


def shop(**options: Any) -> Workflow[Order, Order]:
    """A single step, which must not run."""
    workflow = Workflow[Order, Order]("shop")

    @workflow.step(**options)
    async def charge(order: Order) -> Order:
        return never(order)

    return workflow


ORDER = Order("1", 100)


async def test_a_value_is_returned_in_place_of_the_body() -> None:
    ended = await run(shop(), ORDER, mocks={"charge": Order("1", 90)})
    assert ended.result == Order("1", 90)
    assert ended.calls == {"charge": 1}


async def test_a_none_leaves_the_data_as_it_is() -> None:
    assert (await run(shop(), ORDER, mocks={"charge": None})).result == ORDER


async def test_an_async_function_gets_the_data_decoded_as_the_step_takes_it() -> None:
    async def charge(data: Any) -> Order:
        assert type(data) is Order
        return Order(data.id, data.cents + 1)

    assert (await run(shop(), ORDER, mocks={"charge": charge})).result == Order("1", 101)


@pytest.mark.parametrize("process", [False, True])
async def test_a_plain_function_may_stand_in_for_any_step(process: bool) -> None:
    workflow = Workflow[int, int]("plain")
    workflow.step(name="never", process=process)(never)
    assert (await run(workflow, 1, mocks={"never": lambda data: data + 1})).result == 2


async def test_a_function_gets_the_context_if_it_asks_for_it() -> None:
    async def charge(step: Context, *, more: int = 1) -> Order:
        return Order(step.idempotency_key, more)

    assert (await run(shop(), ORDER, mocks={"charge": charge})).result == Order("memory:charge", 1)


@pytest.mark.parametrize("kind", [AsyncMock, Mock])
async def test_a_mock_of_the_standard_library_is_called_like_the_body(kind: type[Mock]) -> None:
    mock = kind(return_value=Order("mocked", 0))
    assert (await run(shop(), ORDER, mocks={"charge": mock})).result == Order("mocked", 0)
    mock.assert_called_once_with(ORDER)


@pytest.mark.parametrize("error", [ConnectionError("no bank"), ConnectionError])
async def test_an_exception_is_raised_and_retried_in_virtual_time(error: Any) -> None:
    ended = await run(shop(retry=Retry(3, delay=hours(1))), ORDER, mocks={"charge": error})
    assert (ended.status, ended.failure and ended.failure.type) == (Status.FAILED, "builtins.ConnectionError")
    assert ended.calls == {"charge": 3}
    assert ended.seconds > 3600  # two hours, less the jitter


async def test_the_timeout_of_the_step_counts_for_its_mock() -> None:
    async def charge() -> None:
        await asyncio.Event().wait()

    ended = await run(shop(timeout=seconds(0.01)), ORDER, mocks={"charge": charge})
    assert ended.failure is not None
    assert ended.failure.type == "durable.errors.StepTimeout"


@pytest.mark.parametrize("mock", [{"id": 1}, lambda: {"id": 1}], ids=["value", "function"])
async def test_a_result_that_is_not_what_the_step_promises_fails_the_step(mock: Any) -> None:
    ended = await run(shop(), ORDER, mocks={"charge": mock})
    assert ended.failure is not None
    assert "the result of step 'charge' cannot be stored" in ended.failure.message


@pytest.mark.parametrize("mock", [None, lambda: None], ids=["value", "function"])
async def test_data_that_does_not_fit_the_step_fails_it_though_its_mock_takes_none(mock: Any) -> None:
    workflow: Workflow[Any, Any] = Workflow("unfit")

    @workflow.step
    async def charge(order: Order) -> None:
        never(order)

    ended = await run(workflow, {"id": 1}, mocks={"charge": mock})
    assert ended.failure is not None
    assert "the data does not fit what step 'charge' takes" in ended.failure.message


def nested() -> Workflow[Any, Any]:
    """A step ``get`` in every kind of place."""
    workflow: Workflow[Any, Any] = Workflow("nested")
    both = workflow.parallel("both")
    both.step(name="get")(never)
    arm = both.arm("arm")
    arm.step(name="get")(never)
    kind = workflow.branch("kind", on=lambda data: True)
    kind.case(True).step(name="get")(never)
    kind.otherwise.step(name="get")(never)
    workflow.foreach("each", items=lambda data: [5, 6]).step(name="get")(never)
    workflow.loop("again", until=lambda data: True).step(name="get")(never)
    workflow.decision(name="decide")(never)
    return workflow


async def test_a_name_means_every_step_of_this_name_wherever_it_stands() -> None:
    ended = await run(nested(), {}, mocks={"get": None, "decide": None})
    assert ended.status is Status.COMPLETED, ended.failure
    paths = ["both/get", "both/arm/get", "kind/true/get", "each[0]/get", "each[1]/get", "again[0]/get", "decide"]
    assert ended.calls == dict.fromkeys(paths, 1)


async def test_a_path_means_the_step_there_alone() -> None:
    paths = ["both/get", "both/arm/get", "kind/true/get", "each/get", "again/get", "decide"]
    ended = await run(nested(), {}, mocks=dict.fromkeys(paths))
    assert ended.status is Status.COMPLETED, ended.failure
    for left_out in paths:
        ended = await run(nested(), {}, mocks=dict.fromkeys(path for path in paths if path != left_out))
        assert ended.failure is not None
        assert ended.failure.message == "the body of a mocked step was called"


async def test_a_key_that_is_a_path_does_not_reach_steps_of_that_name_elsewhere() -> None:
    workflow: Workflow[Any, Any] = Workflow("same")
    workflow.step(name="get")(never)
    workflow.loop("again", until=lambda data: True).step(name="get")(lambda data: [*data, "inside"])
    assert (await run(workflow, [], mocks={"get": ["outside"]})).result == ["outside", "inside"]


async def test_a_function_gets_the_item_and_its_index_inside_a_foreach() -> None:
    workflow: Workflow[Any, Any] = Workflow("items")
    each = workflow.foreach("each", items=lambda data: ["a", "b"], collect_as="found")
    each.step(name="get")(never)
    ended = await run(workflow, {}, mocks={"get": lambda data, item, index: [item, index]})
    assert ended.result == {"found": [["a", 0], ["b", 1]]}


async def test_compensations_and_on_failure_can_be_mocked() -> None:
    seen: list[str] = []

    async def notify(order: Any) -> None:
        never(order)

    def refund(order: Any) -> None:
        never(order)

    workflow: Workflow[Any, Any] = Workflow("saga", on_failure=notify)
    workflow.step(name="charge", compensate=refund)(never)
    workflow.step(name="ship")(never)
    mocks = {"charge": 1, "ship": OSError, "charge/refund": lambda: seen.append("refund")}
    ended = await run(workflow, 0, mocks={**mocks, "notify": lambda: seen.append("notify")})
    assert ended.status is Status.COMPENSATED
    assert seen == ["refund", "notify"]


async def test_the_mock_of_a_decision_may_return_a_goto() -> None:
    workflow: Workflow[Any, Any] = Workflow("goto")
    workflow.decision(name="decide")(never)
    workflow.step(name="skipped")(never)
    workflow.step(name="last")(lambda data: data)
    ended = await run(workflow, 1, mocks={"decide": Goto("last")})
    assert ended.calls == {"decide": 1, "last": 1}


async def test_a_mock_of_a_step_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    for start in (run, crash_everywhere):
        with pytest.raises(UsageError, match=r'"nested" has no step \'both\', \'gte\'.*\'both/arm/get\', \'both/get\''):
            await start(nested(), {}, mocks={"both": 1, "gte": 1})


async def test_mocks_leave_the_workflow_as_it_was() -> None:
    workflow = shop()
    before = workflow.definition
    await run(workflow, ORDER, mocks={"charge": None})
    assert workflow.definition is before
    ended = await run(workflow, ORDER)
    assert ended.failure is not None
    assert ended.failure.message == "the body of a mocked step was called"


async def test_a_mocked_workflow_can_be_crashed_everywhere() -> None:
    report = await crash_everywhere(nested(), {}, mocks={"get": None, "decide": None}, second_crashes=5)
    assert report.uninterrupted.status is Status.COMPLETED
    assert report.runs > 10
