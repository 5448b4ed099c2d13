"""`durable worker` and `durable dev`: real processes that are killed, drained and started anew."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable import Durable
from durable.testing.server import remove, temporary_folder
from tests.cli import shop
from tests.cli.calling import APP, ROOT, Caller, calling
from tests.support.invariants import assert_invariants

GUARD = 60
PIDS = "select array_agg(pid order by pid) from durable.worker where not dead and lease_expires_at > durable.clock()"

CODE = """
from durable import Durable, Workflow

echo = Workflow("echo")

@echo.step
async def say(data: str) -> str:
    return data + " said by {who}"

engine = Durable(workflows=[echo])
"""


async def workers(connection: asyncpg.Connection[Any], count: int, *, without: int | None = None) -> list[int]:
    """The processes, once there are so many."""
    async with asyncio.timeout(GUARD):
        while True:
            pids: list[int] = await connection.fetchval(PIDS) or []
            alive = [pid for pid in pids if _alive(pid)]
            if len(alive) == count and without not in alive:
                return alive
            await asyncio.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(*pids: int) -> None:
    async with asyncio.timeout(GUARD):
        while any(_alive(pid) for pid in pids):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def test_a_worker_that_crashes_is_started_again_and_all_drain_together(
    database: str, connection: asyncpg.Connection[Any]
) -> None:
    async with calling("worker", APP, "--processes", "2", dsn=database) as process:
        first, second = await workers(connection, 2)
        os.kill(first, signal.SIGKILL)
        again = await workers(connection, 2, without=first)
        assert second in again
        async with Durable(database, workflows=[shop], worker=False) as client:
            assert await (await client.start(shop.quick, 3)).result(GUARD) == 6
        process.terminate()
        _, err = await asyncio.wait_for(process.communicate(), GUARD)
        assert process.returncode == 0
        assert "worker 1 was ended by SIGKILL; it is started again in 1 s" in err.decode() or "worker 2" in err.decode()
        assert not any(_alive(pid) for pid in again)
        assert await connection.fetchval("select count(*) from durable.worker where not dead") <= 1, (
            "they have signed off"
        )
    await assert_invariants(database)


async def test_workers_end_when_whoever_has_started_them_is_killed(
    database: str, connection: asyncpg.Connection[Any]
) -> None:
    async with calling("worker", "--app", APP, "-p", "2", dsn=database) as process:
        pids = await workers(connection, 2)
        process.kill()
        await gone(*pids)


async def test_queues_are_served_as_the_option_says(database: str, connection: asyncpg.Connection[Any]) -> None:
    async with calling("worker", APP, "--queue", "special=3", dsn=database):
        await workers(connection, 1)
        async with Durable(database, workflows=[shop], worker=False) as client:
            ours = await client.start(shop.quick, 1, queue="special")
            others = await client.start(shop.quick, 2)
            assert await ours.result(GUARD) == 2
            assert await others.status() == "pending"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["worker"], "no application was named"),
        (["worker", "tests.cli.nothing"], "there is no module 'tests.cli.nothing'"),
        (["worker", APP, "--queue", "x"], "Write it as name=concurrency"),
        (["dev", "tests.cli.nothing"], "there is no module 'tests.cli.nothing'"),
    ],
)
async def test_what_can_never_work_is_not_started_again(durable: Caller, words: list[str], told: str) -> None:
    said = await durable(*words)
    assert said.status == 2
    assert told in said.err


@pytest.mark.parametrize("word", ["worker", "dev"])
async def test_a_database_that_the_engine_would_ignore_is_refused(tmp_path: Path, word: str) -> None:
    (tmp_path / "named.py").write_text("from durable import Durable\nengine = Durable('postgresql://its@own/one')\n")
    path = f"{ROOT}:{tmp_path}"
    said = await Caller(None)(word, "named", "--dsn", "postgresql://another@host/one", PYTHONPATH=path)
    assert said.status == 2
    assert "names its database itself" in said.err


@pytest.mark.parametrize("word", ["worker", "dev"])
async def test_an_engine_whose_listener_leads_to_another_database_is_refused(tmp_path: Path, word: str) -> None:
    (tmp_path / "past.py").write_text(
        "from durable import Durable\nengine = Durable(listener_dsn='postgresql://its@own/one')\n"
    )
    said = await Caller(None)(word, "past", "--dsn", "postgresql://another@host/one", PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert said.status == 2
    assert "(listener_dsn)" in said.err


async def test_a_worker_with_the_engine_of_a_client_is_refused(database: str, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text("from durable import Durable\nengine = Durable(worker=False)\n")
    said = await Caller(database)("worker", "web", PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert said.status != 0
    assert "this engine is a client" in said.err


async def test_a_signal_while_a_worker_waits_to_be_started_again_ends_it_all(database: str, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import os\nos._exit(9)\n")
    async with calling("worker", "dies", dsn=database, cwd=tmp_path) as process:
        assert process.stderr is not None
        async with asyncio.timeout(GUARD):
            while b"has ended with status 9" not in await process.stderr.readline():
                pass
            process.terminate()
            await process.wait()
        assert process.returncode == 0


@contextlib.contextmanager
def project() -> Any:
    """A folder with an application and no database, that every account may enter."""
    with temporary_folder() as folder:
        root = folder.parent
        (root / "echoing.py").write_text(CODE.format(who="one"))
        try:
            yield root
        finally:
            remove(root / ".durable")


@pytest.fixture
def folder() -> Any:
    with project() as root:
        yield root


async def test_dev_brings_a_database_runs_and_starts_anew_when_code_changes(folder: Path) -> None:
    call = Caller(None, folder)
    async with calling("dev", "echoing", dsn=None, cwd=folder, PYTHONPATH=str(ROOT)) as process:
        assert process.stderr is not None
        lines: list[str] = []

        async def heard(part: str) -> None:
            assert process.stderr is not None
            async with asyncio.timeout(GUARD):
                while part not in (line := (await process.stderr.readline()).decode()):
                    lines.append(line)
                    assert not process.stderr.at_eof(), "".join(lines)

        await heard("this worker serves default")
        assert (await call("start", "echo", "hello", "--wait")).json == "hello said by one"
        (folder / "echoing.py").write_text(CODE.format(who="two"))
        await heard("changed: starting anew")
        await heard("this worker serves default")
        assert (await call("start", "echo", "hello", "--wait")).json == "hello said by two"
        (folder / "echoing.py").write_text("from nowhere import nothing\n")
        await heard("module 'echoing' cannot be imported: No module named 'nowhere'")
        await heard("waiting for a change")
        (folder / "echoing.py").write_text(CODE.format(who="three"))
        await heard("this worker serves default")
        assert (await call("list", "--json")).json["items"][0]["status"] == "completed"
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), GUARD)
        assert process.returncode == 0, err
        assert b"Traceback" not in err
    assert (await call("list")).out.count("completed") == 2, "what was done is there when it is over"
