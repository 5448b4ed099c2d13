"""What `crash_everywhere` tells a user: of each run, and of the steps that are run again."""

from __future__ import annotations

from typing import Any

import pytest

from durable import Context, Status, UsageError, Workflow, context
from durable.testing import Run, crash_everywhere


def shop() -> Workflow[Any, Any]:
    workflow: Workflow[Any, Any] = Workflow("shop")

    @workflow.step
    async def charge(data: list[str], step: Context) -> list[str]:
        return [*data, step.idempotency_key]

    @workflow.step
    def book(data: list[str]) -> list[str]:
        return [*data, context().idempotency_key]

    @workflow.step
    async def notify(data: list[str]) -> list[str]:
        return [*data, "notified"]

    return workflow


async def test_check_is_called_with_every_run_that_ended_the_uninterrupted_one_first() -> None:
    runs: list[Run] = []

    async def check(run: Run) -> None:
        runs.append(run)

    for look in (runs.append, check):
        runs.clear()
        report = await crash_everywhere(shop(), [], check=look, second_crashes=3)
        assert runs[0] is report.uninterrupted
        assert len(runs) == report.runs + 1
        assert {run.status for run in runs} == {Status.COMPLETED}
        assert max(run.calls["charge"] for run in runs) > 1


async def test_what_check_raises_is_raised_with_the_crash_in_a_note() -> None:
    def check(run: Run) -> None:
        assert run.calls["charge"] == 1, "charged twice"

    with pytest.raises(AssertionError, match="charged twice") as caught:
        await crash_everywhere(shop(), [], check=check)
    assert caught.value.__notes__ == ["in the run that was crashed before write 1 was durable"]


async def test_what_check_raises_without_a_crash_says_so() -> None:
    def check(run: Run) -> None:
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        await crash_everywhere(shop(), [], check=check)
    assert caught.value.__notes__ == ["in the run without any crash"]


async def test_a_check_that_returns_its_verdict_is_refused() -> None:
    look: Any = lambda run: run.calls["charge"] == 1  # noqa: E731
    with pytest.raises(UsageError, match="check returned True, which nobody looks at"):
        await crash_everywhere(shop(), [], check=look)


async def test_the_report_names_the_steps_that_ran_again_without_their_key() -> None:
    report = await crash_everywhere(shop(), [])
    assert report.unkeyed == {"notify"}
    report.assert_keyed("charge", "book")
    with pytest.raises(AssertionError, match="'notify' never asked for its idempotency key") as caught:
        report.assert_keyed("charge", "notify")
    assert "- 'notify' (attempt 1) ran 2 times: crashed before write 3 was durable" in str(caught.value)


async def test_a_key_that_was_asked_for_in_the_uninterrupted_run_counts() -> None:
    (await crash_everywhere(shop(), [], first_crashes=0)).assert_keyed("charge", "book")


async def test_asserting_of_a_step_that_has_not_run_is_refused() -> None:
    report = await crash_everywhere(shop(), [], second_crashes=0)
    with pytest.raises(UsageError, match=r"no step 'chagre' has run\. Those that have are 'book', 'charge', 'notify'"):
        report.assert_keyed("chagre")


async def test_a_report_has_a_line_for_each_step_that_ran_again() -> None:
    report = await crash_everywhere(shop(), [], second_crashes=0)
    runs = f"in 1 of {report.runs} runs"
    assert str(report).splitlines() == [
        f"{report.runs} crashed runs ended like the uninterrupted one (completed).",
        "Run again after a crash, as any step may be:",
        f"  charge  {runs}, under its idempotency key; e.g. crashed before write 1 was durable",
        f"  book    {runs}, under its idempotency key; e.g. crashed before write 2 was durable",
        f"  notify  {runs}, WITHOUT asking for its idempotency key; e.g. crashed before write 3 was durable",
    ]


async def test_the_items_of_a_foreach_are_one_step_of_the_report() -> None:
    workflow: Workflow[Any, Any] = Workflow("each")

    async def send(data: Any, item: int) -> str:
        return context().idempotency_key

    workflow.foreach("each", items=lambda data: [1, 2]).step(send)
    report = await crash_everywhere(workflow, {}, second_crashes=0)
    report.assert_keyed("each/send")
    assert report.unkeyed == set()
    assert "  each/send  in 2 of" in str(report)


async def test_a_mock_is_judged_like_a_body() -> None:
    async def notify(data: list[str], step: Context) -> list[str]:
        return [*data, step.idempotency_key]

    report = await crash_everywhere(shop(), [], mocks={"notify": notify, "charge": ["charged"]}, second_crashes=0)
    assert report.unkeyed == {"charge"}
