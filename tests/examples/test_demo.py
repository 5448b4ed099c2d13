"""The demo keeps its promises with a real crash in it, and would tell if one were broken."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from durable import Attempt, Execution, Status, StepView
from examples.demo_report import SERVICE_OF, Call, Evidence, judge
from tests.examples.processes import run, started
from tests.support.postgres import temporary_folder

A, B = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# --- What would be a broken promise -----------------------------------------------------------------------------------


def an_execution(order_id: str = "order-1", **tries: UUID) -> Execution:
    """A completed order; *tries* says who did a step if it was not A."""
    steps = [
        StepView(step, "completed", [Attempt(1, "completed", 0.1, tries.get(step, A), NOW)]) for step in SERVICE_OF
    ]
    return Execution(
        order_id, UUID(int=9), "process_order", 1, Status.COMPLETED, "q", 0, {}, NOW, result={"total": 5}, steps=steps
    )


def calls(*made: str) -> list[Call]:
    """Calls as in ``"order-1 validate A"``; one with a dagger was never answered."""
    split = [text.split() for text in made]
    return [
        Call(number, SERVICE_OF[step], order_id, caller, None if lost else "ok")
        for number, (order_id, step, caller, *lost) in enumerate(split, 1)
    ]


GOOD = Evidence(
    {
        "order-1": an_execution(charge_payment=B, send_confirmation=B),
        "order-2": an_execution("order-2", **dict.fromkeys(SERVICE_OF, B)),
    },
    calls(
        "order-1 validate A",
        "order-1 calculate_total A",
        "order-1 charge_payment A †",
        "order-1 charge_payment B",
        "order-1 send_confirmation B",
        *(f"order-2 {step} B" for step in SERVICE_OF),
    ),
    [("order-1", 5), ("order-2", 5)],
    killed="A",
)


def broken(evidence: Evidence) -> list[str]:
    return [line for promise in judge(evidence) for line in promise.broken]


def test_a_body_in_flight_at_the_kill_that_ran_again_breaks_no_promise() -> None:
    assert broken(GOOD) == []


@pytest.mark.parametrize(
    "extra",
    [
        "order-1 validate B",  # a step that A had recorded, run again by its heir
        "order-1 validate A",  # or by A itself
        "order-1 validate A †",
        "order-1 send_confirmation B",  # a step that the heir had recorded
        "order-1 charge_payment A",  # two bodies of one step in flight at once
        "order-2 validate A",  # an order that A never had
    ],
)
def test_a_body_that_ran_without_need_breaks_a_promise(extra: str) -> None:
    numbered = replace(calls(extra)[0], number=99)
    order_id, step, caller, *_ = extra.split()
    told = broken(replace(GOOD, calls=[*GOOD.calls, numbered]))
    assert f"{order_id} {step} was run by {caller} (call 99) without a record" in told


@pytest.mark.parametrize("taken", [[5, 5], [4], []])
def test_a_wrong_charge_breaks_a_promise(taken: list[int]) -> None:
    (line,) = broken(replace(GOOD, charges=[*(("order-1", amount) for amount in taken), ("order-2", 5)]))
    assert line == f"order-1 owed 5 cents and was charged {taken}"


def test_an_order_that_is_not_completed_breaks_promises() -> None:
    whole = GOOD.executions["order-2"]
    unfinished = msgspec.structs.replace(whole, status=Status.RUNNING, result=None, steps=(whole.steps or [])[:-1])
    told = broken(replace(GOOD, executions={**GOOD.executions, "order-2": unfinished}))
    assert "order-2 is running" in told
    assert "order-2 send_confirmation is recorded as done 0 times" in told


def test_an_attempt_that_a_crash_used_up_breaks_a_promise() -> None:
    whole = GOOD.executions["order-2"]
    first, *rest = whole.steps or []
    counted = msgspec.structs.replace(first, attempts=[msgspec.structs.replace(first.attempts[0], number=2)])
    skipped = msgspec.structs.replace(whole, steps=[counted, *rest])
    assert broken(replace(GOOD, executions={**GOOD.executions, "order-2": skipped})) == [
        "order-2 validate has attempts numbered [2]"
    ]


# --- The demo itself --------------------------------------------------------------------------------------------------


async def test_the_demo_keeps_every_promise_through_a_kill(database: str) -> None:
    status, output = await run(
        "-W",
        "error",
        "-m",
        "examples.demo",
        "--orders",
        "12",
        "--lease",
        "2",
        timeout=100,
        DURABLE_DATABASE_URL=database,
    )
    assert status == 0, output
    assert "kill -9" in output
    assert "Every promise was kept." in output
    assert output.count("completed ") >= 12


async def test_the_demo_refuses_numbers_that_it_cannot_play_with() -> None:
    status, output = await run("-m", "examples.demo", "--orders", "3")
    assert status == 2
    assert "--orders must be from" in output


@pytest.fixture
def heeds_sigint() -> Iterator[None]:
    """What a test starts heeds SIGINT. A shell without job control starts its background jobs with that signal ignored, which
    is handed down: without this, a demo below ``make test &`` would play on to its end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_sigint")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_demo_that_is_stopped_leaves_no_process_and_no_folder(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DURABLE_DATABASE_URL", raising=False)  # it has an embedded PostgreSQL to stop as well
    with temporary_folder() as folder:
        # Once a worker is dead, the demo goes on until that lease has lapsed: a signal that comes late still meets it.
        async with started("-m", "examples.demo", "--lease", "60", TMPDIR=str(folder.parent)) as process:
            assert process.stdout is not None
            pids: list[int] = []
            async for line in process.stdout:
                if line.startswith(b"Worker "):
                    pids.append(int(line.rstrip(b".\n").split()[-1]))
                if line.startswith(b"24 orders are started"):
                    break
            process.send_signal(number)
            await process.communicate()
            assert process.returncode == 130
        assert len(pids) == 2
        assert [pid for pid in pids if _exists(pid)] == []
        assert os.listdir(folder.parent) == []


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
