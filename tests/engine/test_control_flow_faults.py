"""Faults of other systems in branches, parallels, foreachs, loops and sagas that must not come back, one test for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import pytest

from durable import ArmResults, Context, Goto, ItemResults, Workflow
from durable.testing import Point, crash_at, crash_everywhere, run
from tests.engine.cases import fails, hangs, increment, logs, puts, silent, undo
from tests.engine.trees import INPUT, tree

Flow = Workflow[Any, Any]
GUARD = 60  # seconds


def made(declare: Callable[[Flow], None], **options: Any) -> Flow:
    workflow: Flow = Workflow("flow", **options)
    declare(workflow)
    return workflow


# --- Control flow ---------------------------------------------------------------------------------------------------


async def test_a_branch_without_a_match_fails_instead_of_being_skipped() -> None:
    workflow: Flow = Workflow("flow")
    workflow.branch("kind", on=lambda: "gold").case("silver").step(name="never")(silent)
    workflow.step(name="never")(silent)
    report = await crash_everywhere(workflow, None)
    failure = report.uninterrupted.failure
    assert failure is not None
    assert failure.type == "durable.errors.NoMatchingCase"
    assert not report.uninterrupted.calls


def inside(kind: str, block: Any) -> Any:
    """A block in a new node of this kind in *block*."""
    match kind:
        case "branch":
            return block.branch(kind, on=lambda: True).case(True)
        case "parallel":
            return block.parallel(kind).arm("arm")
        case "foreach":
            return block.foreach(kind, items=lambda: [1], concurrency=2)
        case _:
            return block.loop(kind, until=lambda: True)


SEGMENTS = {"branch": "branch/true", "parallel": "parallel/arm", "foreach": "foreach[0]", "loop": "loop[0]"}


@pytest.mark.parametrize("outer", SEGMENTS)
@pytest.mark.parametrize("inner", SEGMENTS)
async def test_a_node_nested_in_any_other_is_run(outer: str, inner: str) -> None:
    workflow: Flow = Workflow("flow")
    block = inside(outer, workflow)
    inside(inner, block).step(name="step")(silent)
    block.step(name="after")(silent)
    report = await crash_everywhere(workflow, None)
    calls = report.uninterrupted.calls
    assert calls == {f"{SEGMENTS[outer]}/{SEGMENTS[inner]}/step": 1, f"{SEGMENTS[outer]}/after": 1}


@pytest.mark.parametrize("write", [1, 2])  # the choice, the first step
async def test_who_resumes_inside_a_case_goes_on_there_whatever_would_be_chosen_now(write: int) -> None:
    answers = iter(["old", "new"])
    workflow: Flow = Workflow("flow")
    kind = workflow.branch("kind", on=lambda: next(answers))
    for name in ("old", "new"):
        kind.case(name).step(name="one")(logs(f"{name} one"))
        kind.case(name).step(name="two")(logs(f"{name} two"))
    ended = await crash_at(workflow, [], Point(write, "after"))
    assert ended.result == ["old one", "old two"]
    assert ended.calls == {"kind/old/one": 1, "kind/old/two": 1}


async def test_the_items_of_a_foreach_stay_those_that_are_recorded() -> None:
    answers = iter([[1, 2], [3]])
    workflow: Flow = Workflow("flow")
    each = workflow.foreach("each", items=lambda: next(answers), into=lambda _, results: results.ok)
    each.step(name="look")(lambda data, item: item)
    assert (await crash_at(workflow, None, Point(1, "after"))).result == [1, 2]


@pytest.mark.parametrize("seed", range(20))
async def test_paths_are_the_same_each_time_that_a_workflow_is_made(seed: int) -> None:
    first, second = [await run(tree(seed), INPUT) for _ in range(2)]
    assert {record.path for record in first.records} == {record.path for record in second.records}
    assert tree(seed).definition.shape == tree(seed).definition.shape


async def test_no_step_is_applied_to_its_own_output_after_a_crash_in_a_circle() -> None:
    workflow: Flow = Workflow("flow")
    up = workflow.loop("up", until=lambda data: data >= 4)
    up.step(name="add")(increment)
    up.decision(name="again")(lambda data: Goto("add") if data % 2 else None)
    workflow.foreach("each", items=lambda: [1, 2], into=lambda data, rs: data + sum(rs.ok)).step(name="add")(increment)
    report = await crash_everywhere(workflow, 0)
    assert report.uninterrupted.result == 4 + 5 + 5


class Size(Enum):
    SMALL = 1
    BIG = 2


class Order(msgspec.Struct):
    size: Size
    price: Decimal
    pair: tuple[int, int]


async def test_a_choice_by_the_type_of_data_is_the_same_after_a_crash() -> None:
    def by_types(data: Order) -> str:
        return f"{type(data.size).__name__} {type(data.price).__name__} {type(data.pair).__name__}"

    def by_untyped(data: Any) -> str:
        return f"{type(data['size']).__name__} {type(data['pair']).__name__}"

    workflow: Flow = Workflow("flow")

    @workflow.step
    async def make() -> Order:
        return Order(Size.BIG, Decimal("1.50"), (1, 2))

    typed = workflow.branch("typed", on=by_types)
    typed.case("Size Decimal tuple", name="as_annotated").step(name="right")(silent)
    typed.otherwise.step(name="wrong")(silent)
    untyped = workflow.branch("untyped", on=by_untyped)
    untyped.case("int list", name="as_json").step(name="right")(silent)
    untyped.otherwise.step(name="wrong")(silent)
    report = await crash_everywhere(workflow, None)
    assert report.uninterrupted.calls == {"make": 1, "typed/as_annotated/right": 1, "untyped/as_json/right": 1}


# --- Parallel -------------------------------------------------------------------------------------------------------


async def test_a_recorded_arm_is_not_run_again_when_its_sibling_was_lost() -> None:
    workflow, charges = Workflow[Any, Any]("flow"), list[str]()
    both = workflow.parallel("both")

    @both.step
    async def charge(here: Context) -> None:
        charges.append(here.idempotency_key)

    @both.step
    async def slow() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    ended = await crash_at(workflow, None, Point(1, "after"))
    assert len(charges) == 1
    assert ended.calls == {"both/charge": 1, "both/slow": 2}


def ten_seconds(running: asyncio.Event, seen: list[str]) -> Any:
    async def long() -> None:
        running.set()
        try:
            await asyncio.sleep(10)
            seen.append("came to its end")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("finally")

    return long


def fails_after(running: asyncio.Event) -> Any:
    async def fail() -> None:
        await running.wait()
        raise ValueError("no")

    return fail


async def test_a_failing_arm_ends_its_ten_second_sibling_at_once() -> None:
    workflow, running, seen = Workflow[Any, Any]("flow"), asyncio.Event(), list[str]()
    both = workflow.parallel("both")
    both.step(name="long")(ten_seconds(running, seen))
    both.step(name="fail")(fails_after(running))
    ended = await run(workflow, None)
    assert seen == ["cancelled", "finally"]
    assert ended.failure is not None
    assert ended.failure.message == "no"
    assert {record.path for record in ended.records} == {"both", "both/fail"}


async def test_a_failing_item_ends_a_ten_second_one_deep_beside_it_at_once() -> None:
    workflow, running, seen = Workflow[Any, Any]("flow"), asyncio.Event(), list[str]()
    each = workflow.foreach("each", items=lambda: [1, 2], concurrency=2)
    kind = each.branch("kind", on=lambda _, item: item)
    kind.case(1).parallel("deep").arm("arm").step(name="long")(ten_seconds(running, seen))
    kind.case(2).step(name="fail")(fails_after(running))
    assert (await run(workflow, None)).failure is not None
    assert seen == ["cancelled", "finally"]


async def test_every_arm_is_found_in_the_results_by_its_key() -> None:
    found: dict[str, Any] = {}

    def into(_: Any, results: ArmResults) -> None:
        found.update({key: results[key].ok for key in ("step", "renamed", "arm", "failed")})
        found["all"] = (len(results), "missing" in results, results.get("missing"))

    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both", on_error="complete_all", into=into)
    both.step(name="step")(silent)
    both.step(name="other", key="renamed")(silent)
    both.arm("arm").step(name="inner")(silent)
    both.step(name="failed")(fails())
    await run(workflow, None)
    assert found == {"step": True, "renamed": True, "arm": True, "failed": False, "all": (4, False, None)}


# --- Foreach --------------------------------------------------------------------------------------------------------


async def test_no_item_is_lost_or_counted_twice_at_any_concurrency() -> None:
    seen: Counter[int] = Counter()

    def into(_: Any, results: ItemResults) -> Any:
        return [len(results), len(results.ok), len(results.errors), results.ok]

    workflow: Flow = Workflow("flow")
    each = workflow.foreach("each", items=lambda: list(range(200)), concurrency=50, on_error="continue", into=into)

    @each.step
    async def body(data: Any, item: int) -> int:
        seen[item] += 1
        for _ in range(item * 7 % 5):
            await asyncio.sleep(0)
        if item % 10 == 0:
            raise ValueError
        return item

    ended = await run(workflow, None)
    assert ended.result == [200, 180, 20, [n for n in range(200) if n % 10]]
    assert seen == dict.fromkeys(range(200), 1)


async def test_items_that_may_fail_do_not_fail_the_execution_at_the_end() -> None:
    workflow: Flow = Workflow("flow")
    workflow.foreach("each", items=lambda: [1, 2, 3], on_error="continue", concurrency=2).step(name="fail")(fails())
    workflow.step(name="after")(lambda: "reached")
    assert (await crash_everywhere(workflow, None)).uninterrupted.result == "reached"


@pytest.mark.parametrize(("failing", "ends"), [(29, "completed"), (30, "failed")])
async def test_a_tolerated_share_is_counted_to_the_last_item(failing: int, ends: str) -> None:
    workflow: Flow = Workflow("flow")  # 0.29 * 100 is 28.999999999999996
    each = workflow.foreach("each", items=lambda: list(range(100)), on_error="continue", tolerate=0.29, concurrency=9)

    @each.step
    async def check(data: Any, item: int) -> None:
        if item < failing:
            raise ValueError

    assert (await run(workflow, None)).status.value == ends


async def test_an_item_begins_as_soon_as_any_other_ends() -> None:
    begun = [asyncio.Event() for _ in range(4)]
    workflow: Flow = Workflow("flow")
    each = workflow.foreach("each", items=lambda: [0, 1, 2, 3], concurrency=2)

    @each.step
    async def body(data: Any, item: int) -> None:
        begun[item].set()
        if item == 0:
            await begun[3].wait()  # with a barrier after 0 and 1, for ever

    async with asyncio.timeout(GUARD):
        await run(workflow, None)


# --- Sagas ----------------------------------------------------------------------------------------------------------


async def test_steps_of_arms_are_undone_with_their_data_and_the_failure() -> None:
    workflow, undone = Workflow[Any, Any]("flow"), dict[str, Any]()

    async def give_back(data: Any, here: Context) -> None:
        assert here.failure is not None
        undone[here.path] = (data, here.failure.message, here.execution_id, here.idempotency_key)

    both = workflow.parallel("both")
    both.step(name="a", compensate=give_back)(puts(a=1))
    both.arm("arm").step(name="b", compensate=give_back)(puts(b=2))
    workflow.step(name="fail")(fails("too late"))
    ended = await run(workflow, {"n": 0})
    assert ended.status.value == "compensated"
    assert undone == {
        f"both/{step}/give_back": ({"n": 0, **data}, "too late", "memory", f"memory:both/{step}/give_back")
        for step, data in (("a", {"a": 1}), ("arm/b", {"b": 2}))
    }


async def test_a_failing_compensation_is_no_success() -> None:
    workflow: Flow = Workflow("flow")

    async def cannot() -> None:
        raise RuntimeError

    workflow.step(name="a", compensate=undo)(puts(a=1))
    workflow.step(name="b", compensate=cannot)(puts(b=1))
    workflow.step(name="fail")(fails("the first failure"))
    ended = (await crash_everywhere(workflow, {})).uninterrupted
    assert ended.status.value == "compensation_failed"
    assert ended.failure is not None
    assert ended.failure.message == "the first failure"
    assert ended.calls == {"a": 1, "b": 1, "fail": 1, "b/cannot": 1, "a/undo": 1}


async def test_a_crash_between_compensations_leaves_none_out_and_repeats_none_that_is_recorded() -> None:
    workflow: Flow = Workflow("flow")
    for name in "abc":
        workflow.step(name=name, compensate=undo)(puts(**{name: 1}))
    workflow.step(name="fail")(fails())
    for write in range(6, 9):  # three steps, the failure, that it is ended, and then the compensations
        for side in ("before", "after"):
            ended = await crash_at(workflow, {}, Point(write, side))
            assert ended.status.value == "compensated"
            assert sum(ended.calls[f"{name}/undo"] for name in "abc") == 3 + (side == "before")


async def test_a_compensation_that_kills_its_workers_fails_and_the_others_are_run() -> None:
    workflow: Flow = Workflow("flow")
    for name in "ab":
        workflow.step(name=name, compensate=undo)(puts(**{name: 1}))
    workflow.step(name="fail")(fails())
    deaths = [Point(5, "before"), *[Point(1, "before")] * 2]
    ended = await crash_at(workflow, {}, *deaths, max_crashes=3)
    assert ended.status.value == "compensation_failed"
    assert ended.calls == {"a": 1, "b": 1, "fail": 1, "b/undo": 3, "a/undo": 1}


async def test_what_was_completed_beside_a_failing_arm_is_undone() -> None:
    workflow, recorded = Workflow[Any, Any]("flow"), asyncio.Event()
    both = workflow.parallel("both")
    arm = both.arm("arm")
    arm.step(name="book", compensate=undo)(puts(booked=True))

    @arm.step
    async def next_one() -> None:
        recorded.set()
        await hangs()

    both.step(name="fail")(fails_after(recorded))
    ended = await run(workflow, {})
    assert ended.status.value == "compensated"
    assert ended.calls["both/arm/book/undo"] == 1
