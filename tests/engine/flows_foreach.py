"""Foreachs, and how each workflow must end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from durable import Err, Goto, ItemResults, Ok, Retry, Workflow, context, days, hours, seconds
from tests.engine.cases import case, fail_until, fails, same, silent

Flow = Workflow[Any, Any]
FAR = Retry(3, backoff="constant", delay=hours(1))


def picky(bad: int) -> Any:
    """A body that fails on every item that *bad* divides."""

    async def check(data: Any, item: int) -> int:
        if item % bad == 0:
            raise ValueError(f"item {item}")
        return item * 10

    return check


def errors_and_values(data: Any, results: ItemResults) -> Any:
    return [[result.value if isinstance(result, Ok) else None for result in results], len(results.errors)]


@case({"n": 4}, result={"n": 4, "all": [0, 2, 4, 6]}, calls={f"each[{n}]/double": 1 for n in range(4)})
def items_one_after_the_other(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: list(range(data["n"])), collect_as="all")

    @each.step
    async def double(data: dict[str, int], item: int, index: int) -> int:
        assert data == {"n": 4}
        assert item == index
        return item * 2


@case({"n": 7}, result={"n": 7, "all": [[n, n] for n in range(7)]}, calls={f"each[{n}]/second": 1 for n in range(7)})
def items_three_at_a_time(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: list(range(data["n"])), concurrency=3, collect_as="all")

    @each.step
    async def first(data: Any, item: int) -> int:
        for _ in range(item % 3):  # they finish in another order than they began in
            await asyncio.sleep(0)
        return item

    @each.step
    async def second(data: int, item: int, index: int) -> list[int]:
        return [data, index]


@case(12, result=[[n * n for n in range(12)], 0], calls={f"each[{n}]/square": 1 for n in range(12)})
def more_slots_than_items(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: list(range(data)), concurrency=50, into=errors_and_values)
    each.step(name="square")(lambda data, item: item * item)


@case({"n": 0}, result={"n": 0, "all": []}, calls={"never": 0})
def no_items(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [], concurrency=3, collect_as="all")
    each.step(name="never")(silent)


@case(1, result=1, calls={"each[0]/look": 1, "each[1]/look": 1})
def results_that_nobody_collects(w: Flow) -> None:
    each = w.foreach("each", items=lambda: ["a", "b"])
    each.step(name="look")(lambda data, item: item)


@case([], result=[[None, None, 2], 0], calls={"each[0]/look": 1})
def items_without_a_result(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1, 2], concurrency=2, into=errors_and_values)

    @each.step
    async def look(data: Any, item: int) -> int | None:
        return item if item == 2 else None


@case([], result=[[None, None], 0])
def the_last_step_of_an_item_returns_nothing(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1], into=errors_and_values)
    each.step(name="first")(lambda: 5)
    each.step(name="last")(silent)


class Line(msgspec.Struct):
    price: Decimal
    pieces: int


@case([Line(Decimal("1.10"), 2), Line(Decimal("0.50"), 4)], of=Workflow[list[Line], Decimal], result=Decimal("4.20"))
def typed_items_and_results(w: Flow) -> None:
    def lines(data: list[Line]) -> list[Line]:
        return data

    def total(data: list[Line], results: ItemResults) -> Decimal:
        assert all(type(value) is Decimal for value in results.ok)
        return sum(results.ok, Decimal(0))

    each = w.foreach("each", items=lines, concurrency=2, into=total)

    @each.step
    async def price(data: list[Line], line: Line) -> Decimal:
        return line.price * line.pieces


@case({}, error="builtins.TypeError", message="items() returned str. Return a list")
def items_that_are_no_list(w: Flow) -> None:
    w.foreach("each", items=lambda: "abc").step(name="never")(silent)


@case({}, error="builtins.KeyError", message="orders")
def items_that_fail(w: Flow) -> None:
    w.foreach("each", items=lambda data: data["orders"], concurrency=3).step(name="never")(silent)


@case({"n": 3}, result={"n": 3, "all": [0, 1, 2]})
def items_of_any_iterable(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: (n for n in range(data["n"])), collect_as="all")
    each.step(name="look")(lambda data, item: item)


@case([3, 1], result=[[6, 2], 0])
def items_annotated_as_any_iterable(w: Flow) -> None:
    def items(data: list[int]) -> Iterable[int]:
        return (n for n in data)

    each = w.foreach("each", items=items, concurrency=2, into=errors_and_values)
    each.step(name="double")(lambda data, item: item * 2)


@case([3, 3], result=[[3], 0])
def items_of_a_set(w: Flow) -> None:
    def items(data: list[int]) -> set[int]:
        return set(data)

    each = w.foreach("each", items=items, into=errors_and_values)
    each.step(name="look")(lambda data, item: item)


@case(5, error="durable.errors.MergeConflict", message="needs data that is an object")
def collecting_without_an_object(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [1], collect_as="all")
    each.step(name="look")(lambda: 1)


# --- Failures -----------------------------------------------------------------------------------------------------


@case(
    {},
    error="builtins.ValueError",
    message="item 2",
    calls={"each[0]/check": 1, "each[2]/check": 1, "each[3]/check": 0},
)
def the_first_failing_item_ends_them_all(w: Flow) -> None:
    async def check(data: Any, item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    w.foreach("each", items=lambda: list(range(5))).step(name="check")(check)


@case({}, error="builtins.ValueError", message="item 2", calls={"each[2]/check": 1, "each[3]/check": 0})
def a_failing_item_ends_those_beside_it(w: Flow) -> None:
    async def check(data: Any, item: int) -> None:
        if item == 2:
            raise ValueError("item 2")
        await asyncio.Event().wait()

    w.foreach("each", items=lambda: list(range(5)), concurrency=3).step(name="check")(check)


@case({}, result=[[None, 10, 20, None, 40, 50, None], 3], calls={f"each[{n}]/check": 1 for n in range(7)})
def failing_items_are_passed_over(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(7)), concurrency=3, on_error="continue", into=errors_and_values)
    each.step(name="check")(picky(3))


@case({"n": 1}, result={"n": 1, "all": [10, 20, 40]}, calls={"each[3]/check": 1})
def failing_items_are_left_out_of_what_is_collected(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(5)), on_error="continue", collect_as="all")
    each.step(name="check")(picky(3))


@case({}, result={}, calls={"each[0]/check": 1, "each[4]/check": 1})
def all_items_may_fail(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(5)), on_error="continue", concurrency=2)
    each.step(name="check")(picky(1))


@case({}, result=[[None, 10, None, 30], 2])
def as_many_items_as_are_tolerated_fail(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(4)), on_error="continue", tolerate=2, into=errors_and_values)
    each.step(name="check")(picky(2))


@case(
    {},
    error="durable.errors.TooManyFailures",
    message="2 of 9 items failed, and tolerate=1 allows fewer. The last one: ValueError: item 2",
    calls={"each[2]/check": 1, "each[3]/check": 0},
)
def more_items_fail_than_are_tolerated(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(9)), on_error="continue", tolerate=1)
    each.step(name="check")(picky(2))


@case({}, error="durable.errors.TooManyFailures", message="1 of 3 items failed, and tolerate=0 allows fewer")
def no_failing_item_is_tolerated(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [1, 2, 3], on_error="continue", tolerate=0, concurrency=3)
    each.step(name="check")(picky(2))


@case({}, error="durable.errors.TooManyFailures", message="3 of 5 items failed, and tolerate=0.5 allows fewer")
def more_than_the_tolerated_share_fails(w: Flow) -> None:
    each = w.foreach("each", items=lambda: list(range(5)), on_error="continue", tolerate=0.5)
    each.step(name="check")(picky(1))


# --- Retries ------------------------------------------------------------------------------------------------------


def retried(retry: Retry, concurrency: int) -> Any:
    def declare(w: Flow) -> None:
        each = w.foreach("each", items=lambda: [0, 1, 2], concurrency=concurrency, into=errors_and_values)

        @each.step(retry=retry)
        async def flaky(data: Any, item: int) -> int:
            fail_until(1 + item)
            return context().attempt

    return declare


for name, retry in (
    ("near", Retry(3, delay=seconds(0.01))),
    ("far", FAR),
    ("very_far", Retry(3, delay=days(20), max_delay=days(99))),
):
    for concurrency in (1, 3):
        declare = retried(retry, concurrency)
        declare.__name__ = f"{name}_retries_of_items_at_concurrency_{concurrency}"
        case({}, result=[[1, 2, 3], 0], calls={"each[0]/flaky": 1, "each[1]/flaky": 2, "each[2]/flaky": 3})(declare)


@case({}, error="builtins.ValueError", message="item", calls={"each[0]/flaky": 3, "each[1]/flaky": 0})
def far_retries_of_an_item_that_fails_in_the_end(w: Flow) -> None:
    w.foreach("each", items=lambda: [0, 1]).step(name="flaky", retry=FAR)(fails("item"))


@case({}, result={}, calls={"each[0]/flaky": 3, "each[1]/flaky": 3, "each[2]/flaky": 3})
def far_retries_of_items_that_may_fail(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1, 2], concurrency=2, on_error="continue")
    each.step(name="flaky", retry=FAR)(fails("item"))


# --- Nested -------------------------------------------------------------------------------------------------------


@case(
    {"n": 2},
    result={"n": 2, "rows": [[0, 1], [10, 11]]},
    calls={"rows[1]/cells[0]/cell": 1, "rows[0]/cells[1]/cell": 1},
)
def foreach_in_a_foreach(w: Flow) -> None:
    rows = w.foreach("rows", items=lambda data: [0, 10], concurrency=2, collect_as="rows")
    cells = rows.foreach(
        "cells", items=lambda data, row: [row, row + 1], concurrency=2, into=lambda _, results: results.ok
    )

    @cells.step
    async def cell(data: dict[str, int], item: int, index: int) -> int:
        assert data == {"n": 2}
        assert item % 10 == index
        return item

    @rows.step
    async def look(data: list[int], row: int, index: int) -> list[int]:
        assert row == index * 10  # the item of the outer one again
        return data


@case([], result=[[None, 2, None], 2], calls={"each[0]/both/fail": 1, "each[1]/both/other": 1, "each[2]/both/fail": 1})
def failing_parallels_in_items_that_may_fail(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [0, 1, 2], on_error="continue", into=errors_and_values)
    both = each.parallel("both", into=lambda _, results: len(results.ok))

    @both.step
    async def fail(data: Any, item: int) -> int:
        if item != 1:
            raise ValueError(f"item {item}")
        return item

    both.step(name="other")(lambda: 1)


@case([], result=[["small", None, "big"], 1], calls={"each[0]/small": 1, "each[1]/never": 0, "each[2]/size#2": 1})
def decisions_in_items(w: Flow) -> None:
    each = w.foreach("each", items=lambda: [1, 5, 60], concurrency=3, on_error="continue", into=errors_and_values)

    @each.decision
    async def size(data: Any, item: int, index: int) -> Any:
        if item > 50 and data == []:
            return Goto("size", ["again"])
        return Goto("small" if item == 1 else "middle" if item == 5 else "big")

    each.step(name="never")(silent)
    each.step(name="small")(lambda: "small")
    each.decision(name="leave")(lambda: Goto("end"))
    each.step(name="middle")(fails("middle"))
    each.step(name="big")(lambda: "big")
    each.step(name="end")(same)


@case({"n": 3}, result={"n": 3, "all": [{"n": 3, "x": 0}, {"n": 3, "y": 1}, {"n": 3, "x": 2}]})
def branches_in_items(w: Flow) -> None:
    each = w.foreach("each", items=lambda data: list(range(data["n"])), concurrency=2, collect_as="all")
    even = each.branch("even", on=lambda data, item: item % 2 == 0)
    even.case(True).step(name="put")(lambda data, item: {**data, "x": item})
    even.case(False).step(name="put")(lambda data, item: {**data, "y": item})


@case([], result=[[[0], [1]], 0])
def errors_are_told_by_the_item(w: Flow) -> None:
    def into(_: Any, results: ItemResults) -> Any:
        first, second = results[:2]
        assert isinstance(first, Err)
        assert first.error.message == "item 0"
        assert isinstance(second, Ok)
        return [[[0], [1]], 0]

    each = w.foreach("each", items=lambda: [0, 1], concurrency=2, on_error="continue", into=into)

    @each.step
    async def check(data: Any, item: int) -> None:
        if item == 0:
            raise ValueError("item 0")
