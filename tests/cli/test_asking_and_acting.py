"""Each command that asks or acts, by a user who reads what it says and a program that reads its JSON."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from typer.testing import CliRunner

from durable import Durable, Queue, Status
from durable.cli.commands import declare
from tests.cli import shop
from tests.cli.calling import APP, Caller, calling

GUARD = 30
ORDER: dict[str, Any] = {"id": "7", "items": [{"price": 1200}, {"price": 350}]}


async def until(engine: Durable, id: str, status: Status) -> None:
    async with asyncio.timeout(GUARD):
        while (await engine.get_execution(id)).status is not status:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def waiting(engine: Durable, *ids: str) -> None:
    for id in ids:
        await engine.start(shop.orders, ORDER, id=id, tags={"tenant": "acme"})
    for id in ids:
        await until(engine, id, Status.WAITING)


# --- start ----------------------------------------------------------------------------------------------------------


async def test_start_needs_no_code_for_what_a_worker_has_registered(durable: Caller, engine: Durable) -> None:
    said = await durable("start", "process_order", '{"id": "7", "items": []}', "--id", "order-7", "--tag", "n=1")
    assert (said.status, said.out) == (0, "order-7\n")
    assert (await engine.get_execution("order-7")).tags == {"n": 1}
    again = await durable("start", "process_order", "{}", "--id", "order-7", "--json")
    assert again.json == {"id": "order-7", "created": False}


async def test_start_with_code_checks_the_data(durable: Caller, engine: Durable) -> None:
    said = await durable("start", "double", "21", "--app", APP, "--wait")
    assert (said.status, said.json) == (0, 42)
    wrong = await durable("start", "double", '"many"', "--app", APP)
    assert wrong.status == 2
    assert "the data does not fit what 'double' takes: $: expected int, got str" in wrong.err


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["start", "nothing", "{}"], 3, 'no program has registered workflow "nothing"'),
        (["start", "nothing", "{}", "--app", APP], 3, "It has: double, listen, parcel, process_order."),
        (["start", "double", "{"], 2, "this is not JSON"),
        (["start", "double", "@nowhere.json"], 2, "nowhere.json cannot be read"),
        (["start", "double", "1", "--delay", "soon"], 2, "Write it like 90s"),
        (["start", "double", "1", "--tag", "x"], 2, "Write it as key=value"),
        (["start", "process_order", "{}", "--id", "taken"], 4, 'execution "taken" exists already'),
    ],
)
async def test_start_refuses_and_says_what_to_do(
    durable: Caller, engine: Durable, words: list[str], status: int, told: str
) -> None:
    await engine.start(shop.quick, 1, id="taken")
    said = await durable(*words)
    assert (said.status, said.out) == (status, "")
    assert told in said.err


async def test_start_is_refused_by_a_full_queue(durable: Caller, database: str) -> None:
    full = {"full": Queue(max_depth=1)}
    async with Durable(database, workflows=[shop.quick], queues=full, worker=False) as client:
        await client.start(shop.quick, 1, queue="full")
    said = await durable("start", "double", "1", "--queue", "full")
    assert said.status == 4
    assert 'queue "full" is full' in said.err


async def test_start_takes_data_from_the_standard_input_and_waits_no_longer_than_it_is_told(
    durable: Caller, engine: Durable
) -> None:
    words = ["start", "process_order", "-", "--id", "x", "--wait", "--timeout", "200ms"]
    said = await durable(*words, stdin='{"id": 1, "items": []}')
    assert said.status == 1
    assert "x has not ended in time; it goes on." in said.err


# --- list, show -----------------------------------------------------------------------------------------------------


async def test_list_shows_and_filters(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-1", "order-2")
    await (await engine.start(shop.quick, 1, id="quick")).result(GUARD)
    said = await durable("list")
    assert [line.split()[:3] for line in said.out.splitlines()] == [
        ["ID", "WORKFLOW", "STATUS"],
        ["quick", "double", "completed"],
        ["order-2", "process_order", "waiting"],
        ["order-1", "process_order", "waiting"],
    ]
    assert "quick" not in (await durable("list", "--status", "waiting")).out
    assert "order" not in (await durable("list", "--workflow", "double")).out
    assert "quick" not in (await durable("list", "--tag", "tenant=acme")).out
    page = (await durable("list", "-n", "1", "--json")).json
    assert [item["id"] for item in page["items"]] == ["quick"]
    following = (await durable("list", "-n", "1", "--json", "--cursor", page["cursor"])).json
    assert [item["id"] for item in following["items"]] == ["order-2"]
    wrong = await durable("list", "--status", "lost")
    assert wrong.status == 2
    assert "The statuses are: pending, running" in wrong.err


async def test_show_draws_what_steps_have_logged_if_it_is_asked_to(durable: Caller, engine: Durable) -> None:
    await (await engine.start(shop.quick, 1, id="quick")).result(GUARD)
    assert "doubling 1" not in (await durable("show", "quick")).out
    async with asyncio.timeout(GUARD):
        while "WARNING shop: doubling 1" not in (await durable("show", "quick", "--logs")).out:
            pass


async def test_show_draws_the_tree_with_attempts_errors_and_waits(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    said = await durable("show", "order-7")
    for part in (
        "order-7  process_order v1  waiting",
        "├── ✓ calculate_total",
        "├── ✓ charge  2 attempts",
        "│   └── ✗ attempt 1",
        "ConnectionError: the payment service is away",
        "└── ⏸ approve  waiting",
        "    └── ? manager  approval  Ship 7?",
    ):
        assert part in said.out
    assert (await durable("show", "order-7", "--json")).json["steps"][0]["path"] == "calculate_total"


async def test_an_id_may_be_given_by_its_beginning_and_one_that_is_ambiguous_is_listed(
    durable: Caller, engine: Durable
) -> None:
    await waiting(engine, "order-1", "order-2", "other")
    generated = await engine.start(shop.quick, 1)
    await generated.result(GUARD)
    assert (await durable("show", "oth", "--json")).json["id"] == "other"
    # Ids of version 7 that were made in one minute begin alike: their ends tell them apart, and here there is only one.
    assert (await durable("show", generated.id[:8], "--json")).json["id"] == generated.id
    ambiguous = await durable("show", "order-")
    assert ambiguous.status == 2
    assert "'order-' is the beginning of 2 ids." in ambiguous.err
    assert "order-1  process_order  waiting" in ambiguous.err
    unknown = await durable("show", "nobody")
    assert (unknown.status, unknown.out) == (3, "")
    assert "there is no execution 'nobody'" in unknown.err


# --- events, watch --------------------------------------------------------------------------------------------------


async def test_events_prints_what_has_happened_and_goes_on_from_a_position(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    lines = (await durable("events", "order-7", "--json")).lines
    kinds = [(line["kind"], line["path"]) for line in lines]
    assert kinds == [
        ("completed", "calculate_total"),
        ("retrying", "charge"),
        ("completed", "charge"),
        ("waiting", "approve"),
    ]
    rest = (await durable("events", "order-7", "--json", "--after", lines[1]["position"])).lines
    assert [line["path"] for line in rest] == ["charge", "approve"]
    assert "waiting     approve  input manager" in (await durable("events", "order-7")).out


async def test_watch_follows_until_the_end(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    async with calling("watch", "order-7", dsn=durable.dsn) as process, asyncio.timeout(GUARD):
        assert process.stdout is not None
        while b"approve" not in await process.stdout.readline():
            pass
        await engine.provide_input("order-7", "manager", "approved")
        await engine.send_event("order-7", "shipped", "post")
        out, _ = await process.communicate()
        assert b"ended         completed" in out
        assert process.returncode == 0
    await engine.start(shop.orders, {"id": 1}, id="fails")
    assert (await durable("watch", "fails")).status == 1


async def test_watch_that_is_interrupted_says_so_and_leaves_the_execution_alone(
    durable: Caller, engine: Durable
) -> None:
    await waiting(engine, "order-7")
    async with calling("watch", "order-7", dsn=durable.dsn) as process, asyncio.timeout(GUARD):
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert (process.returncode, err.decode().strip()) == (130, "interrupted")
    assert (await engine.get_execution("order-7")).status is Status.WAITING


# --- pending, answer, send-event, emit, cancel -------------------------------------------------------------------------


async def test_an_order_is_brought_to_its_end_from_the_terminal(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-7")
    assert "order-7  manager  approval  Ship 7?" in (await durable("pending")).out
    assert (await durable("pending", "--json")).json["items"][0]["name"] == "manager"
    refused = await durable("answer", "order-7", "manager", "perhaps")
    assert refused.status == 4
    assert 'must be one of "approved", "rejected"' in refused.err
    nothing = await durable("answer", "order-7", "director", "approved")
    assert nothing.status == 3
    assert "`durable pending` lists what is asked." in nothing.err
    answered = await durable("answer", "order-7", "manager", "approved", "--by", "ada")
    assert answered.out == "answered manager of order-7\n"
    sent = await durable("send-event", "order-7", "shipped", "post", "--dedupe-key", "1", "--json")
    assert sent.json == {"id": "order-7", "name": "shipped", "sent": True}
    assert (await engine.handle("order-7", shop.orders).result(GUARD))["by"] == "post"
    late = await durable("send-event", "order-7", "shipped")
    assert late.status == 4
    assert "`durable show` says how." in late.err


async def test_emit_reaches_whoever_waits_for_what_is_in_it(durable: Caller, engine: Durable) -> None:
    handle = await engine.start(shop.listeners, {"topic": "rain"}, id="listener")
    await until(engine, "listener", Status.WAITING)
    assert (await durable("emit", "news", '{"topic": "rain", "mm": 3}')).out == "emitted news\n"
    assert await handle.result(GUARD) == {"topic": "rain", "mm": 3}


async def test_cancel_asks_or_is_told_yes(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-1", "order-2")
    asked = await durable("cancel", "order-1")
    assert asked.status == 2
    assert "Give --yes to say so." in asked.err
    done = await durable("cancel", "order-1", "order-2", "--yes", "--reason", "out of stock", "--json")
    assert done.json == [{"id": "order-1", "cancelled": True}, {"id": "order-2", "cancelled": True}]
    assert (await engine.get_execution("order-1")).reason == "out of stock"
    again = await durable("cancel", "order-1", "-y")
    assert (again.status, again.out) == (4, "")
    assert "order-1 could not be cancelled as it stands now." in again.err


async def test_cancel_with_compensation_undoes(durable: Caller, engine: Durable) -> None:
    await waiting(engine, "order-1")
    assert (await durable("cancel", "order-1", "--yes", "--compensate")).status == 0
    await until(engine, "order-1", Status.COMPENSATED)


# --- workers, graph -------------------------------------------------------------------------------------------------


async def test_workers_lists_who_is_there(durable: Caller, engine: Durable) -> None:
    supervisor = engine.parts().supervisor
    assert supervisor is not None
    said = await durable("workers")
    assert str(supervisor.worker_id) in said.out
    assert said.out.rstrip().endswith("well")
    assert (await durable("workers", "--json")).json[0]["worker_id"] == str(supervisor.worker_id)


async def test_graph_draws_a_tree_or_mermaid(durable: Caller) -> None:
    tree = await durable("graph", "process_order", "--app", APP)
    assert "├── charge  up to 2 attempts  undone by refund" in tree.out
    assert (await durable("graph", "double", "--app", APP, "--mermaid")).out.startswith("flowchart TD\n")
    several = await durable("graph", "--app", APP)
    assert several.status == 3
    assert "Name one of: double, listen, parcel, process_order." in several.err


# --- What they have in common ------------------------------------------------------------------------------------------


COMMANDS = [
    "dev", "worker", "migrate", "start", "list", "show", "watch", "events", "send-event", "emit", "pending", "answer", "cancel",
    "workers", "graph", "check", "doctor", "retry", "fork", "pause", "resume", "acts", "cleanup", "queues",
]  # fmt: skip


async def test_every_command_explains_itself() -> None:
    whole = await Caller(None)("--help")
    for name in COMMANDS:
        assert name in whole.out
    for name in COMMANDS:  # in this process: to start one for each takes long
        said = CliRunner().invoke(declare(), [name, "--help"], prog_name="durable")
        assert said.exit_code == 0
        assert f"Usage: durable {name}" in said.output


async def test_without_a_database_it_says_how_to_name_one(tmp_path: Any) -> None:
    said = await Caller(None, tmp_path)("list")
    assert said.status == 2
    assert "Give --dsn postgresql://..., or set DURABLE_DATABASE_URL" in said.err


async def test_a_database_that_is_away_is_told_without_its_password() -> None:
    said = await Caller("postgresql://me:secret@127.0.0.1:1/x")("list")
    assert said.status == 5
    assert "postgresql://me:***@127.0.0.1:1/x cannot be reached" in said.err
    assert "secret" not in said.err


async def test_a_command_that_asks_never_migrates(empty_database: str) -> None:
    said = await Caller(empty_database)("list")
    assert said.status == 5
    assert "Run `durable migrate`." in said.err
    assert (await Caller(empty_database)("migrate", "--check")).status == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "there is no module 'nowhere'"),
        ("tests.cli.shop:nobody", "has no engine called 'nobody'"),
        ("tests/cli/shop.py", "Write it as Python imports it"),
    ],
)
async def test_a_wrong_name_of_the_application_is_explained(durable: Caller, name: str, told: str) -> None:
    said = await durable("graph", "--app", name)
    assert said.status == 2
    assert told in said.err


async def test_without_the_extra_it_says_what_to_install(tmp_path: Any) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'typer' else found(name, *rest)\n"
    )
    said = await Caller(None)("list", PYTHONPATH=str(tmp_path))
    assert said.status == 2
    assert "pip install typer rich" in said.err
