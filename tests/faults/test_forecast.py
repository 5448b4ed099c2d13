"""What is forecast of a deploy is what the deploy does."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from durable import Durable, Workflow, wait_for_event
from durable.forecast import Verdict, forecast
from durable.ids import shown_id
from tests.support.crew import Crew
from tests.support.programs.deploy import STOPS, flows

EXECUTIONS = 1_000
GUARD = 90

WAITING = "select count(*) from durable.execution where status = 'waiting'"
OVER = """
select count(*) filter (where e.ended_at is not null) + count(*) filter (where r.held_by is not null) +
       count(*) filter (where r.execution_id is not null and e.workflow = 'dropped')
  from durable.execution e left join durable.ready r using (execution_id)
"""
BECAME = """
select e.execution_id, e.name, e.workflow, e.status, e.error->>'message' as error, r.held_by is not null as held,
       r.hold_reason as reason, r.execution_id is not null as ready,
       (select j.path from durable.journal j where j.execution_id = e.execution_id order by j.seq desc limit 1) as last
  from durable.execution e left join durable.ready r using (execution_id)
"""


async def until(connection: asyncpg.Connection[Any], statement: str, count: int) -> None:
    async with asyncio.timeout(GUARD):
        while await connection.fetchval(statement) != count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


async def begin_executions(dsn: str) -> list[str]:
    """Start them as evenly among all ways of standing somewhere as their number allows."""
    ways = [(workflow, data) for workflow, stops in STOPS.items() for data in stops]
    known = {workflow.name: workflow for workflow in flows("before")}
    ids: list[str] = []
    async with Durable(dsn, workflows=list(known.values()), worker=False) as client:
        for place, (name, data) in enumerate(ways):
            some = [f"{name}-{place}-{number}" for number in range(EXECUTIONS)[place :: len(ways)]]
            await client.start_many(known[name], [data] * len(some), ids=some)
            ids += some
    assert len(ids) == EXECUTIONS
    return ids


async def test_a_deploy_amid_a_thousand_waiting_executions_follows_its_forecast_exactly(
    database: str, crew: Crew
) -> None:
    connection = await asyncpg.connect(database)
    ids = await begin_executions(database)
    old = [await crew.run_program("tests.support.programs.deploy", database, "before") for _ in range(2)]
    await until(connection, WAITING, EXECUTIONS)

    verdicts: dict[str, Verdict] = {}
    steps: list[tuple[int, int]] = []
    told = await forecast(
        database,
        flows("after"),
        each=lambda verdict: verdicts.__setitem__(verdict.id, verdict),
        progress=lambda done, whole: steps.append((done, whole)),
    )
    assert steps[-1] == (EXECUTIONS, EXECUTIONS)
    assert sorted(verdicts) == sorted(ids)
    outcomes = Counter(verdict.outcome for verdict in verdicts.values())
    assert (told.resume, told.held, told.fail) == (outcomes["resumes"], outcomes["held"], outcomes["fails"])
    assert not told.ok
    assert min(outcomes.values()) > 40, "each outcome is among them"
    assert await connection.fetchval(WAITING) == EXECUTIONS, "the forecast has changed nothing"

    for program in old:
        program.terminate()
        await program.wait()
    for _ in range(2):
        await crew.run_program("tests.support.programs.deploy", database, "after")
    async with Durable(database, worker=False) as client:
        for id in ids:
            await client.send_event(id, "go")
    await until(connection, OVER, EXECUTIONS)

    for row in await connection.fetch(BECAME):
        verdict = verdicts[shown_id(row["execution_id"], row["name"])]
        became = (row["status"], row["held"], row["reason"])
        match verdict.outcome:
            case "resumes":
                assert became == ("completed", False, None), verdict
            case "held" if row["workflow"] == "dropped":
                assert became == ("pending", False, None), verdict
                assert row["ready"], verdict
            case "held":
                assert became == ("pending", True, verdict.reason), verdict
            case "fails":
                assert (row["status"], row["held"]) == ("failed", False), verdict
                assert verdict.reason in row["error"], verdict
                assert row["last"] == verdict.at, verdict
    await connection.close()


async def standing(dsn: str, *names: str, ids: list[str]) -> None:
    """Executions of `order` that wait in the second of its steps."""
    order = build(*names, stop=names[1])
    async with Durable(dsn, workflows=[order]) as engine:
        for id in ids:
            await engine.start(order, {"id": id}, id=id)
        async with asyncio.timeout(GUARD):
            while len((await engine.list_executions(status="waiting")).items) < len(ids):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)


def build(*names: str, stop: str | None = None, kind: Any = dict[str, Any]) -> Workflow[Any, Any]:
    order = Workflow[Any, Any]("order")
    for name in names:

        async def body(data: Any, name: str = name) -> Any:
            if name == stop:
                await wait_for_event("go")
            return data

        body.__annotations__ = {"data": kind, "name": str, "return": Any}
        order.step(name=name)(body)
    return order


async def test_a_broken_definition_names_the_executions_that_would_be_held_their_step_and_why(database: str) -> None:
    await standing(database, "check", "pay", "ship", ids=["order-1", "order-2"])
    told = await forecast(database, [build("check", "pay", "deliver")])
    (order,) = told.workflows
    assert (order.workflow, order.in_flight, order.resume, order.held, told.ok) == ("order", 2, 0, 2, False)
    (hold,) = order.holds
    assert (hold.at, hold.executions) == ("pay", 2)
    assert sorted(hold.ids) == ["order-1", "order-2"]
    assert hold.reason == 'expected step "ship" still to come, found step "deliver"'


async def test_a_workflow_that_is_missing_holds_its_executions_unless_another_program_runs_it(database: str) -> None:
    await standing(database, "check", "pay", ids=["order-1"])
    told = await forecast(database, [])
    assert told.workflows[0].holds[0].reason == 'expected workflow "order" version 1, found no workflow of that name'
    assert (await forecast(database, [], elsewhere=["order"])).ok


async def test_code_that_has_not_changed_resumes_all(database: str) -> None:
    await standing(database, "check", "pay", ids=["order-1"])
    told = await forecast(database, [build("check", "pay")])
    assert told.ok
    assert (told.in_flight, told.resume) == (1, 1)


async def test_the_data_that_the_next_step_cannot_read_is_named_by_path_and_reason(database: str) -> None:
    await standing(database, "check", "pay", ids=["order-1"])
    told = await forecast(database, [build("check", "pay", kind=dict[str, int])])
    (order,) = told.workflows
    (unreadable,) = order.unreadable
    assert (order.fail, unreadable.at, unreadable.ids, unreadable.later) == (1, "pay", ["order-1"], False)
    assert unreadable.reason == "$[...]: expected int, got str"


async def test_what_was_held_and_would_go_on_is_counted(database: str) -> None:
    await standing(database, "check", "pay", ids=["order-1"])
    broken = build("check", "other")
    async with Durable(database, workflows=[broken]) as engine:
        await engine.send_event("order-1", "go")
        async with asyncio.timeout(GUARD):
            while (await engine.get_execution("order-1")).hold is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
    assert (await forecast(database, [broken])).workflows[0].held == 1
    assert (await forecast(database, [build("check", "pay")])).workflows[0].released == 1


@pytest.mark.parametrize("page", [1, 3])
async def test_pages_that_are_smaller_than_what_is_in_flight_give_the_same_forecast(
    database: str, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    await standing(database, "check", "pay", ids=[f"order-{n}" for n in range(7)])
    broken = [build("check", "deliver")]
    whole = await forecast(database, broken)
    monkeypatch.setattr("durable.forecast.PAGE", page)
    monkeypatch.setattr("durable.forecast.JOURNAL_PAGE", page)
    assert await forecast(database, broken) == whole
