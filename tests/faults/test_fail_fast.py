"""The failure of one arm ends the others where they stand."""

from __future__ import annotations

import pytest

from durable import Durable, ExecutionFailed
from tests.support.crew import Crew
from tests.support.flows import hasty, planned
from tests.support.ledger import Ledger


async def test_fail_fast_cancels_a_ten_second_sibling_and_its_cleanup_runs(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    worker = await crew.start()
    plan = planned(**{"both/fails": {"gate": "fail"}})
    handle = await client.start(hasty, plan, id="hasty")
    await worker.message("begin", path="both/sleeps")
    await ledger.open_gate("fail")

    with pytest.raises(ExecutionFailed) as raised:
        await handle.result(60)

    assert raised.value.failure.type == "builtins.ValueError"
    assert await ledger.whats("hasty", "both/fails") == ["begin", "failed"]
    assert await ledger.whats("hasty", "both/sleeps") == ["begin", "cancelled"], "it did not sleep to its end"
    records = [(r["path"], r["kind"]) for r in await ledger.journal("hasty")]
    assert "both/sleeps" not in [path for path, _ in records], records
