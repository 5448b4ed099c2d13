"""Fixtures for pytest: a real engine on a fresh database. A project asks for them in its conftest.py:
``pytest_plugins = ["durable.testing.plugin"]``.

Owns when things begin and end; `durable.testing.server` knows how.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

import pytest

from durable.app import Durable
from durable.authoring import Workflow
from durable.testing.server import Server, found_server, with_database

__all__ = ["EngineFactory", "durable_database", "durable_engine", "durable_server"]


class EngineFactory(Protocol):
    """What the fixture `durable_engine` is: `durable.Durable` with the database filled in, all other options included."""

    def __call__(self, *, workflows: Sequence[Workflow[Any, Any] | ModuleType] = (), **options: Any) -> Durable: ...


@pytest.fixture(scope="session")
def durable_server() -> Iterator[Server]:
    """The server of this pytest process: that of ``DURABLE_TEST_DSN``, else an embedded one in a temporary folder."""
    # Everything async is done in this thread: whichever plugin runs the tests, its event loop is left alone.
    with concurrent.futures.ThreadPoolExecutor(1, "durable-pytest") as thread:
        found = found_server()
        dsn = thread.submit(found.__enter__).result()
        try:
            yield Server(dsn)
        finally:
            thread.submit(found.__exit__, None, None, None).result()


@pytest.fixture
def durable_database(durable_server: Server) -> Iterator[str]:
    """The DSN of a new, empty database of this test alone, which is dropped at the end, whoever is still connected."""
    with concurrent.futures.ThreadPoolExecutor(1, "durable-pytest") as thread:
        name = thread.submit(asyncio.run, durable_server.create()).result()
        try:
            yield with_database(durable_server.dsn, name)
        finally:
            thread.submit(asyncio.run, durable_server.drop(name)).result()


@pytest.fixture
def durable_engine(durable_database: str) -> EngineFactory:
    """Makes engines on the test's database: ``async with durable_engine(workflows=[...]) as engine:``. It takes the options of
    `Durable`. Several at once are several workers."""
    return functools.partial(Durable, durable_database)
