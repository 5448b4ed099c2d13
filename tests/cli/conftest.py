"""Fixtures for the command line on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durable import Durable
from tests.cli import shop
from tests.cli.calling import Caller


@pytest.fixture
def durable(database: str) -> Caller:
    """The command, with the database in its environment."""
    return Caller(database)


@pytest.fixture
async def engine(database: str) -> AsyncIterator[Durable]:
    """A worker of the application in the test's own process."""
    async with Durable(database, workflows=[shop]) as engine:
        yield engine
