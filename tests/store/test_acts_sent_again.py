"""Acts whose replies were lost, while others act: what was done stays done, and is not done over again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import UUID

import pytest

from durable import Durable, ExecutionEnded, UnknownExecution
from durable.ids import new_token
from durable.model.status import Change, stored_sources
from durable.runtime.waiter import Waiter
from durable.store.connection import Connection, Row
from durable.store.executions import Executions
from tests.store import rows
from tests.store.test_lost_replies import World, row_of, world

__all__ = ["world"]

GUARD = 20
FAILED = stored_sources(Change.RETRY)


@asynccontextmanager
async def acting(world: World) -> AsyncIterator[Executions]:
    executions = Executions(world.dsn)
    try:
        yield executions
    finally:
        await executions.close()


async def act(executions: Executions, kind: str, id: UUID, operation: UUID) -> bool:
    """Act, or send that very act again."""
    row: Row | None
    match kind:
        case "pause" | "resume":
            held: Literal["pause", "resume"] = kind
            row = await executions.hold(held, id, operation, "ann", "why")
        case "retry":
            row = await executions.retry(id, operation, "ann", "why", FAILED)
        case "cancel":
            row = row_of(await executions.cancel(id, operation, "why", rows.CANCELLING))
        case _:
            row = row_of(await executions.request_undo(id, operation, "why", rows.CANCELLING))
    assert row is not None
    return bool(row["changed"])


async def fail(world: World, id: UUID) -> None:
    """Run what is ready, and have it fail."""
    token = new_token()
    assert id in {row["execution_id"] for row in await world.worker.take(world.direct, 10, token)}
    (answer,) = await rows.send(world.direct, world.worker.finish, failed(id, token))
    assert answer


def failed(id: UUID, token: UUID) -> tuple[Any, ...]:
    """A failure without a record, for there may be one of a life before."""
    ended = list(rows.failed(id, token))
    ended[5:12] = [None] * 7
    return tuple(ended)


async def state(world: World, id: UUID) -> tuple[str, bool, list[str], list[str]]:
    """How an execution stands, and what was noted of it."""
    row = await world.direct.fetchrow("select status, paused from durable.execution where execution_id = $1", id)
    acts = await world.direct.fetch("select kind from durable.act where execution_id = $1 order by acted_at", id)
    assert row is not None
    return row["status"], row["paused"], await world.places(id), [act["kind"] for act in acts]


# --- Sent again after somebody has turned it back --------------------------------------------------------------------


async def test_a_pause_that_is_sent_again_after_a_resume_pauses_nothing(world: World) -> None:
    new, lost = rows.new(), new_token()
    await rows.send(world.direct, world.worker.start, new.row())
    async with acting(world) as executions:
        assert await act(executions, "pause", new.execution_id, lost)
        assert await act(executions, "resume", new.execution_id, new_token())
        before = await state(world, new.execution_id)
        assert await act(executions, "pause", new.execution_id, lost), "it says that it was done"
    assert await state(world, new.execution_id) == before == ("pending", False, ["ready"], ["pause", "resume"])
    assert len(await world.worker.take(world.direct)) == 1


async def test_a_resume_that_is_sent_again_after_another_pause_lets_nothing_go_on(world: World) -> None:
    new, lost = rows.new(), new_token()
    await rows.send(world.direct, world.worker.start, new.row())
    async with acting(world) as executions:
        assert await act(executions, "pause", new.execution_id, new_token())
        assert await act(executions, "resume", new.execution_id, lost)
        assert await act(executions, "pause", new.execution_id, new_token())
        assert await act(executions, "resume", new.execution_id, lost), "it says that it was done"
    assert await state(world, new.execution_id) == ("pending", True, ["ready"], ["pause", "resume", "pause"])
    assert await world.direct.fetchval("select held_by from durable.ready") == [], "it is still put aside"
    assert await world.worker.take(world.direct) == []


async def test_a_retry_that_is_sent_again_after_another_failure_retries_nothing(world: World) -> None:
    new, lost = rows.new(), new_token()
    await rows.send(world.direct, world.worker.start, new.row())
    await fail(world, new.execution_id)
    async with acting(world) as executions:
        assert await act(executions, "retry", new.execution_id, lost)
        await fail(world, new.execution_id)
        assert await act(executions, "retry", new.execution_id, lost), "it says that it was done"
        assert await state(world, new.execution_id) == ("failed", False, ["ended"], ["retry"])
        assert await act(executions, "retry", new.execution_id, new_token()), "another one is another"


async def test_a_fork_that_is_sent_again_finds_itself_and_starts_nothing(world: World) -> None:
    new, fork = rows.new(), new_token()
    await rows.send(world.direct, world.worker.start, new.row())
    operation = new_token()
    arguments = (new.execution_id, operation, fork, "fork", None, None, "ann", "why", "origin")
    async with acting(world) as executions:
        for _ in range(2):
            (made,) = await executions.fetch("act/fork", *arguments)
            assert made["created"]
            await world.worker.take(world.direct)
        arguments = (new.execution_id, new_token(), *arguments[2:])
        (other,) = await executions.fetch("act/fork", *arguments)
    assert not other["created"], "another fork under that id is refused"
    assert await world.places(fork) == ["claim"]
    assert (await state(world, new.execution_id))[3] == ["fork"]


# --- Sent again after it was refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pause", "resume", "retry", "cancel", "undo"])
async def test_an_act_that_was_refused_is_refused_again_as_long_as_nothing_has_changed(world: World, kind: str) -> None:
    new, lost = rows.new(), new_token()
    await rows.send(world.direct, world.worker.start, new.row())
    async with acting(world) as executions:
        if kind in ("pause", "cancel", "undo"):
            await act(executions, "cancel", new.execution_id, new_token())
        before = await state(world, new.execution_id)
        for _ in range(2):
            assert not await act(executions, kind, new.execution_id, lost)
    assert await state(world, new.execution_id) == before


async def test_an_act_that_was_refused_and_whose_reply_was_lost_is_judged_anew(world: World) -> None:
    new, lost = rows.new(), new_token()
    await rows.send(world.direct, world.worker.start, new.row())
    async with acting(world) as executions:
        assert not await act(executions, "retry", new.execution_id, lost)
        await fail(world, new.execution_id)
        assert await act(executions, "retry", new.execution_id, lost)
        assert await act(executions, "retry", new.execution_id, lost)
    assert await state(world, new.execution_id) == ("pending", False, ["ready"], ["retry"])


# --- In the instant of a retry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    ["pause", "resume", "cancel", "retry", "send_event", "get_execution", "list_children", "provide_input"],
)
async def test_an_execution_is_known_in_the_instant_in_which_another_transaction_retries_it(
    world: World, call: str
) -> None:
    new = rows.new()
    await rows.send(world.direct, world.worker.start, new.row())
    await fail(world, new.execution_id)
    id = str(new.execution_id)
    async with Durable(world.dsn, worker=False) as client:
        calls: dict[str, Any] = {
            "send_event": lambda: client.send_event(id, "go"),
            "provide_input": lambda: client.provide_input(id, "why", "so"),
        }
        async with world.direct.transaction():
            await retried(world.direct, new.execution_id)
            calling = asyncio.ensure_future(calls.get(call, lambda: getattr(client, call)(id))())
            await asyncio.wait([calling, asyncio.ensure_future(blocked(world))], return_when="FIRST_COMPLETED")
        async with asyncio.timeout(GUARD):
            if call == "provide_input":  # which reads what it had been before that
                with pytest.raises(ExecutionEnded):
                    await calling
            else:
                assert bool(await calling) is (call not in ("resume", "retry")), "it goes on, and is not paused"


async def retried(connection: Connection, id: UUID) -> None:
    """Retry within a transaction."""
    assert await rows.run(connection, "execution/lock", id)
    (row,) = await rows.run(connection, "act/retry", id, new_token(), None, None, FAILED)
    assert row["changed"]


async def blocked(world: World) -> None:
    """Until somebody waits for a lock."""
    async with rows.connections(world.dsn, 1) as (direct,):
        while not await direct.fetchval("select exists (select from pg_locks where not granted)"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_who_waits_for_a_result_is_not_told_that_it_is_unknown_while_it_is_retried_again_and_again(
    world: World,
) -> None:
    new = rows.new()
    id = new.execution_id
    await rows.send(world.direct, world.worker.start, new.row())
    await fail(world, id)
    waiter = Waiter(world.proxy.dsn, new_token(), lambda _: False, lambda: 60.0)
    watch, results = rows.load("execution/watch").sql, rows.load("execution/results").sql
    running = asyncio.create_task(waiter.run())
    try:
        looking, fetching = world.proxy.hold(lambda sql: sql == watch), world.proxy.hold(lambda sql: sql == results)
        waiting = asyncio.create_task(waiter.wait(id))
        for _ in range(3):  # at each look it has failed, and when its end is asked for it goes on
            async with asyncio.timeout(GUARD):
                await looking
                looking.release()
                await fetching
            looking, held = world.proxy.hold(lambda sql: sql == watch), fetching
            fetching = world.proxy.hold(lambda sql: sql == results)
            async with world.direct.transaction():
                await retried(world.direct, id)
            held.release()
            async with asyncio.timeout(GUARD):
                await looking
            assert not waiting.done()
            await fail(world, id)
        looking.release()
        fetching.release()
        async with asyncio.timeout(GUARD):
            assert (await waiting).status == "failed"
        with pytest.raises(UnknownExecution):
            async with asyncio.timeout(GUARD):
                await waiter.wait(new_token())
    finally:
        running.cancel()
