"""The invariants themselves: they hold where nothing is wrong, and see what is."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

import durable
from durable import Context, Durable, ExecutionFailed, Retry, Workflow, assign, seconds
from tests.support.invariants import assert_invariants

Data = dict[str, Any]


async def forget(data: Data) -> None:
    pass


looping = Workflow[Data, Data]("looping", retry=Retry(2, delay=seconds(0), jitter=0))
rounds = looping.loop("rounds", until=lambda data: data["n"] == 2, max_iterations=2)


@rounds.step
async def second_time_lucky(data: Data, ctx: Context) -> Data:
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return assign(data, n=data["n"] + 1)


@rounds.step(compensate=forget)
async def silent(data: Data) -> None:
    pass


@looping.step
async def after(data: Data, ctx: Context) -> None:
    if ctx.attempt == 1:
        raise ValueError("not yet")


ending = Workflow[Data, Data]("ending")
ending.step(name="first", compensate=forget)(forget)
both = ending.parallel("both")


@both.arm("arm").step
async def ask(data: Data) -> None:
    await durable.wait_for_approval("boss")


@both.step
async def listen(data: Data) -> None:
    await durable.wait_for_event("never")


async def test_a_question_of_an_arm_that_an_ending_takes_back_breaks_no_law(database: str) -> None:
    async with Durable(database, workflows=[ending]) as engine:
        handle = await engine.start(ending, {}, id="x")
        while not (await engine.list_pending_inputs()).items:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        assert await engine.cancel("x", compensate=True)
        with pytest.raises(ExecutionFailed):
            await handle.result(60)
    connection = await asyncpg.connect(database)
    found = "select seq from durable.journal where kind = $1 and path = $2"
    (failing,) = await connection.fetch(found, "failing", "")
    (taken_back,) = await connection.fetch(found, "expired", "both/arm/ask")
    await connection.close()
    assert taken_back["seq"] > failing["seq"]
    await assert_invariants(database)


@pytest.fixture
async def journal(database: str) -> Any:
    """The database, where `looping` has run."""
    async with Durable(database, workflows=[looping]) as engine:
        handle = await engine.start(looping, {"n": 0})
        assert await handle.result(60) == {"n": 2}
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def test_what_a_loop_keeps_of_an_iteration_that_is_over_breaks_no_law(journal: Any, database: str) -> None:
    kept = await journal.fetch(
        "select attempt, kind from durable.journal where path ~ '^rounds.*/second_time_lucky$' order by seq"
    )
    assert [tuple(row) for row in kept] == [
        (2, "completed"),  # for the data that `silent` left as it was
        (1, "failed"),  # of the last iteration all is kept
        (2, "completed"),
    ]
    await assert_invariants(database)


@pytest.mark.parametrize("missing", ["path = 'after' and kind = 'failed'", "kind = 'iterated'"])
async def test_an_attempt_that_is_missing_elsewhere_is_seen(journal: Any, database: str, missing: str) -> None:
    await journal.execute(f"delete from durable.journal where {missing}")
    with pytest.raises(AssertionError, match="no_attempt_after_the_result"):
        await assert_invariants(database)


async def test_data_that_a_compensation_would_miss_is_seen(journal: Any, database: str) -> None:
    await journal.execute(
        "delete from durable.journal where (execution_id, seq) in (select execution_id, data_seq from durable.journal)"
    )
    with pytest.raises(AssertionError, match="data_of_a_compensation_is_kept"):
        await assert_invariants(database)
