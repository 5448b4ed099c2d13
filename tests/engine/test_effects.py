"""What effects must not do to their body, and a body to its effects, where a crash harness does not look."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

import durable
from durable import Retry, UsageError, Workflow, days, hours, seconds
from durable.engine.journal import Blocked, Completed, Record
from durable.errors import ClaimLost, Interruption
from durable.testing import MemoryJournal, run
from tests.engine.cases import silent
from tests.engine.test_strands import Guarded, go_on, paths

Flow = Workflow[Any, Any]


def flow(body: Any, **options: Any) -> Flow:
    workflow: Flow = Workflow("flow")
    workflow.step(name="body", **options)(body)
    return workflow


async def once() -> int:
    return 1


async def test_a_body_that_only_waits_lets_go_for_as_long_as_it_is_to_wait() -> None:
    async def body() -> None:
        await durable.sleep(hours(2))

    outcome = await go_on(flow(body), MemoryJournal())
    assert isinstance(outcome, Blocked)
    assert outcome.delay == pytest.approx(7200, abs=1)


class Pausing(MemoryJournal):
    """A journal in which time passes as in life, and writes take so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def record(self, *records: Record) -> None:
        await super().record(*records)
        end = asyncio.get_running_loop().time() + self.seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):  # a write is not interrupted
                await asyncio.sleep(left)


async def test_a_body_that_gives_up_a_sleep_is_busy_again() -> None:
    # When the others come to rest, nothing may take it for one that still waits.
    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both", merge="collect")

    @both.step
    async def impatient(data: Any) -> str:
        try:
            async with asyncio.timeout(0.1):
                await durable.sleep(hours(1))
        except TimeoutError:
            await asyncio.sleep(0.2)
        return "went on"

    @both.step
    async def sibling(data: Any) -> None:
        await asyncio.sleep(0.2)

    outcome = await go_on(workflow, Pausing())
    assert isinstance(outcome, Completed)


async def test_a_cancellation_that_came_during_a_write_is_heard_after_it() -> None:
    heard: list[str] = []

    async def body() -> None:
        try:
            async with asyncio.timeout(0.05):
                await durable.run(once)
                heard.append("nothing")
        except TimeoutError:
            heard.append("the timeout")

    outcome = await go_on(flow(body), Pausing(0.2))
    assert isinstance(outcome, Completed)
    assert heard == ["the timeout"]


async def test_waits_without_keys_in_several_tasks_are_refused_even_if_they_do_not_overlap() -> None:
    async def body() -> None:
        await asyncio.create_task(durable.sleep(seconds(0)))  # type: ignore[arg-type]
        await asyncio.create_task(durable.sleep(hours(1)))  # type: ignore[arg-type]

    ended = await run(flow(body), {})
    assert ended.failure is not None
    assert ended.failure.type == "durable.errors.AmbiguousEffect"


