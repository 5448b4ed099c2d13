"""The commands that run workers: dev and worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Annotated

import typer

from durable.app import DSN_VARIABLE, Durable
from durable.cli.commands import App, Dsn, command, target
from durable.cli.crew import Crew
from durable.cli.output import Exit, Problem, complain, err, hint
from durable.cli.target import load_engine
from durable.store.migrate import migrate

LOOK_SECONDS = 0.5  # between two looks at the files
_PASSED = {"node_modules", "__pycache__", "build", "dist", "site-packages"}


def read_queues(given: list[str] | None) -> dict[str, int] | None:
    """``name=concurrency``. Raises `Problem`."""
    if not given:
        return None
    queues: dict[str, int] = {}
    for pair in given:
        name, _, count = pair.rpartition("=")
        if not name or not count.isdecimal() or not int(count):
            raise Problem(f"--queue {pair!r} is not understood.", "Write it as name=concurrency: --queue default=100")
        queues[name] = int(count)
    return queues


@contextlib.asynccontextmanager
async def _signals(crew: Crew, stop: asyncio.Event) -> AsyncGenerator[None]:
    """SIGTERM and SIGINT drain the crew; a second one ends it at once."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def ask() -> None:
        err.print("draining: once more to stop at once" if not stop.is_set() else "stopping at once", style="dim")
        if stop.is_set():
            task = loop.create_task(crew.drain())
            tasks.add(task)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _first(*waits: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


@command("worker")
async def worker(
    application: Annotated[
        str | None, typer.Argument(help="Your engine, as module:engine. Default: --app.", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="How many worker processes.")] = 1,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-q",
            help="Serve name=concurrency instead of the engine's queues; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dsn: Dsn = None,
    app: App = None,
) -> Exit:
    """Run worker processes; those that crash are started again. SIGTERM and Ctrl-C let running steps finish."""
    queues, where = read_queues(queue), application or app
    if where is None:
        target(dsn, app).engine()  # says what is missing
    assert where is not None
    crew = Crew(where, processes, lambda text: err.print(text, style="yellow", markup=False), queues)
    if dsn is not None:
        crew.environment = {DSN_VARIABLE: dsn}
        _refuse_own_dsn(load_engine(where), dsn)
    stop = asyncio.Event()
    async with _signals(crew, stop):
        await crew.start()
        waiting = asyncio.create_task(crew.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await crew.drain()
        waiting.cancel()
        stopping.cancel()
    return crew.given_up or Exit.OK


def _refuse_own_dsn(engine: Durable, given: str | None) -> None:
    """An engine that names its database itself would not heed another. Raises `Problem`."""
    own = engine.dsn
    if engine.listener_dsn is not None and (own is None or given not in (None, own)):
        raise Problem(
            "this engine names the database behind its pooler itself (listener_dsn), and would use and migrate that one.",
            "Leave --dsn out, or let the engine take both DSNs from the environment.",
        )
    if given is not None and own is not None and own != given and own != os.environ.get(DSN_VARIABLE):
        raise Problem(
            "this engine names its database itself, so that --dsn would be ignored.",
            f"Leave --dsn out, or let the engine take the database from {DSN_VARIABLE}.",
        )


@command("dev")
async def dev(
    application: Annotated[
        str | None, typer.Argument(help="Your engine or module, as module:engine. Default: --app.", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="How many worker processes.")] = 1,
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Start anew when a Python file changes.")] = True,
    dsn: Dsn = None,
    app: App = None,
) -> Exit:
    """Develop: an embedded PostgreSQL in .durable/, migrated, and workers that start anew when your code changes."""
    where = application or app
    if where is None:
        target(dsn, app).engine()
    assert where is not None
    # Asked once: an engine that is changed to name another database needs another `durable dev`.
    engine = _engine_of(where)
    own = os.environ.get(DSN_VARIABLE) if engine is None else engine.dsn
    if engine is not None:
        _refuse_own_dsn(engine, dsn)
    async with target(dsn or own).database(may_create=True) as database:
        applied = await migrate(database)
        _greet(where, dsn or own, len(applied))
        crew = Crew(where, processes, lambda text: err.print(text, style="yellow", markup=False))
        crew.environment = {DSN_VARIABLE: database}
        stop = asyncio.Event()
        changed = asyncio.Event()
        looking = asyncio.create_task(_look(changed)) if reload else None
        try:
            async with _signals(crew, stop):
                while True:
                    changed.clear()
                    await crew.start()
                    over = asyncio.create_task(crew.wait())
                    turned = [asyncio.create_task(event.wait()) for event in (stop, changed)]
                    await asyncio.wait([over, *turned], return_when=asyncio.FIRST_COMPLETED)
                    given_up = crew.given_up
                    await crew.drain()
                    for task in (over, *turned):
                        task.cancel()
                    if stop.is_set() or (given_up is not None and not reload):
                        return given_up or Exit.OK
                    if given_up is not None and not changed.is_set():
                        hint("waiting for a change ...")
                        await _first(stop, changed)
                    if stop.is_set():
                        return Exit.OK
                    err.print("changed: starting anew", style="cyan")
        finally:
            if looking is not None:
                looking.cancel()


def _engine_of(where: str) -> Durable | None:
    """The engine, which may name its database itself. What is wrong with the code is told by the workers."""
    try:
        return load_engine(where)
    except Problem as problem:
        if "there is no module" in problem.what or "has no engine" in problem.what or "is not the name" in problem.what:
            raise
        complain(problem)
        return None


def _greet(where: str, dsn: str | None, applied: int) -> None:
    shown = "an embedded PostgreSQL in .durable/" if dsn is None else "the database that was named"
    err.print(f"durable dev: {where} on {shown}" + (f", {applied} migrations applied" if applied else ""), style="bold")
    hint("In another terminal, in this folder: durable list | durable start NAME '{...}' | durable show ID")
    hint("Ctrl-C stops it.")


async def _look(changed: asyncio.Event) -> None:
    """Tell when a Python file below the current folder was changed, made or removed."""
    known = await asyncio.to_thread(_files)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = await asyncio.to_thread(_files)
        if now != known:
            known = now
            changed.set()


def _files() -> dict[str, int]:
    return dict(_below(Path.cwd()))


def _below(folder: Path) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _PASSED:
                continue
            if entry.is_dir(follow_symlinks=False):
                if not (Path(entry.path) / "pyvenv.cfg").exists():
                    yield from _below(Path(entry.path))
            elif entry.name.endswith(".py"):
                with contextlib.suppress(OSError):
                    yield entry.path, entry.stat().st_mtime_ns
