"""Two workers run 24 orders, one of them is killed in the middle of it, and nothing is lost and nothing done twice.

    python -m examples.demo              (or: make demo)
    python -m examples.demo --help

The workers are real processes, and the kill is a real SIGKILL. At the end two accounts of what happened are compared:
the engine's records, and the log of the (fake) services that the steps have called. The exit status is 0 when every
promise was kept, 1 when one was broken, and 130 after Ctrl-C.

It uses the database of DURABLE_DATABASE_URL if that is set, and leaves its executions there; else an embedded
PostgreSQL in a temporary folder. It needs rich: ``pip install '.[demo]'``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from durable import Durable, Handle, seconds
from examples.demo_report import (
    LEGEND,
    STEP_OF,
    Evidence,
    Promise,
    final_table,
    judge,
    live_table,
    read_calls,
    read_charges,
    unrecorded,
    worker,
    worker_names,
)
from examples.orders import orders, read_orders
from examples.services import open_log

DATABASE = "DURABLE_DATABASE_URL"
SLOTS = 4  # executions that a worker runs at once
FEWEST = 10  # orders: with fewer, a worker may have nothing left to be killed in
PATIENCE = 60.0  # seconds after which an order that has not ended counts as lost


class DemoFailed(Exception):
    """The demo could not be played to its end."""


# --- A worker process -------------------------------------------------------------------------------------------------


async def work(queue: str, lease: float) -> None:
    """Run orders from *queue* until the demo, which holds the other end of our standard input, closes it or is gone."""
    async with Durable(workflows=[orders], queues={queue: SLOTS}, lease=seconds(lease), drain=seconds(5)):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)


@asynccontextmanager
async def worker_process(
    name: str, queue: str, lease: float, folder: Path
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker that is ready, stopped at the end if it still runs."""
    log = folder / f"worker-{name}.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.demo", "--worker", queue, "--lease", str(lease),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "WORKER_NAME": name},
            start_new_session=True,  # a Ctrl-C in the terminal is for the demo, which stops its workers itself
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if await process.stdout.readline() != b"ready\n":
            raise DemoFailed(f"worker {name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        yield process
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


# --- The play -----------------------------------------------------------------------------------------------------------


class Play:
    """One run of the demo."""

    def __init__(self, console: Console, count: int, lease: float, folder: Path) -> None:
        self.console = console
        self.lease = lease
        self.folder = folder
        self.orders = read_orders()[:count]
        self.queue = f"demo-{secrets.token_hex(4)}"  # a lane of our own, in a database that others may use as well
        self.log = open_log(str(folder / "services.sqlite"))
        self.ended: set[str] = set()
        self.killed = ""
        self.killed_at = 0.0

    async def run(self) -> bool:
        """Play it. True when every promise was kept."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            await self._open_database(stack)
            os.environ["SHOP_LOG"] = str(self.folder / "services.sqlite")
            processes: dict[str, asyncio.subprocess.Process] = {}
            for name in ("A", "B"):
                starting = worker_process(name, self.queue, self.lease, self.folder)
                processes[name] = await stack.enter_async_context(starting)
                self.console.print(f"Worker {worker(name)} is process {processes[name].pid}.")
            client = await stack.enter_async_context(Durable(workflows=[orders], worker=False))
            handles = await client.start_many(
                orders, self.orders, ids=[f"{self.queue}/{order['id']}" for order in self.orders], queue=self.queue
            )
            self.console.print(
                f"{len(handles)} orders are started. Each is safe in PostgreSQL before start() returns.\n"
            )
            await self._watch(handles, processes)
            found = [await client.get_execution(handle.id, include_steps=True) for handle in handles]
            executions = {order["id"]: execution for order, execution in zip(self.orders, found, strict=True)}
            evidence = Evidence(executions, read_calls(self.log), read_charges(self.log), self.killed)
        return self._report(evidence, time.monotonic() - began)

    async def _open_database(self, stack: AsyncExitStack) -> None:
        if DATABASE in os.environ:
            self.console.print(f"The database is that of {DATABASE}; the executions stay there, in queue {self.queue}.")
            return
        from durable.embedded import EmbeddedPostgres

        server = await stack.enter_async_context(await EmbeddedPostgres.start(self.folder / "postgres"))
        os.environ[DATABASE] = server.dsn
        stack.callback(os.environ.pop, DATABASE)
        self.console.print("The database is an embedded PostgreSQL in a temporary folder.")

    async def _watch(self, handles: list[Handle[Any]], processes: dict[str, asyncio.subprocess.Process]) -> None:
        """See the orders through to their ends, and kill a worker on the way."""
        ends = [self._result(handle, order["id"]) for handle, order in zip(handles, self.orders, strict=True)]
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            waiting = asyncio.gather(*ends)
            painting = asyncio.create_task(self._paint(live))
            try:
                self.killed = await self._moment()
                processes[self.killed].kill()  # SIGKILL: no warning, no clean-up, no last words
                self.killed_at = time.monotonic()
                self.console.print(self._obituary(processes[self.killed].pid))
                await waiting
            finally:
                waiting.cancel()
                painting.cancel()
                await asyncio.gather(waiting, painting, return_exceptions=True)

    async def _paint(self, live: Live) -> None:
        while True:
            live.update(self._now(), refresh=True)
            await asyncio.sleep(0.1)

    async def _result(self, handle: Handle[Any], order_id: str) -> None:
        try:
            await handle.result(timeout=PATIENCE)
        except Exception as error:
            self.console.print(f"[bold red]{order_id}: {type(error).__name__}: {error}[/]")  # judged at the end
        self.ended.add(order_id)

    async def _moment(self) -> str:
        """Wait for a bad moment to die, and return the worker for whom it is one. The worst: several bodies in flight,
        and in one of them money has moved that nobody has recorded. Past half-time, any body in flight will do."""
        in_flight = """
            select caller, count(*) >= 2 and count(charge_id) filter (where service = 'payments') >= 1 as worst
            from call left join charge using (order_id) where answer is null
            group by caller order by worst desc, count(*) desc
        """
        while len(self.ended) < len(self.orders):
            found = self.log.execute(in_flight).fetchone()
            late = 2 * len(self.ended) > len(self.orders)
            if found and self.ended and (found[1] or late):
                return str(found[0])
            await asyncio.sleep(0.01)
        raise DemoFailed("every order had ended before a worker was killed: this machine did not keep time")

    # --- What is seen -----------------------------------------------------------------------------------------------

    def _now(self) -> Group:
        news = "Both workers are at it."
        if self.killed:
            heir = "B" if self.killed == "A" else "A"
            news = (
                f"{worker(self.killed)} has been silent for {time.monotonic() - self.killed_at:.0f} s. When its lease of "
                f"{self.lease:.0f} s has lapsed, {worker(heir)} takes its orders over, each where its records end."
            )
        table = live_table(self.orders, read_calls(self.log), self.ended, self.killed, self.console.width)
        return Group(table, Text(LEGEND, "dim"), Text.from_markup(news))

    def _obituary(self, pid: int) -> str:
        paid = {order_id for order_id, _ in read_charges(self.log)}
        bodies = [
            f"    {call.order_id} {STEP_OF[call.service]}"
            + (
                ": the money has moved, and nobody has recorded it"
                if call.service == "payments" and call.order_id in paid
                else ""
            )
            for call in read_calls(self.log)
            if call.caller == self.killed and call.answer is None
        ]
        return "\n".join(
            [f"[bold red]kill -9 {pid}[/]: worker {worker(self.killed)} is gone, in the middle of", *bodies, ""]
        )

    def _report(self, evidence: Evidence, seconds: float) -> bool:
        self.console.print(final_table(evidence, self.console.width))
        self.console.print(LEGEND, style="dim")
        self._honest(evidence)
        promises = judge(evidence)
        for promise in promises:
            self._print(promise)
        kept = not any(promise.broken for promise in promises)
        verdict = "[bold green]Every promise was kept.[/]" if kept else "[bold red]A promise was broken: see above.[/]"
        self.console.print(
            f"\n{verdict} {seconds:.0f} seconds in all, most of them spent waiting for the dead worker's lease to lapse."
        )
        return kept

    def _honest(self, evidence: Evidence) -> None:
        """What a crash does cost: bodies that were in flight ran again."""
        names = worker_names(evidence)
        again = Counter(c.service for id, step in evidence.steps() for c in unrecorded(evidence, names, id, step))
        lines = [
            f"What no engine can avoid: {again.total()} bodies were in flight when worker {worker(self.killed)} died "
            "([bold red]†[/]). They had left no record, so they ran again on the other worker."
        ]
        if again["payments"]:
            lines.append(
                f"{again['payments']} of them in charge_payment: the service may have been asked twice, under one "
                "idempotency key, so it took the money once."
            )
        if again["email"]:
            lines.append(
                f"{again['email']} of them in send_confirmation: the postman knows no such key, so there the customer may "
                "get two e-mails."
            )
        self.console.print("", *lines, "", sep="\n")

    def _print(self, promise: Promise) -> None:
        self.console.print(f"{'[bold red]✗' if promise.broken else '[bold green]✓'}[/] {promise.text}")
        for line in promise.broken:
            self.console.print(f"    [red]{line}[/]")


# --- The way in ---------------------------------------------------------------------------------------------------------


async def play(count: int, lease: float) -> bool:
    """Run the demo in a folder of its own, which is removed at the end. SIGTERM ends it like Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    console.print(Panel(f"{count} orders, two workers, and a crash in the middle", expand=False))
    with tempfile.TemporaryDirectory(prefix="durable-demo-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # run by root, the embedded server has an account of its own, which must come in here
        stage = Play(console, count, lease, Path(folder))
        try:
            return await stage.run()
        finally:
            stage.log.close()


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description="Two workers, and a crash in the middle."
    )
    parser.add_argument("--orders", type=int, default=24, help=f"how many, from {FEWEST} to 24")
    parser.add_argument("--lease", type=float, default=6, help="seconds that a worker may be silent (default: 6)")
    parser.add_argument("--worker", metavar="QUEUE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not FEWEST <= given.orders <= len(read_orders()):
        parser.error(f"--orders must be from {FEWEST} to {len(read_orders())}")
    try:
        if given.worker:
            asyncio.run(work(given.worker, given.lease))
            return 0
        return 0 if asyncio.run(play(given.orders, given.lease)) else 1
    except DemoFailed as failed:
        print(f"the demo failed: {failed}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
