"""With polling out of the way: what completes then was pushed from start to end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durable import Durable
from tests.support import flows
from tests.support.crew import NO_POLLING, Crew


@pytest.fixture
async def patient(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Durable]:
    """A client that looks at nothing by itself."""
    for place, value in NO_POLLING.items():
        monkeypatch.setattr(place, value)
    async with Durable(database, workflows=[flows], worker=False) as client:
        yield client


@pytest.mark.usefixtures("ledger")
async def test_sixty_executions_complete_without_a_single_poll(crew: Crew, patient: Durable) -> None:
    await crew.start(patch=NO_POLLING)
    handles = [await patient.start(flows.noop, {"number": number}) for number in range(60)]
    for number, handle in enumerate(handles):
        assert await handle.result(60) == {"number": number}


@pytest.mark.usefixtures("ledger")
async def test_a_queue_longer_than_the_slots_is_worked_off_without_a_single_poll(crew: Crew, patient: Durable) -> None:
    await crew.start(patch=NO_POLLING, queues={"default": 2})
    handles = await patient.start_many(flows.noop, [{"number": number} for number in range(60)])
    for number, handle in enumerate(handles):
        assert await handle.result(60) == {"number": number}
