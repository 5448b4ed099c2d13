# pyright: strict
"""What pyright strict and mypy strict must understand of the authoring API. Nothing here runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, assert_type

from typing_extensions import TypeVar

from durable.authoring import Workflow, collect
from durable.model.definition import Definition
from durable.model.retry import Retry

Data = dict[str, Any]
In = TypeVar("In", default=Any)
Out = TypeVar("Out", default=Any)


@dataclass
class Order:
    id: str


@dataclass
class Express(Order):
    courier: str


@dataclass
class Receipt:
    total: int


class Handle(Generic[Out]):
    async def result(self) -> Out:
        raise NotImplementedError


async def start(workflow: Workflow[In, Out], data: In) -> Handle[Out]:
    """The signature that the client gives to starting a workflow."""
    raise NotImplementedError(workflow, data)


plain = Workflow("plain")
assert_type(plain, Workflow[Any, Any])

orders = Workflow[Order, Receipt]("orders", version=2, timeout=timedelta(hours=2), retry=Retry(max_attempts=3))
assert_type(orders, Workflow[Order, Receipt])
assert_type(orders.definition, Definition)

dicts = Workflow[Data, Data]("dicts", queue="slow", priority=5)


@orders.step
async def charge(order: Order) -> Receipt:
    return Receipt(len(order.id))


@orders.step(name="print it", retry=Retry(max_attempts=2), timeout=timedelta(seconds=5), process=True)
def print_receipt(receipt: Receipt, copies: int = 1) -> Receipt:
    return receipt


@orders.step()
def archive(receipt: Receipt) -> None: ...


named: Callable[[Receipt], Receipt] = orders.step(lambda receipt: receipt, name="same")
assert_type(print_receipt(Receipt(1), copies=2), Receipt)
as_awaitable: Callable[[Order], Awaitable[Receipt]] = charge


async def use() -> None:
    assert_type(await charge(Order("a")), Receipt)  # the decorator gives back the function itself
    assert_type(await start(orders, Order("a")), Handle[Receipt])
    assert_type(await (await start(orders, Order("a"))).result(), Receipt)
    assert_type(await start(orders, Express("a", "bike")), Handle[Receipt])
    assert_type(await start(dicts, {"id": "order-123", "items": [{"price": 1}]}), Handle[Data])
    assert_type(await start(plain, {"anything": 1}), Handle[Any])
    assert_type(collect([orders, dicts, plain]), dict[tuple[str, int], Workflow[Any, Any]])
