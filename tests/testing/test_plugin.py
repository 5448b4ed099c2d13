"""The fixtures of `durable.testing.plugin`, used by a project of its own: every warning is an error there as well."""

from __future__ import annotations

import os
from pathlib import Path

import asyncpg
import pytest

from durable import Durable, Workflow
from durable.testing.plugin import EngineFactory
from tests.examples.processes import run
from tests.support.postgres import Cluster

PROJECT = """
import pytest
from durable import Workflow

greet = Workflow[str, str]("greet")

@greet.step
async def hello(name: str) -> str:
    return f"hello, {name}"

@pytest.mark.parametrize("turn", [1, 2])
async def test_an_engine(durable_engine, turn):
    async with durable_engine(workflows=[greet]) as engine:
        handle = await engine.start(greet, "ada", id="the same in both turns", on_conflict="error")
        assert await handle.result(30) == "hello, ada"

@pytest.fixture
async def engine(durable_engine):
    async with durable_engine(workflows=[greet]) as engine:
        yield engine

async def test_an_engine_of_a_fixture(engine):
    assert await (await engine.start(greet, "bob")).result(30) == "hello, bob"

async def test_asked_for_while_a_loop_runs(request):
    async with request.getfixturevalue("durable_engine")(workflows=[greet]) as engine:
        assert await (await engine.start(greet, "eve")).result(30) == "hello, eve"

def test_without_a_loop(durable_database):
    assert "/durable_test_" in durable_database
"""
ON_ASYNCIO = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]
ALONE = ["-p", "no:asyncio"]
WAYS = {
    "auto": ([*SCOPE, "-o", "asyncio_mode=auto"], ""),
    "strict": ([*SCOPE, "-o", "asyncio_mode=strict"], "@pytest.mark.asyncio"),
    "anyio": (["-p", "no:asyncio"], "@pytest.mark.anyio"),
}


async def pytest_in(folder: Path, text: str, *options: str, **environment: str) -> tuple[int, str]:
    (folder / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = -p durable.testing.plugin\n", encoding="utf-8"
    )
    (folder / "test_it.py").write_text(text, encoding="utf-8")
    return await run(
        "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *options, cwd=folder, timeout=100, **environment
    )


async def durable_databases(cluster: Cluster) -> set[str]:
    connection = await asyncpg.connect(cluster.dsn)
    try:
        rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'durable_test_%'")
        return {row[0] for row in rows}
    finally:
        await connection.close()


@pytest.mark.parametrize("way", WAYS)
async def test_the_fixtures_work_with_any_plugin_that_runs_async_tests(
    postgres_cluster: Cluster, tmp_path: Path, way: str
) -> None:
    options, mark = WAYS[way]
    text = PROJECT.replace("async def test", f"{mark}\nasync def test")
    if way == "anyio":
        text += ON_ASYNCIO
    if way == "strict":
        text = text.replace("@pytest.fixture\nasync", "import pytest_asyncio\n@pytest_asyncio.fixture\nasync")
    status, output = await pytest_in(tmp_path, text, *options, DURABLE_TEST_DSN=postgres_cluster.dsn)
    assert status == 0, output
    assert "5 passed" in output


async def test_databases_are_dropped_at_the_end_even_if_the_test_has_failed(
    postgres_cluster: Cluster, tmp_path: Path
) -> None:
    before = await durable_databases(postgres_cluster)
    text = "def test_it(durable_database):\n    assert durable_database is None\n"
    status, output = await pytest_in(tmp_path, text, *ALONE, DURABLE_TEST_DSN=postgres_cluster.dsn)
    assert status == 1, output
    assert "1 failed" in output
    assert "error" not in output.splitlines()[-1]
    assert await durable_databases(postgres_cluster) <= before


async def test_without_a_server_the_fixtures_start_an_embedded_one_and_stop_it(tmp_path: Path) -> None:
    text = """
import asyncio, asyncpg, pathlib
def test_it(durable_database):
    async def folder():
        connection = await asyncpg.connect(durable_database)
        try:
            return await connection.fetchval("SHOW data_directory")
        finally:
            await connection.close()
    pathlib.Path("folder").write_text(asyncio.run(folder()))
"""
    status, output = await pytest_in(tmp_path, text, *ALONE, DURABLE_TEST_DSN="")
    assert status == 0, output
    folder = (tmp_path / "folder").read_text(encoding="utf-8")
    assert os.path.isabs(folder)
    assert not os.path.exists(folder)  # noqa: ASYNC240


async def test_our_own_tests_can_use_the_fixtures(durable_engine: EngineFactory, durable_database: str) -> None:
    workflow = Workflow[int, int]("number")

    @workflow.step
    async def add(number: int) -> int:
        return number + 1

    async with (
        durable_engine(workflows=[workflow]) as engine,
        Durable(durable_database, workflows=[workflow], worker=False) as other,
    ):
        await engine.start(workflow, 1, id="one")
        assert await other.handle("one", workflow).result(30) == 2
