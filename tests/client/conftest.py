"""An engine on a database of its own, for the tests of what a caller sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durable import Durable
from tests.client import flows
from tests.support.invariants import assert_invariants


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Durable]:
    """A client and worker of the workflows in tests.client.flows; the laws are checked afterwards."""
    async with Durable(database, workflows=[flows], queues={"default": 10, "one": 1}) as engine:
        yield engine
    await assert_invariants(database)
