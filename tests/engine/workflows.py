"""Small workflows of steps alone, and how each must end, with and without crashes."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from durable import Context, NonRetryable, Retry, RetryAfter, Workflow, assign, context, days, hours, seconds
from tests.engine.bodies import dies_at_first
from tests.engine.cases import case, fail_until

# --- Data --------------------------------------------------------------------------------------------------------


@case(1, result=2, calls={"only": 1})
def one_step(w: Workflow[Any, Any]) -> None:
    @w.step
    async def only(data: int) -> int:
        return data + 1


@case(0, result=20, calls={f"step{n}": 1 for n in range(20)})
def many_steps(w: Workflow[Any, Any]) -> None:
    async def body(data: int) -> int:
        return data + 1

    for n in range(20):
        w.step(name=f"step{n}")(body)


@case({"id": 7}, result={"id": 7}, calls={"first": 1, "second": 1})
def none_leaves_the_data(w: Workflow[Any, Any]) -> None:
    @w.step
    async def first(data: dict[str, int]) -> None:
        assert data == {"id": 7}

    @w.step
    async def second(data: dict[str, int]) -> None:
        assert data == {"id": 7}


@case(1, result=13, calls={"first": 1, "silent": 1, "second": 1, "last": 1})
def none_between_results(w: Workflow[Any, Any]) -> None:
    @w.step
    async def first(data: int) -> int:
        return data + 1

    @w.step
    async def silent(data: int) -> None:
        assert data == 2

    @w.step
    async def second(data: int) -> int:
        return data + 11

    @w.step
    async def last(data: int) -> None:
        assert data == 13


@case(None, result="made", calls={"make": 1, "unaware": 1})
def no_parameters(w: Workflow[Any, Any]) -> None:
    @w.step
    async def make() -> str:
        return "made"

    @w.step
    async def unaware() -> None: ...


@case("x", result="x:first:second:third:fourth")
def context_positions(w: Workflow[Any, Any]) -> None:
    @w.step
    async def first(here: Context, data: str) -> str:
        return f"{data}:{here.path}"

    @w.step
    async def second(data: str, here: Context) -> str:
        return f"{data}:{here.path}"

    @w.step
    async def third(data: str, *, here: Context) -> str:
        return f"{data}:{here.path}"

    @w.step
    async def fourth(data: str, unfilled: int = 0, here: Context | None = None) -> str:
        assert here is context()
        return f"{data}:{here.path}"


@case({"n": 1}, result=["keys:first:1", "keys:first:2"])
def the_same_idempotency_key_on_every_attempt(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(2, delay=seconds(0)))
    async def first(here: Context) -> list[str]:
        key = here.idempotency_key.replace(here.execution_id, "keys")
        if here.attempt == 1:
            raise ValueError(f"{key}:1")
        return [f"{key}:1", f"{key}:{here.attempt}"]


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Point(msgspec.Struct):
    x: int
    label: str | None = None


@dataclass
class Everything:
    pair: tuple[int, str]
    colour: Colour
    level: Level
    at: datetime
    price: Decimal
    id: UUID
    point: Point
    span: timedelta
    names: frozenset[str]
    raw: bytes


EVERYTHING = Everything(
    (1, "one"),
    Colour.BLUE,
    Level.LOW,
    datetime(2031, 5, 6, 7, 8, 9, 10, tzinfo=UTC),
    Decimal("10.50"),
    UUID(int=5),
    Point(3),
    timedelta(hours=5, microseconds=1),
    frozenset({"a"}),
    b"\x00\xff",
)


def types_of(value: Everything) -> dict[str, str]:
    return {name: type(getattr(value, name)).__name__ for name in value.__dataclass_fields__}


@case(EVERYTHING, of=Workflow[Everything, Everything], result=EVERYTHING, calls={"look": 1, "look_again": 1})
def typed_data_keeps_its_types(w: Workflow[Any, Any]) -> None:
    @w.step
    async def look(data: Everything) -> Everything:
        assert data == EVERYTHING
        return data

    @w.step
    async def look_again(data: Everything) -> None:
        assert data == EVERYTHING
        assert types_of(data) == types_of(EVERYTHING)


@case({"n": 1}, result={"n": 1, "point": {"x": 1, "label": None}, "pair": [1, 2], "colour": "b"})
def untyped_data_arrives_in_its_json_form(w: Workflow[Any, Any]) -> None:
    @w.step
    async def make(data: Any) -> Any:
        return assign(data, point=Point(1), pair=(1, 2), colour=Colour.BLUE)

    @w.step
    async def look(data: Any) -> None:
        assert data["point"] == {"x": 1, "label": None}
        assert data["pair"] == [1, 2]
        assert data["colour"] == "b"


@case(5, of=Workflow[Any, Point], result=Point(5))
def the_result_has_the_type_of_the_workflow(w: Workflow[Any, Any]) -> None:
    @w.step
    async def make(data: int) -> Point:
        return Point(data)


# --- Retries -----------------------------------------------------------------------------------------------------


@case(1, result=1, calls={"flaky": 3})
def retries_in_place(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3, backoff="constant", delay=seconds(0.01)))
    async def flaky(data: int) -> int:
        fail_until(3)
        return data


@case(1, result=2, calls={"flaky": 4, "after": 1})
def retries_far_away(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(4, delay=hours(10), max_delay=days(30)))
    async def flaky(data: int) -> int:
        fail_until(4)
        return data

    @w.step
    async def after(data: int) -> int:
        return data + 1


@case(1, of=lambda name: Workflow(name, retry=Retry(3, delay=seconds(0.01))), result=1, calls={"one": 3, "two": 3})
def retry_of_the_workflow(w: Workflow[Any, Any]) -> None:
    @w.step
    async def one() -> None:
        fail_until(3)

    @w.step
    async def two() -> None:
        fail_until(3)


@case(1, result=1, calls={"limited": 3})
def retry_after_sets_the_delay(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3, delay=days(3000), max_delay=days(3000)))
    async def limited() -> None:
        if context().attempt == 1:
            raise RetryAfter(seconds(0))
        if context().attempt == 2:
            raise RetryAfter(hours(1), "come back later")


@case(1, error="builtins.ValueError", message="not before attempt 9", calls={"before": 1, "doomed": 3})
def final_failure_in_the_middle(w: Workflow[Any, Any]) -> None:
    @w.step
    async def before(data: int) -> int:
        return data + 1

    @w.step(retry=Retry(3, delay=seconds(0.01)))
    async def doomed() -> None:
        fail_until(9)

    @w.step
    async def never() -> None: ...


@case(1, error="builtins.ValueError", calls={"doomed": 3})
def final_failure_after_far_retries(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3, delay=hours(1)))
    async def doomed() -> None:
        fail_until(9)


@case(1, error="durable.errors.NonRetryable", message="no card", calls={"refused": 1})
def non_retryable(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(5, delay=seconds(0)))
    async def refused() -> None:
        raise NonRetryable("no card")


@case(1, error="builtins.KeyError", calls={"picky": 2})
def given_up_on(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(5, delay=seconds(0), retry_on=(ValueError, LookupError), give_up_on=(KeyError,)))
    async def picky() -> None:
        raise KeyError("gone") if context().attempt == 2 else ValueError("again")


@case(1, of=lambda name: Workflow(name, timeout=hours(5)), error="durable.errors.DeadlineExceeded", calls={"flaky": 3})
def deadline_between_retries(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(100, backoff="constant", delay=hours(2), max_delay=days(1), jitter=0))
    async def flaky() -> None:
        fail_until(100)


# --- Errors ------------------------------------------------------------------------------------------------------


@case("seven", error="durable.errors.NonRetryable", message="takes", calls={})
def input_that_does_not_fit(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3))
    async def wants_a_number(data: int) -> None: ...


@case(1, error="durable.errors.NonRetryable", message="$.handle is object", calls={"make": 1})
def result_that_cannot_be_stored(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3))
    async def make() -> Any:
        return {"handle": object()}


@case(1, error="durable.errors.NonRetryable", message="$ is NaN", calls={"make": 1})
def result_that_json_would_change(w: Workflow[Any, Any]) -> None:
    @w.step
    async def make() -> float:
        return float("nan")


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


@case(1, error="tests.engine.workflows.FrozenError", calls={"fail": 2})
def error_that_cannot_be_changed(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(2, delay=seconds(0)))
    async def fail() -> None:
        raise FrozenError(4)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@case(1, error="tests.engine.workflows.UnprintableError", message="__str__ raised RuntimeError")
def error_without_words(w: Workflow[Any, Any]) -> None:
    @w.step
    async def fail() -> None:
        raise UnprintableError


@case(1, error="builtins.ExceptionGroup", message="unhandled errors", calls={"fail": 1})
def error_group(w: Workflow[Any, Any]) -> None:
    @w.step
    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wrong())

    async def wrong() -> None:
        raise ValueError("in a child")


# --- Bodies that leave in an unusual way -------------------------------------------------------------------------


@case(1, error="durable.errors.StepAborted", message="sys.exit(3)", calls={"leave": 2})
def sys_exit(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(2, delay=seconds(0)))
    async def leave() -> None:
        sys.exit(3)


@case(1, error="durable.errors.StepAborted", message="sys.exit('bye')", calls={"leave": 1})
def sys_exit_in_a_thread(w: Workflow[Any, Any]) -> None:
    @w.step
    def leave() -> None:
        sys.exit("bye")


class Stop(BaseException):
    pass


@case(1, error="durable.errors.StepAborted", message="Stop", calls={"stop": 2})
def base_exception(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(2, delay=seconds(0)))
    async def stop() -> None:
        raise Stop


@case(1, error="durable.errors.StepAborted", message="BaseExceptionGroup", calls={"stop": 1})
def base_exception_group(w: Workflow[Any, Any]) -> None:
    @w.step
    async def stop() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    async def inner() -> None:
        raise Stop


@case(1, error="builtins.RuntimeError", message="StopIteration", calls={"empty": 1})
def stop_iteration_in_a_thread(w: Workflow[Any, Any]) -> None:
    @w.step
    def empty() -> None:
        next(iter(()))


@case(1, result=2, calls={"cancelled": 3, "after": 1})
def body_that_cancels_itself(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3, delay=seconds(0)))
    async def cancelled() -> None:
        if context().attempt < 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    @w.step
    async def after(data: int) -> int:
        await asyncio.sleep(0)
        return data + 1


@case(1, result=4, calls={"careless": 1, "after": 1})
def body_that_cancels_itself_and_returns(w: Workflow[Any, Any]) -> None:
    @w.step
    async def careless(data: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.cancel()
        return data + 1

    @w.step
    async def after(data: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        return data + 2


@case(1, error="durable.errors.StepAborted", message="cancelled", calls={"waits": 1})
def body_that_awaits_something_cancelled(w: Workflow[Any, Any]) -> None:
    @w.step
    async def waits() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future


# --- Timeouts ----------------------------------------------------------------------------------------------------


@case(1, result=2, calls={"slow": 2})
def step_timeout(w: Workflow[Any, Any]) -> None:
    @w.step(timeout=seconds(0.02), retry=Retry(2, delay=seconds(0)))
    async def slow(data: int) -> int:
        if context().attempt == 1:
            await asyncio.Event().wait()
        return data + 1


@case(1, error="durable.errors.StepTimeout", message="0:00:00.020000", calls={"slow": 1})
def step_timeout_swallowed(w: Workflow[Any, Any]) -> None:
    @w.step(timeout=seconds(0.02))
    async def slow() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "too late"


@case(1, error="builtins.TimeoutError", message="its own", calls={"impatient": 1})
def timeout_error_of_the_body(w: Workflow[Any, Any]) -> None:
    @w.step(timeout=hours(1))
    async def impatient() -> None:
        raise TimeoutError("its own")


@case(1, error="durable.errors.StepTimeout", calls={"slow": 1})
def step_timeout_in_a_thread(w: Workflow[Any, Any]) -> None:
    @w.step(timeout=seconds(0.02))
    def slow() -> None:
        while not context().cancelled:
            time.sleep(0.001)


@case(1, of=lambda name: Workflow(name, timeout=seconds(0.05)), error="durable.errors.DeadlineExceeded")
def deadline_in_a_body(w: Workflow[Any, Any]) -> None:
    @w.step
    async def slow() -> None:
        await asyncio.Event().wait()


@case(
    1,
    of=lambda name: Workflow(name, timeout=seconds(0.05)),
    error="durable.errors.DeadlineExceeded",
    calls={"slow": 1},
    by_the_clock=True,
)
def deadline_swallowed(w: Workflow[Any, Any]) -> None:
    @w.step
    async def slow() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    @w.step
    async def never() -> None: ...


# --- Threads and processes ---------------------------------------------------------------------------------------


@case(1, result=4, calls={"first": 2, "second": 1})
def plain_functions(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(2, delay=seconds(0)))
    def first(data: int) -> int:
        fail_until(2)
        return data + 1

    @w.step
    def second(data: int, here: Context) -> int:
        assert here is context()
        return data * 2


def double_in_a_process(data: Point, here: Context) -> Point:
    assert here.path == context().path == "double"
    fail_until(2)
    return Point(data.x * 2, str(str(os.getpid()) == data.label))


@case(Point(4, str(os.getpid())), of=Workflow[Point, Point], result=Point(8, "False"), calls={"double": 2}, slow=True)
def worker_process(w: Workflow[Any, Any]) -> None:
    w.step(name="double", process=True, retry=Retry(2, delay=seconds(0)))(double_in_a_process)


@case(1, result=2, calls={"fragile": 2}, slow=True)
def worker_process_that_dies(w: Workflow[Any, Any]) -> None:
    w.step(name="fragile", process=True, retry=Retry(2, delay=seconds(0)))(dies_at_first)


# --- Crashes of workers ------------------------------------------------------------------------------------------


@case(
    1, error="durable.errors.WorkerCrashed", message="'killer' was in flight in 5 or more crashes", calls={}, crashes=5
)
def quarantine(w: Workflow[Any, Any]) -> None:
    @w.step(retry=Retry(3, delay=seconds(0)))
    async def killer() -> None: ...


@case(1, result=1, calls={"suspect": 1, "after": 1}, crashes=2)
def suspect_that_recovers(w: Workflow[Any, Any]) -> None:
    @w.step
    async def suspect() -> None: ...

    @w.step
    async def after() -> None: ...
