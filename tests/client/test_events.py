"""Events on a real engine: delivered once, in order, whenever they are sent and by whomever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

import durable
from durable import (
    Durable,
    ExecutionEnded,
    PayloadTooLarge,
    Status,
    UnknownExecution,
    UsageError,
    WaitTimeout,
    Workflow,
    days,
    hours,
    seconds,
)
from durable.runtime import owned
from durable.runtime.listener import Listener
from tests.client.test_waiting import GUARD, checked, flow, until

__all__ = ["checked"]


async def wait_for_go(data: Any) -> Any:
    return await durable.wait_for_event("go")


async def test_an_event_from_another_process_wakes_the_execution(checked: str) -> None:
    workflow = flow(wait_for_go)
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, "x", Status.WAITING)
        seen = await engine.get_execution("x", include_steps=True)
        assert (seen.waits_for, seen.wake_at) == (["go"], None)
        assert await client.send_event("x", "other", 1)
        assert await client.send_event("x", "go", {"a": [1, None]})
        assert await handle.result(GUARD) == {"a": [1, None]}
        steps = (await engine.get_execution("x", include_steps=True)).steps
    assert steps is not None
    assert [(effect.kind, effect.result) for effect in steps[0].effects] == [
        ("waiting", None),
        ("answered", {"go": {"a": [1, None]}}),
    ]


async def test_an_event_sent_before_the_wait_is_delivered(checked: str) -> None:
    workflow = flow(wait_for_go)
    async with Durable(checked, workflows=[workflow], worker=False) as client:
        handle = await client.start(workflow, 1)
        for number in range(3):
            assert await handle.send_event("go", number)
        async with Durable(checked, workflows=[workflow]):
            assert await handle.result(GUARD) == 0, "the first that was sent is the first delivered"


async def test_an_event_is_sent_once_under_one_dedupe_key(checked: str) -> None:
    async def both(data: Any) -> Any:
        first = await durable.wait_for_event("go")
        return [first, await durable.wait_for_event("go", timeout=seconds(0.5), timeout_value="no other")]

    workflow = flow(both)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        sent = await asyncio.gather(*(handle.send_event("go", "it", dedupe_key="a") for _ in range(5)))
        assert sorted(sent) == [False] * 4 + [True]
        await until(engine, handle.id, Status.WAITING)
        assert not await handle.send_event("go", "it", dedupe_key="a"), "also when it is consumed"
        assert await handle.result(GUARD) == ["it", "no other"]
        assert not await handle.send_event("go", "it", dedupe_key="a"), "also when the execution has ended"


async def test_an_event_to_nobody_is_an_error_that_says_so(checked: str) -> None:
    workflow = flow(wait_for_go)
    async with Durable(checked, workflows=[workflow], max_payload=1_000) as engine:
        with pytest.raises(UnknownExecution, match="'nobody'"):
            await engine.send_event("nobody", "go")
        handle = await engine.start(workflow, 1, id="x")
        with pytest.raises(PayloadTooLarge):
            await handle.send_event("go", "x" * 1_000)
        with pytest.raises(UsageError, match="name of an event"):
            await handle.send_event("", 1)
        await handle.send_event("go")
        assert await handle.result(GUARD) == 1, "a step that returns None leaves the data as it was"
        with pytest.raises(ExecutionEnded, match="'x' has ended"):
            await handle.send_event("go")


async def test_events_that_are_refused_do_not_keep_others_from_being_sent(checked: str) -> None:
    workflow = flow(wait_for_go)
    async with Durable(checked, workflows=[workflow]) as engine:
        handles = [await engine.start(workflow, n) for n in range(20)]
        sent = await asyncio.gather(
            *(handle.send_event("go", n) for n, handle in enumerate(handles)),
            *(engine.send_event(f"nobody {n}", "go") for n in range(20)),
            return_exceptions=True,
        )
        assert sent[:20] == [True] * 20
        assert all(isinstance(error, UnknownExecution) for error in sent[20:])
        assert [await handle.result(GUARD) for handle in handles] == [0, *range(1, 20)]


async def test_an_arm_goes_on_at_once_when_its_event_comes_while_a_sibling_is_busy(checked: str) -> None:
    went_on = asyncio.Event()
    workflow = Workflow[Any, Any]("flow")
    both = workflow.parallel("both", merge="collect")

    @both.step
    async def waiting(data: Any) -> Any:
        event = await durable.wait_for_event("go", timeout=days(1))
        went_on.set()
        return event

    @both.step
    async def busy(data: Any) -> str:
        await went_on.wait()
        return "was busy"

    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handle = await engine.start(workflow, 1)
        await asyncio.sleep(0.3)  # long enough to be waiting in place
        await client.send_event(handle.id, "go", "now")
        assert await handle.result(GUARD) == {"waiting": "now", "busy": "was busy"}


async def test_an_event_between_not_there_yet_and_asleep_wakes_the_execution(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = flow(wait_for_go)
    suspend = owned.Writes.suspend
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        sent = 0

        async def after_an_event(self: owned.Writes, execution_id: Any, *args: Any, **more: Any) -> Any:
            nonlocal sent
            if not sent:
                sent += 1
                await client.send_event(str(execution_id), "go", "in between")
            return await suspend(self, execution_id, *args, **more)

        monkeypatch.setattr(owned.Writes, "suspend", after_an_event)
        assert await (await engine.start(workflow, 1)).result(GUARD) == "in between"
        assert sent == 1


@pytest.mark.parametrize("deaf", [False, True])
async def test_an_event_sent_with_the_commit_of_a_transaction(
    checked: str, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    if deaf:
        monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 1.0)
    workflow = flow(wait_for_go)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        await until(engine, "x", Status.WAITING)
        transaction = connection.transaction()
        await transaction.start()
        await engine.send_event("x", "go", "rolled back", connection=connection)
        await transaction.rollback()
        async with connection.transaction():
            assert await engine.send_event("x", "go", "committed", connection=connection, notify=not deaf)
            await connection.execute("select pg_sleep(0.2)")
            assert await handle.status() is Status.WAITING
            # The execution is not locked meanwhile: others may send, and it may end.
            assert await engine.send_event("x", "other")
        assert await handle.result(GUARD) == "committed"
        async with connection.transaction():
            with pytest.raises(ExecutionEnded):
                await engine.send_event("x", "go", connection=connection)
            with pytest.raises(UnknownExecution):
                await engine.send_event("nobody", "go", connection=connection)
            assert await connection.fetchval("select 1") == 1, "the caller's transaction is not aborted by that"
    await connection.close()


async def test_an_event_from_sql(checked: str) -> None:
    workflow = flow(wait_for_go)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="order 5")
        for _ in range(2):
            await connection.execute("select durable.send_event('order 5', 'go', '{\"sum\": 5}', 'a key')")
        assert await handle.result(GUARD) == {"sum": 5}
        assert await connection.fetchval("select count(*) from durable.message") == 1
    await connection.close()


async def test_a_dedupe_key_counts_for_its_event_alone(checked: str) -> None:
    workflow = flow(wait_for_go)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow], worker=False) as client:
        await client.start(workflow, 1, id="x")
        assert await client.send_event("x", "a", 1, dedupe_key="b:c")
        assert await client.send_event("x", "a:b", 1, dedupe_key="c"), "another event with another key"
        assert not await client.send_event("x", "a", 1, dedupe_key="b:c", connection=connection), "the same from SQL"
        assert await client.send_event("x", "ä", 1, dedupe_key="c")
        assert not await client.send_event("x", "ä", 1, dedupe_key="c", connection=connection)
        with pytest.raises(UsageError, match="dedupe_key"):
            await client.send_event("x", "a", dedupe_key="k" * 201)
        for name, key in (("a", "k" * 201), ("n" * 201, None), ("", None)):
            with pytest.raises(asyncpg.exceptions.InvalidParameterValueError, match="200 characters"):
                await connection.execute("select durable.send_event('x', $1, null, $2)", name, key)
    await connection.close()


async def test_what_cannot_be_delivered_does_not_hold_up_what_was_posted_after_it(checked: str) -> None:
    workflow = flow(wait_for_go)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1, id="x")
        async with connection.transaction():
            # Something that no index row can hold: send_event refuses it, a fault of ours might not.
            await connection.execute(
                "insert into durable.posted (execution_id, topic, once, payload) "
                "select durable.execution_id('x'), 'event:go', string_agg(md5(n::text), ''), '1' from generate_series(1, 999) n"
            )
            for number in range(3):
                await engine.send_event("x", "go", number, connection=connection)
        assert await handle.result(GUARD) == 0
        assert "index" in await connection.fetchval("select refused from durable.posted")
    await connection.close()


async def test_many_big_events_are_delivered_in_their_order(checked: str) -> None:
    async def collect(data: Any) -> Any:
        return [(await durable.wait_for_event("part"))[0] for _ in range(data)]

    workflow = flow(collect)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow], worker=False) as client:
        handle = await client.start(workflow, 150)
        async with connection.transaction():
            for number in range(150):
                await client.send_event(handle.id, "part", [number, "x" * 100_000], connection=connection)
        async with Durable(checked, workflows=[workflow]):
            assert await handle.result(GUARD) == list(range(150))
    await connection.close()


@dataclass
class Payment:
    amount: int


async def test_a_payload_is_read_as_what_the_body_says(checked: str) -> None:
    async def wait(data: Any) -> Any:
        payment = await durable.wait_for_event("paid", type=Payment)
        assert isinstance(payment, Payment)
        return payment.amount

    workflow = flow(wait)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        await handle.send_event("paid", Payment(5))
        assert await handle.result(GUARD) == 5
        other = await engine.start(workflow, 1)
        await other.send_event("paid", {"amount": "a lot"})
        with pytest.raises(durable.ExecutionFailed, match="the event 'paid' is not what the body takes"):
            await other.result(GUARD)


async def test_what_is_waited_for_in_time_is_got_and_what_is_not_times_out_once(checked: str) -> None:
    async def wait(data: Any) -> Any:
        found: list[Any] = [
            await durable.wait_for_any(["a", "b"], timeout=seconds(0.4), timeout_value=None),
            await durable.wait_for_all(["a", "b"], timeout=seconds(0.4), timeout_value="nothing"),
        ]
        try:
            await durable.wait_for_event("a", timeout=seconds(0.4))
        except WaitTimeout:
            found.append("too late")
        return [*found, await durable.wait_for_any(["a", "b"], timeout=hours(1))]

    workflow = flow(wait)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        async with asyncio.timeout(GUARD):
            while (await engine.get_execution(handle.id)).waits_for != ["a", "b"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while len((await engine.get_execution(handle.id, include_steps=True)).steps[0].effects) < 7:  # type: ignore[index] # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await handle.send_event("b", "at last")
        assert await handle.result(GUARD) == [None, "nothing", "too late", ["b", "at last"]]


async def test_an_event_whose_call_has_returned_beats_the_timeout(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is sent at the last moment, and nobody tells the worker of it."""
    workflow, busy = Workflow[Any, Any]("flow"), asyncio.Event()
    both = workflow.parallel("both", merge="collect")

    @both.step
    async def wait(data: Any) -> Any:
        return await durable.wait_for_event("go", timeout=seconds(0.3), timeout_value="nothing")

    @both.step
    async def work(data: Any) -> Any:  # while this is busy, the wait is not put to sleep: its worker keeps the time
        await busy.wait()

    fetch_mail, sent = owned.Owned.fetch_mail, []

    async def after_an_event(self: owned.Owned, mail: int = 0) -> None:
        if not sent:
            sent.append(await client.send_event("x", "go", "in time"))
        await fetch_mail(self, mail)
        busy.set()

    monkeypatch.setattr(owned.Owned, "fetch_mail", after_an_event)
    monkeypatch.setattr(Listener, "send", lambda *_: None)
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handle = await engine.start(workflow, 1, id="x")
        assert (await handle.result(GUARD))["wait"] == "in time"


async def test_a_cancelled_execution_waits_for_nothing_any_more(checked: str) -> None:
    workflow = flow(wait_for_go)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        await until(engine, handle.id, Status.WAITING)
        assert await handle.cancel("enough")
        with pytest.raises(durable.ExecutionCancelled):
            await handle.result(GUARD)
        with pytest.raises(ExecutionEnded):
            await handle.send_event("go")


async def test_a_deadline_strikes_while_an_event_is_waited_for(checked: str) -> None:
    workflow = Workflow[Any, Any]("flow", timeout=seconds(0.6))
    workflow.step(wait_for_go)
    async with Durable(checked, workflows=[workflow]) as engine:
        with pytest.raises(durable.ExecutionFailed, match="timeout"):
            await (await engine.start(workflow, 1)).result(GUARD)