@pytest.mark.parametrize("kind", ["after calls", "after a sleep", "in tasks of tasks"])
async def test_equal_calls_of_several_tasks_keep_their_answers_when_the_body_runs_again(kind: str) -> None:
    numbers, sent = iter(range(100)), list[tuple[int, int]]()

    async def slowly(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def next_number() -> int:
        return next(numbers)

    async def send(who: int, number: int) -> int:
        sent.append((who, number))
        return number

    async def numbered(who: int) -> int:
        number = await durable.run(next_number)
        return await durable.run(send, who, number)

    async def one(who: int) -> int:
        if kind == "after calls":
            await durable.run(slowly, 90 - 40 * who)
        elif kind == "after a sleep" and who == 0:
            await durable.sleep(hours(1), key="first")
        elif kind == "in tasks of tasks":
            await durable.run(slowly, 90 - 40 * who)
            return (await asyncio.gather(numbered(who)))[0]
        return await numbered(who)

    async def body() -> list[int]:
        found = await asyncio.gather(one(0), one(1), one(2))
        await durable.sleep(hours(1))
        return found

    ended = await run(flow(body), {})
    assert len(sent) == 3, "none is made again"
    assert ended.result == [number for _, number in sorted(sent)]


async def test_a_call_that_was_made_by_the_body_itself_is_not_made_again_by_code_that_makes_it_in_a_task() -> None:
    made: list[str] = []

    async def call(what: str) -> str:
        made.append(what)
        return what

    def version(*, tasks: bool) -> Any:
        async def body() -> list[str]:
            if tasks:
                found = await asyncio.gather(*(durable.run(call, what) for what in ("new", "a", "b")))
            else:
                found = [await durable.run(call, what) for what in ("a", "b")]
            await durable.sleep(hours(1))
            return found

        return flow(body)

    journal = MemoryJournal()
    assert isinstance(await go_on(version(tasks=False), journal), Blocked)
    assert isinstance(await go_on(version(tasks=True), journal), Blocked)
    assert sorted(made) == ["a", "b", "new"]


async def test_what_a_body_has_left_does_not_cancel_the_end_of_its_step() -> None:
    closed = 0

    async def download(name: str) -> str:
        if name == "b":
            await asyncio.sleep(60)
        return name

    async def fetch(name: str) -> str:
        nonlocal closed
        try:
            return await durable.run(download, name)
        finally:
            for _ in range(50):  # more turns than it takes to see that a body only waits
                await asyncio.sleep(0)
            closed += 1

    async def body() -> str:
        tasks = [asyncio.ensure_future(fetch(name)) for name in "ab"]
        tasks.append(asyncio.ensure_future(durable.sleep(hours(1))))  # type: ignore[arg-type]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return str(done.pop().result())

    ended = await run(flow(body), {})
    assert (ended.result, ended.status) == ("a", "completed")


@pytest.mark.parametrize("plain", [False, True], ids=["cancelled", "in a thread, waited for"])
async def test_a_call_that_a_failed_body_has_left_does_not_go_on_beside_the_next_attempt(plain: bool) -> None:
    running, made, most = 0, 0, 0

    def charge_in_a_thread() -> str:
        nonlocal running, made, most
        running += 1
        most, made = max(most, running), made + 1
        time.sleep(0.1)
        running -= 1
        return "charged"

    async def charge() -> str:
        nonlocal running, made, most
        running += 1
        most, made = max(most, running), made + 1
        try:
            await asyncio.sleep(0.1 if made > 1 else 60)
        finally:
            running -= 1
        return "charged"

    async def ship() -> str:
        while not made:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if durable.context().attempt == 1:
            raise ValueError("no ship")
        return "shipped"

    async def body() -> list[str]:
        return await asyncio.gather(durable.run(ship), durable.run(charge_in_a_thread if plain else charge))

    ended = await run(flow(body, retry=Retry(2, delay=seconds(0), jitter=0)), {})
    assert ended.result == ["shipped", "charged"]
    assert (made, most) == (1 if plain else 2, 1), "what has ended keeps its answer"


async def test_an_effect_within_a_call_that_is_made_once_is_refused() -> None:
    async def inner() -> None:
        await durable.sleep(seconds(0.01))

    async def body() -> None:
        await durable.run(inner)

    ended = await run(flow(body), {})
    assert ended.failure is not None
    assert "within run('inner')" in ended.failure.message


async def test_what_was_slept_is_not_slept_again_by_the_next_attempt() -> None:
    async def body() -> None:
        await durable.sleep(seconds(0.2))
        if durable.context().attempt < 4:
            raise ValueError("again")

    began = asyncio.get_running_loop().time()
    outcome = await go_on(flow(body, retry=Retry(4, delay=seconds(0), jitter=0)), Pausing())
    assert isinstance(outcome, Completed)
    assert 0.2 <= asyncio.get_running_loop().time() - began < 0.6


async def test_a_compensation_may_sleep_beyond_the_deadline_of_its_workflow() -> None:
    async def undo(data: Any) -> None:
        await durable.sleep(hours(5))

    async def nap(data: Any) -> None:
        await durable.sleep(days(1))

    workflow: Flow = Workflow("flow", timeout=hours(1))
    workflow.step(compensate=undo, name="book")(silent)
    workflow.step(nap)
    ended = await run(workflow, {})
    assert ended.status.value == "compensated"
    assert ended.seconds == pytest.approx(6 * 3600, abs=5)


async def test_a_result_of_a_call_that_cannot_be_stored_is_not_asked_for_again() -> None:
    calls = 0

    async def lock() -> Any:
        nonlocal calls
        calls += 1
        return asyncio.Lock()

    async def body() -> None:
        await durable.run(lock, retry=Retry(5, delay=seconds(0)))

    ended = await run(flow(body, retry=Retry(5, delay=seconds(0))), {})
    assert ended.failure is not None
    assert ended.failure.type == "durable.errors.NonRetryable"
    assert calls == 1


async def test_the_wait_that_ends_first_wakes_the_execution() -> None:
    workflow: Flow = Workflow("flow")
    both = workflow.parallel("both")
    for name, count in (("a", 5), ("b", 3)):

        async def body(data: Any, count: int = count) -> None:
            await asyncio.gather(durable.sleep(hours(count), key="x"), durable.sleep(hours(count + 1), key="y"))

        both.step(name=name)(body)
    outcome = await go_on(workflow, MemoryJournal())
    assert isinstance(outcome, Blocked)
    assert outcome.delay == pytest.approx(3 * 3600, abs=1)


async def test_a_failure_beside_a_long_sleep_is_not_put_off_until_the_sleep_is_over() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("now")

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(durable.sleep(days(30)))
            group.create_task(asyncio.wait_for(asyncio.gather(fail()), 10))

    ended = await run(flow(body), {})
    assert ended.seconds < 60
    assert ended.failure is not None


@pytest.mark.parametrize("swallowing", [False, True])
async def test_a_lost_claim_ends_a_body_that_catches_every_exception(swallowing: bool) -> None:
    went_on: list[str] = []

    async def body() -> None:
        for _ in range(2):
            try:
                await durable.run(once)
            except Exception as error:
                went_on.append(repr(error))
            except BaseException:
                if not swallowing:
                    raise
        went_on.append("to the end")

    journal = Guarded()
    journal.lost = "body"
    with pytest.raises(ClaimLost):
        await go_on(flow(body), journal)
    assert went_on == (["to the end"] if swallowing else [])
    assert paths(journal) == []


async def test_a_draining_worker_begins_no_call_and_its_body_hears_of_no_error() -> None:
    heard: list[BaseException] = []
    journal = Guarded()

    async def drain() -> None:
        journal.draining = True

    async def body() -> None:
        try:
            await durable.run(drain)
            await durable.run(once)
        except Exception as error:
            heard.append(error)

    with pytest.raises(Interruption, match="drains"):
        await go_on(flow(body), journal)
    assert heard == []
    assert [record.kind for record in journal.records] == ["ran"]


async def test_what_a_body_has_left_behind_records_nothing_when_it_is_over() -> None:
    left: list[asyncio.Task[Any]] = []
    refused: list[BaseException] = []
    go = asyncio.Event()

    async def late() -> int:
        await go.wait()
        return 1

    async def straggler() -> None:
        try:
            await durable.run(late)
        except asyncio.CancelledError as error:
            refused.append(error)
        try:
            await durable.run(once)
        except UsageError as error:
            refused.append(error)

    async def body() -> None:
        left.append(asyncio.create_task(straggler()))
        await asyncio.sleep(0)

    journal = MemoryJournal()
    outcome = await go_on(flow(body), journal)
    assert isinstance(outcome, Completed)
    go.set()
    await asyncio.wait(left)
    assert [type(error) for error in refused] == [asyncio.CancelledError, UsageError]
    assert journal.records == []


async def test_a_plain_function_that_is_cancelled_is_waited_for() -> None:
    go, began, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        go.wait(30)
        ended.set()

    async def body() -> None:
        await durable.run(slow)

    journal = MemoryJournal()
    task = asyncio.create_task(go_on(flow(body), journal))
    await asyncio.to_thread(began.wait, 30)
    journal.stop()
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, go.set)
    await asyncio.wait({task})
    assert ended.is_set(), "else it would overlap its own next call"


async def test_a_body_is_not_suspended_while_a_call_of_its_own_is_under_way() -> None:
    async def slow() -> str:
        for _ in range(100):
            await asyncio.sleep(0)
        return "done"

    bodies = 0

    async def body() -> Any:
        nonlocal bodies
        bodies += 1
        called, _ = await asyncio.gather(durable.run(slow), durable.sleep(hours(1)))
        return called

    ended = await run(flow(body), {})
    assert ended.result == "done"
    kinds = [record.kind for record in ended.records]
    assert kinds.count("ran") == 1


async def test_a_body_with_too_many_effects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.engine.effects.EFFECTS_MAX", 3)

    async def body() -> None:
        for _ in range(4):
            await durable.run(once)

    ended = await run(flow(body, retry=Retry(3, delay=seconds(0))), {})
    assert ended.failure is not None
    assert "more than 3 effects" in ended.failure.message
    assert ended.calls["body"] == 1
