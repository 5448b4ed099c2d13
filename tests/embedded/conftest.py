"""Folders and children for the tests of the embedded PostgreSQL; each is removed again."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable.embedded import EmbeddedPostgres
from tests.embedded.children import Child
from tests.support.postgres import remove


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder that every user may enter, unlike those of `tmp_path`."""
    root = Path(tempfile.mkdtemp(prefix="durable-test-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        for lock in [*root.rglob("lock")]:
            remove(lock.parent)
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def initialised() -> Iterator[Path]:
    """A folder with a database in it that nobody runs: to be copied, because initdb is slow."""
    root = Path(tempfile.mkdtemp(prefix="durable-test-"))
    root.chmod(0o755)

    async def make() -> None:
        await (await EmbeddedPostgres.start(root / "pg", settings={"fsync": "off"})).stop()

    asyncio.run(make())
    yield root / "pg"
    shutil.rmtree(root)


@pytest.fixture
def cluster(home: Path, initialised: Path) -> Path:
    """A folder of this test alone that has been used before."""
    subprocess.run(["cp", "-a", str(initialised), str(home / "pg")], check=True)
    return home / "pg"


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start children that are gone when the test ends."""
    children: list[Child] = []

    def start(directory: Path, *arguments: str, **options: Any) -> Child:
        children.append(Child(directory, *arguments, **options))
        return children[-1].ready()

    yield start
    for one in children:
        one.leave()
