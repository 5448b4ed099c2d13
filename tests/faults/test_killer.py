"""A step that kills its process, over and over, with others in flight beside it."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, ExecutionFailed
from tests.support.crew import Crew, Program
from tests.support.flows import killer, planned, three
from tests.support.ledger import Ledger

BYSTANDERS = 6
MAX_CRASHES = 3
OPTIONS = {"lease": 1.5, "max_crashes": MAX_CRASHES}


async def _post(crew: Crew, program: Program) -> None:
    """Keep a post filled: whenever its worker dies, another comes."""
    for _ in range(MAX_CRASHES + 2):
        await program.wait(timeout=120)
        program = await crew.start(**OPTIONS)
    pytest.fail(f"workers die more often than {MAX_CRASHES} times:\n{program.output}")


async def test_a_step_that_kills_its_process_is_given_up_after_max_crashes_while_its_neighbours_complete(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    first = await crew.start(**OPTIONS)
    neighbours = [await client.start(three, planned(two={"stuck": 1}), id=f"neighbour-{i}") for i in range(BYSTANDERS)]
    for neighbour in neighbours:
        await first.message("begin", path="two", execution=neighbour.id)
    culprit = await client.start(killer, {}, id="culprit")
    await first.wait()
    second, third = await crew.start_two(**OPTIONS)

    async with asyncio.TaskGroup() as posts:
        kept = [posts.create_task(_post(crew, program)) for program in (second, third)]
        with pytest.raises(ExecutionFailed) as raised:
            await culprit.result(90)
        results = [await neighbour.result(60) for neighbour in neighbours]
        for post in kept:
            post.cancel()

    assert raised.value.failure.type == "durable.errors.WorkerCrashed"
    entries = await ledger.entries("culprit")
    assert [(e.what, e.attempt) for e in entries] == [("begin", 1)] * MAX_CRASHES
    assert len({e.pid for e in entries}) == MAX_CRASHES
    assert [(r["kind"], r["attempt"]) for r in await ledger.journal("culprit")] == [("failed", 1)]
    for neighbour, result in zip(neighbours, results, strict=True):
        assert (result["one"], result["two"], result["last"]) == (1, 1, 1)
        runs = [e.pid for e in await ledger.entries(neighbour.id, "two") if e.what == "begin"]
        assert runs[0] == first.pid
        assert len(runs) > 1, "it was in flight in the first crash"
    assert await ledger.begun_after_their_record() == []
