"""Fixtures for tests with real worker processes on a real PostgreSQL. The invariants are checked after every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durable import Durable
from tests.support import flows
from tests.support.crew import Crew
from tests.support.invariants import assert_invariants
from tests.support.ledger import Ledger


@pytest.fixture(autouse=True)
async def invariants(database: str) -> AsyncIterator[None]:
    """Every law that SQL can say holds when the test is over and its processes are gone."""
    yield
    await assert_invariants(database)


@pytest.fixture
async def ledger(database: str, invariants: None) -> AsyncIterator[Ledger]:
    async with Ledger(database) as ledger:
        yield ledger


@pytest.fixture
async def crew(database: str, ledger: Ledger) -> AsyncIterator[Crew]:
    async with Crew(database) as crew:
        yield crew


@pytest.fixture
async def client(database: str, ledger: Ledger) -> AsyncIterator[Durable]:
    """An engine in the test's own process that runs nothing."""
    async with Durable(database, workflows=[flows], worker=False) as client:
        yield client
