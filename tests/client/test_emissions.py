"""Emissions on a real engine: events without an address reach whoever waits for what is in them."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

import durable
from durable import Durable, ExecutionFailed, PayloadTooLarge, Status, UsageError, Workflow, hours, minutes, seconds
from durable.runtime.postman import Postman
from tests.client.test_waiting import GUARD, checked, flow, until

__all__ = ["checked"]

Data = dict[str, Any]


async def pays(order: Data) -> Any:
    return await durable.wait_for_event("paid", match={"order": order["id"], "test": False})


async def waiting(engine: Durable, *ids: str) -> None:
    for id in ids:
        await until(engine, id, Status.WAITING)


async def test_an_emission_reaches_those_who_wait_for_what_is_in_it_and_nobody_else(checked: str) -> None:
    workflow = flow(pays)
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):
        handles = {
            id: await engine.start(workflow, {"id": order}, id=id) for id, order in (("a", 1), ("b", 2), ("c", 1))
        }
        await waiting(engine, *handles)
        assert (await engine.get_execution("a")).waits_for == ["paid"]
        for payload in ({"order": 1}, {"order": 1, "test": True}, {"order": "1", "test": False}, [1], None):
            await client.emit("paid", payload)
        await client.emit("other", {"order": 1, "test": False})
        await client.emit("paid", {"order": 1, "test": False, "sum": [12, None]})
        for id in ("a", "c"):
            assert await handles[id].result(GUARD) == {"order": 1, "test": False, "sum": [12, None]}
        assert await handles["b"].status() is Status.WAITING
        await engine.emit("paid", {"order": 2, "test": False})
        assert await handles["b"].result(GUARD) == {"order": 2, "test": False}


async def test_an_emission_before_the_wait_is_found_by_looking_back_and_only_so(checked: str) -> None:
    async def wait(data: Data) -> Any:
        back = minutes(5) if data["back"] else None
        return await durable.wait_for_event(
            "go", match={"id": 1}, lookback=back, timeout=seconds(0.5), timeout_value="nothing"
        )

    workflow = flow(wait)
    async with Durable(checked, workflows=[workflow]) as engine:
        await engine.emit("go", {"id": 1, "number": 1})
        await engine.emit("go", {"id": 1, "number": 2})
        looks, looks_not = [await engine.start(workflow, {"back": back}) for back in (True, False)]
        assert await looks.result(GUARD) == {"id": 1, "number": 1}
        assert await looks_not.result(GUARD) == "nothing"
    connection = await asyncpg.connect(checked)
    assert await connection.fetchval("select count(*) from durable.subscription") == 0
    await connection.close()


@pytest.mark.parametrize("deaf", [False, True])
async def test_an_event_that_is_emitted_with_a_commit_or_from_sql(
    checked: str, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    if deaf:
        monkeypatch.setattr("durable.runtime.supervisor.POLL_HEALTHY", 1.0)
    workflow = flow(pays)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        first, second = [await engine.start(workflow, {"id": number}, id=f"{number}") for number in range(2)]
        await waiting(engine, "0", "1")
        transaction = connection.transaction()
        await transaction.start()
        await engine.emit("paid", {"order": 0, "test": False, "rolled": "back"}, connection=connection)
        await transaction.rollback()
        async with connection.transaction():
            payload = {"order": 0, "test": False, "odd": "\0"}  # which jsonb cannot hold, but json can
            await engine.emit("paid", payload, connection=connection, notify=not deaf)
        assert await first.result(GUARD) == payload
        text = '{"order": 1, "test": false, "odd": "é"}'
        await connection.execute("select durable.emit('paid', $1, $2)", text, not deaf)
        assert await second.result(GUARD) == {"order": 1, "test": False, "odd": "é"}
    await connection.close()


async def test_each_wait_gets_one_emission_and_the_next_wait_another(checked: str) -> None:
    async def two(data: Any) -> Any:
        first = await durable.wait_for_event("go", match={})
        return [first, await durable.wait_for_event("go", match={})]

    workflow = flow(two)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        for number in range(2):
            async with asyncio.timeout(GUARD):
                while await registered(checked) != number + 1:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
            await engine.emit("go", number)
            await until(engine, handle.id, Status.WAITING if number == 0 else Status.COMPLETED)
        assert await handle.result(GUARD) == [0, 1]


async def counted(dsn: str, rows: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(f"select count(*) from {rows}")
    finally:
        await connection.close()


async def registered(dsn: str) -> int:
    """How many waits have been registered by now, those that have their answer included."""
    return await counted(dsn, "durable.journal where kind = 'waiting'")


async def subscriptions(dsn: str) -> int:
    return await counted(dsn, "durable.subscription")


async def test_one_emission_reaches_a_thousand(checked: str) -> None:
    async def wait(data: int) -> Any:
        return (await durable.wait_for_event("all", match={"kind": "x"}))["n"]

    workflow = flow(wait)
    async with Durable(checked, workflows=[workflow]) as engine:
        handles = await engine.start_many(workflow, list(range(1_000)))
        async with asyncio.timeout(GUARD):
            while await subscriptions(checked) < 1_000:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        await engine.emit("all", {"kind": "x", "n": 5})
        assert [await handle.result(GUARD) for handle in handles] == [5] * 1_000


async def test_emissions_and_registrations_at_the_same_time_never_miss_each_other(checked: str) -> None:
    async def wait(data: int) -> Any:
        return (await durable.wait_for_event("go", match={"n": data}, lookback=hours(1)))["n"]

    workflow = flow(wait)
    async with (
        Durable(checked, workflows=[workflow]) as engine,
        Durable(checked, workflows=[workflow]) as other,
        Durable(checked, workflows=[workflow], worker=False) as client,
    ):

        async def emit(number: int) -> None:
            await asyncio.sleep(number % 7 * 0.003)
            await client.emit("go", {"n": number})

        async def start(number: int) -> Any:
            await asyncio.sleep(number % 5 * 0.004)
            return await (engine, other)[number % 2].start(workflow, number)

        results = await asyncio.gather(*(start(n) for n in range(300)), *(emit(n) for n in range(300)))
        assert [await handle.result(GUARD) for handle in results[:300]] == list(range(300))


async def test_what_cannot_be_emitted_or_matched_is_refused(checked: str) -> None:
    async def wait(data: Any) -> Any:
        match data:
            case "lookback":
                return await durable.wait_for_event("go", lookback=minutes(1))
            case "far":
                return await durable.wait_for_event("go", match={}, lookback=hours(2))
            case "many":
                return await durable.wait_for_event("go", match={f"{n}": n for n in range(9)})
            case _:
                return await durable.wait_for_event("go", match={"a": [1]})

    workflow: Workflow[Any, Any] = flow(wait)
    async with Durable(checked, workflows=[workflow], max_payload=1_000) as engine:
        for data in ("lookback", "far", "many", "list"):
            with pytest.raises(ExecutionFailed, match="UsageError"):
                await (await engine.start(workflow, data)).result(GUARD)
        with pytest.raises(PayloadTooLarge):
            await engine.emit("go", "x" * 1_000)
        with pytest.raises(UsageError):
            await engine.emit("", 1)


async def test_what_was_emitted_long_ago_is_forgotten(checked: str) -> None:
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[flow(pays)]) as engine:
        await connection.execute(
            "insert into durable.emission (operation, emitted_at, spread, topic, keys, payload) "
            "select gen_random_uuid(), now() - interval '2 hours', true, 'old', '{}', '1' from generate_series(1, 50)"
        )
        await engine.emit("new", 1)
        async with asyncio.timeout(GUARD):
            while await connection.fetchval("select count(*) from durable.emission") != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await connection.close()


async def test_an_emission_counts_from_its_commit_and_not_from_its_call(checked: str) -> None:
    workflow = flow(pays)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        async with connection.transaction():
            await engine.emit("paid", {"order": 1, "test": False}, connection=connection)
            handle = await engine.start(workflow, {"id": 1})
            await until(engine, handle.id, Status.WAITING)
        assert await handle.result(GUARD) == {"order": 1, "test": False}
    await connection.close()


async def test_an_emission_whose_call_has_returned_beats_the_timeout(
    checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = Postman._deliver  # pyright: ignore[reportPrivateUsage]

    async def slowly(self: Postman) -> Any:
        await asyncio.sleep(1)
        return await deliver(self)

    async def wait(data: Any) -> Any:
        return await durable.wait_for_event("go", match={}, timeout=seconds(0.6), timeout_value="nothing")

    monkeypatch.setattr(Postman, "_deliver", slowly)
    workflow = flow(wait)
    async with Durable(checked, workflows=[workflow]) as engine:
        handle = await engine.start(workflow, 1)
        await until(engine, handle.id, Status.WAITING)
        await engine.emit("go", "in time")
        assert await handle.result(GUARD) == "in time"


async def test_numbers_match_by_their_value(checked: str) -> None:
    async def wait(data: Any) -> Any:
        return await durable.wait_for_event("go", match={"sum": data})

    workflow = flow(wait)
    connection = await asyncpg.connect(checked)
    async with Durable(checked, workflows=[workflow]) as engine:
        for number, payload in ((20.0, "20"), (12.5, "12.50"), (7, "7.0")):
            handle = await engine.start(workflow, number)
            await until(engine, handle.id, Status.WAITING)
            await connection.execute("select durable.emit('go', $1::text::json)", f'{{"sum": {payload}}}')
            assert (await handle.result(GUARD))["sum"] == number
    await connection.close()
