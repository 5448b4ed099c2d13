"""How executions end that do not complete, on a real engine: what is undone, in which order, and what cannot stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import durable
from durable import Durable, ExecutionCancelled, ExecutionFailed, Retry, Status, Workflow, assign, hours, seconds
from durable.codec import JsonCodec
from durable.model.definition import UNANNOTATED
from durable.runtime import supervisor
from tests.support.invariants import assert_invariants

GUARD = 30
Data = dict[str, Any]


class Trip:
    """A workflow of two bookings and a payment, and what its bodies did."""

    def __init__(self, *, name: str = "trip", timeout: float | None = None, on_failure: bool = True) -> None:
        self.did: list[str] = []
        self.paying = asyncio.Event()
        self.pay: Callable[[Data], Any] = self._declined
        self.undo_hotel: Callable[[Data], Any] = lambda data: None
        last = self._apologise if on_failure else None
        limit = None if timeout is None else seconds(timeout)
        self.workflow = Workflow[Data, Data](name, timeout=limit, on_failure=last)
        self.workflow.compensation(retry=Retry(2, delay=seconds(0.4)))(self._cancel_hotel)
        self.workflow.step(compensate=self._cancel_flight, name="flight")(self._book_flight)
        both = self.workflow.parallel("both")
        both.step(compensate=self._cancel_hotel, name="hotel")(self._book_hotel)
        both.step(name="car")(self._book_car)
        self.workflow.step(name="pay")(self._pay)

    async def _book_flight(self, data: Data) -> Data:
        self.did.append("flight")
        return assign(data, flight="LH1")

    async def _book_hotel(self, data: Data) -> Data:
        self.did.append("hotel")
        return assign(data, hotel="Astoria")

    async def _book_car(self, data: Data) -> Data:
        return assign(data, car="R4")

    async def _pay(self, data: Data) -> Any:
        self.paying.set()
        return await self.pay(data)

    async def _declined(self, data: Data) -> None:
        raise ValueError("declined")

    async def _cancel_flight(self, data: Data) -> None:
        failure = durable.context().failure
        assert failure is not None
        self.did.append(f"cancel flight {data['flight']}, {'hotel' in data}: {failure.message}")

    async def _cancel_hotel(self, data: Data) -> None:
        self.did.append(f"cancel hotel {data['hotel']}, {'car' in data}")
        await asyncio.sleep(0)
        self.undo_hotel(data)

    async def _apologise(self, data: Data) -> None:
        self.did.append(f"apologise to {data['who']}")


@pytest.fixture
async def checked(database: str) -> AsyncIterator[str]:
    yield database
    await assert_invariants(database)


async def hang(data: Data) -> None:
    await asyncio.get_running_loop().create_future()


async def failed(handle: durable.Handle[Any]) -> ExecutionFailed:
    with pytest.raises(ExecutionFailed) as caught:
        await handle.result(GUARD)
    return caught.value


async def test_a_failure_undoes_what_was_completed_last_first_and_then_runs_on_failure(checked: str) -> None:
    trip = Trip()
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        error = await failed(await engine.start(trip.workflow, {"who": "Ada"}, id="t"))
        assert error.status == "compensated"
        assert error.failure.message == "declined"
        assert trip.did == [
            "flight",
            "hotel",
            "cancel hotel Astoria, False",
            "cancel flight LH1, False: declined",
            "apologise to Ada",
        ]
        execution = await engine.get_execution("t", include_steps=True)
        assert execution.status is Status.COMPENSATED
        assert [(c.path, c.compensates, c.status) for c in execution.compensations] == [
            ("both/hotel/_cancel_hotel", "both/hotel", "completed"),
            ("flight/_cancel_flight", "flight", "completed"),
        ]


async def test_a_compensation_that_fails_does_not_stop_the_others(checked: str) -> None:
    trip = Trip()

    def full(data: Data) -> None:
        raise RuntimeError("the hotel does not answer")

    trip.undo_hotel = full
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        handle = await engine.start(trip.workflow, {"who": "Ada"}, id="t")
        error = await failed(handle)
        assert error.status == "compensation_failed"
        assert error.failure.message == "declined"
        hotel, flight = (await engine.get_execution("t", include_steps=True)).compensations
        assert [attempt.number for attempt in hotel.attempts] == [1, 2], "it has a retry of its own"
        assert (hotel.status, flight.status) == ("failed", "completed")


async def test_a_cancel_with_compensation_stops_the_running_step_and_undoes_the_others(checked: str) -> None:
    trip = Trip()
    trip.pay = hang
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        handle = await engine.start(trip.workflow, {"who": "Ada"})
        await asyncio.wait_for(trip.paying.wait(), GUARD)
        assert await handle.cancel("she stays at home", compensate=True)
        error = await failed(handle)
        assert error.status == "compensated"
        assert error.failure.type == "durable.errors.ExecutionCancelled"
        assert trip.did[2:] == [
            "cancel hotel Astoria, False",
            "cancel flight LH1, False: she stays at home",
            "apologise to Ada",
        ]
        assert not await handle.cancel("again", compensate=True), "it has ended"


async def test_a_cancel_with_compensation_reaches_a_worker_that_was_not_told(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 0.2)
    trip = Trip()
    trip.pay = hang
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        monkeypatch.setattr("durable.runtime.herald.TOLD", "nobody listens here")
        handle = await engine.start(trip.workflow, {"who": "Ada"})
        await asyncio.wait_for(trip.paying.wait(), GUARD)
        async with Durable(checked, workflows=[trip.workflow], worker=False) as client:
            assert await client.cancel(handle.id, "why", compensate=True)
        assert (await failed(handle)).status == "compensated"


async def test_a_waiting_execution_is_woken_to_be_undone(checked: str) -> None:
    trip = Trip()
    trip.workflow = Workflow[Data, Data]("waits", retry=Retry(2, delay=hours(1)))
    undone: list[Data] = []

    async def undo(data: Data) -> None:
        undone.append(data)

    @trip.workflow.step(compensate=undo)
    async def book(data: Data) -> Data:
        return assign(data, booked=True)

    @trip.workflow.step
    async def pay(data: Data) -> None:
        raise ValueError("not yet")

    async with Durable(checked, workflows=[trip.workflow]) as engine:
        handle = await engine.start(trip.workflow, {})
        async with asyncio.timeout(GUARD):
            while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        assert await handle.cancel("no more", compensate=True)
        assert (await failed(handle)).status == "compensated"
    assert undone == [{"booked": True}]


async def test_a_worker_that_takes_up_what_is_to_be_undone_runs_no_more_of_its_flow(checked: str) -> None:
    ran: list[str] = []
    workflow = Workflow[Data, Data]("waits")

    async def undo(data: Data) -> None:
        ran.append("undo")

    @workflow.step(compensate=undo)
    async def book(data: Data) -> None: ...

    @workflow.step
    async def wait(data: Data) -> None:
        ran.append("wait")
        await durable.wait_for_event("never")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, {})
        async with asyncio.timeout(GUARD):
            while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
    async with Durable(checked, workflows=[workflow], worker=False) as client:
        assert await client.cancel(handle.id, compensate=True)
        async with Durable(checked, workflows=[workflow]):
            assert (await failed(client.handle(handle.id))).status == "compensated"
    assert ran == ["wait", "undo"]


async def test_a_cancel_with_compensation_of_what_has_nothing_to_undo_cancels_it(checked: str) -> None:
    trip = Trip()
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        handle = await engine.start(trip.workflow, {"who": "Ada"}, delay=hours(1))
        assert await handle.cancel("too late", compensate=True)
        with pytest.raises(ExecutionCancelled, match="too late"):
            await handle.result(GUARD)
    assert trip.did == []


async def test_a_plain_cancel_undoes_nothing(checked: str) -> None:
    trip = Trip()
    trip.pay = hang
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        handle = await engine.start(trip.workflow, {"who": "Ada"})
        await asyncio.wait_for(trip.paying.wait(), GUARD)
        assert await handle.cancel("just stop")
        with pytest.raises(ExecutionCancelled):
            await handle.result(GUARD)
    assert trip.did == ["flight", "hotel"]


async def test_a_deadline_undoes_and_does_not_strike_again(checked: str) -> None:
    trip = Trip(timeout=1.0)
    trip.pay = hang
    late = 0

    def slow(data: Data) -> None:
        nonlocal late
        late += 1
        if late == 1:
            raise RuntimeError("try again, after the deadline")

    trip.undo_hotel = slow
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        error = await failed(await engine.start(trip.workflow, {"who": "Ada"}))
    assert error.status == "compensated"
    assert error.failure.type == "durable.errors.DeadlineExceeded"
    assert late == 2
    assert trip.did[-1] == "apologise to Ada"


async def test_neither_a_cancel_nor_a_second_worker_stops_an_ending(checked: str) -> None:
    trip = Trip()
    undoing, go_on = asyncio.Event(), asyncio.Event()

    async def cancel_flight(data: Data) -> None:
        undoing.set()
        await go_on.wait()

    workflow = Workflow[Data, Data]("held")

    @workflow.step(compensate=cancel_flight)
    async def book(data: Data) -> None: ...

    @workflow.step
    async def fail(data: Data) -> None:
        raise ValueError("no")

    async with Durable(checked, workflows=[workflow, trip.workflow]) as engine:
        handle = await engine.start(workflow, {})
        await asyncio.wait_for(undoing.wait(), GUARD)
        assert await handle.status() is Status.COMPENSATING
        assert [e.id for e in (await engine.list_executions(status="compensating")).items] == [handle.id]
        assert not await handle.cancel("stop")
        assert not await handle.cancel("stop", compensate=True)
        go_on.set()
        assert (await failed(handle)).status == "compensated"


async def test_on_failure_alone_leaves_the_execution_failed_and_its_own_error_changes_nothing(checked: str) -> None:
    told: list[str] = []

    async def tell(data: Data) -> None:
        failure = durable.context().failure
        assert failure is not None
        told.append(failure.message)
        raise RuntimeError("nobody is there")

    workflow = Workflow[Data, Data]("told", on_failure=tell)

    @workflow.step
    async def fail(data: Data) -> None:
        raise ValueError("no")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, {})
        error = await failed(handle)
        assert (error.status, error.failure.message) == ("failed", "no")
        assert told == ["no"]
        steps = (await engine.get_execution(handle.id, include_steps=True)).steps
        assert steps is not None
        assert [(step.path, step.status) for step in steps] == [("fail", "failed"), ("tell", "failed")]


async def test_what_is_to_be_undone_cannot_be_cancelled_otherwise_and_is_undone_once(checked: str) -> None:
    trip = Trip()
    trip.workflow = Workflow[Data, Data]("once", retry=Retry(2, delay=hours(1)))
    undone: list[Data] = []

    async def undo(data: Data) -> None:
        undone.append(data)

    trip.workflow.step(compensate=undo, name="flight")(trip._book_flight)
    trip.workflow.step(name="pay")(trip._declined)
    async with Durable(checked, workflows=[trip.workflow]) as engine:
        handle = await engine.start(trip.workflow, {})
        async with asyncio.timeout(GUARD):
            while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
    async with Durable(checked, workflows=[trip.workflow], worker=False) as client:
        assert await client.cancel(handle.id, "undo it", compensate=True)
        assert await client.cancel(handle.id, "undo it", compensate=True), "it will be, as this caller wants too"
        assert not await client.cancel(handle.id, "just stop")
        async with Durable(checked, workflows=[trip.workflow]):
            assert (await failed(client.handle(handle.id))).status == "compensated"
    assert len(undone) == 1


async def test_a_failing_arm_ends_its_sibling_that_is_about_to_sleep_until_its_retry(checked: str) -> None:
    # The sibling's failure is being written when it is cancelled: it must not sleep for an hour after that.
    workflow = Workflow[Data, Data]("asleep")
    both = workflow.parallel("both")
    together = asyncio.Barrier(2)

    @both.step(retry=Retry(2, delay=hours(1)))
    async def sleeper(data: Data) -> None:
        await together.wait()
        raise ConnectionError("later")

    @both.step
    async def failing(data: Data) -> None:
        await together.wait()
        raise ValueError("for good")

    async with Durable(checked, workflows=[workflow]) as engine:
        for _ in range(20):
            error = await failed(await engine.start(workflow, {}))
            assert error.failure.message == "for good"


async def test_an_undo_that_a_refused_end_tells_of_is_not_cancelled_itself(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker has not been told; it finds out because its end is refused, and goes on in the same task.
    undone: list[Data] = []
    going, go_on = asyncio.Event(), asyncio.Event()

    async def undo(data: Data) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await asyncio.sleep(0.01)
        undone.append(data)

    workflow = Workflow[Data, Data]("late")
    workflow.step(compensate=undo, name="book")(silent)

    @workflow.step
    async def last(data: Data) -> None:
        going.set()
        await go_on.wait()

    async with Durable(checked, workflows=[workflow]) as engine:
        monkeypatch.setattr("durable.runtime.herald.TOLD", "nobody listens here")
        handle = await engine.start(workflow, {})
        await asyncio.wait_for(going.wait(), GUARD)
        async with Durable(checked, workflows=[workflow], worker=False) as client:
            assert await client.cancel(handle.id, "why", compensate=True)
        go_on.set()
        assert (await failed(handle)).status == "compensated"
        execution = await engine.get_execution(handle.id, include_steps=True)
        assert [len(c.attempts) for c in execution.compensations] == [1]
    assert undone == [{}]


async def test_data_that_postgresql_refuses_fails_the_execution_and_undoes_it(checked: str) -> None:
    class Broken(JsonCodec):
        def encode(self, value: Any, kind: Any = UNANNOTATED) -> str:
            text = super().encode(value, kind)
            return "no JSON" if "unstorable" in text else text

    undone: list[Data] = []

    async def undo(data: Data) -> None:
        undone.append(data)

    workflow = Workflow[Data, Data]("refused")
    workflow.step(compensate=undo, name="book")(silent)

    @workflow.step
    async def write(data: Data) -> Data:
        return {"value": "unstorable"}

    workflow.step(name="last")(silent)
    async with Durable(checked, workflows=[workflow], codec=Broken()) as engine:
        error = await failed(await engine.start(workflow, {}))
    assert error.status == "compensated"
    assert "json" in error.failure.message
    assert undone == [{}]


async def test_an_execution_that_cannot_be_taken_up_costs_no_slot(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = Workflow[Data, Data]("poisoned")
    workflow.step(name="last")(silent)
    async with Durable(checked, workflows=[workflow], worker=False) as client:
        await client.start_many(workflow, [{"number": number} for number in range(10)])
    read = supervisor.History
    broken = 0

    def history(records: Any) -> Any:
        nonlocal broken
        broken += 1
        if broken <= 2:
            raise RuntimeError("this one cannot be read")
        return read(records)

    monkeypatch.setattr(supervisor, "History", history)
    monkeypatch.setattr(supervisor, "POLL_HEALTHY", 0.2)
    async with Durable(checked, workflows=[workflow], queues={"default": 2}) as engine:
        async with asyncio.timeout(GUARD):
            while (await engine.list_executions(status="completed", limit=20)).items[9:] == []:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)


async def silent(data: Data) -> None: ...


async def test_on_failure_is_not_taken_for_the_step_whose_question_is_taken_back(checked: str) -> None:
    keys: list[str] = []

    async def tell(data: Data) -> None:
        keys.append(durable.context().idempotency_key)

    async def undo(data: Data) -> None:
        """It was begun."""

    workflow = Workflow[Data, Data]("asking", on_failure=tell)

    @workflow.step(compensate=undo, compensate_on="started")
    async def ask(data: Data) -> None:
        await durable.wait_for_text("name")

    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, {}, id="asks")
        async with asyncio.timeout(GUARD):
            while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        assert await handle.cancel("no more", compensate=True)
        assert (await failed(handle)).status == "compensated"
    assert keys == ["asks:tell"]
