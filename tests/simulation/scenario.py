"""One simulated life of a system, from a seed: what is started, what breaks, and what has to be true in the end.

Several workers and a client live on one server. For a while workers are killed, frozen and drained, the server crashes, and the
network does what it can. Then it stops, and everything that was begun has to end, as its workflow says.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import random
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import asyncpg

import durable
from durable.ids import execution_uuid
from durable.runtime import lease_keeper, standing
from durable.runtime.supervisor import Supervisor
from tests.simulation.loop import PROCESS, SimLoop, Stuck
from tests.simulation.network import FAIR, Server, Weather
from tests.simulation.store import Store, Violation, names_by_sql
from tests.simulation.workflows import EXPECTED, WORKFLOWS, Ledger, ledger_of

LEASE = 5.0
STORMY_SECONDS = 12.0
CALM_SECONDS = (
    400.0  # within which everything has to end once nothing breaks any more: polls and leases take tenths of it
)
NAMES = names_by_sql()
TIMED = (
    "ids",
    "engine.interpreter",
    "engine.strands",
    "runtime.auditor",
    "runtime.lease_keeper",
    "runtime.standing",
    "runtime.supervisor",
)


@dataclass
class Worker:
    """A process that works."""

    name: str
    engine: durable.Durable
    stop: asyncio.Event
    task: asyncio.Task[None] | None = None
    alive: bool = True
    frozen: bool = False
    leaving: bool = False


@dataclass
class Report:
    """What one seed has shown."""

    seed: int
    violations: list[str] = field(default_factory=list)
    executions: int = 0
    statements: int = 0
    callbacks: int = 0
    kills: int = 0
    freezes: int = 0
    crashes: int = 0
    partings: int = 0
    cut: int = 0
    seconds: float = 0.0


class Keeper(lease_keeper.LeaseKeeper):
    """The lease keeper without its thread: it lives in a process of its own, which is killed and frozen with its worker, but
    not blocked with it."""

    async def start(self) -> None:
        self._main = contextvars.copy_context()
        context = contextvars.copy_context()
        context.run(PROCESS.set, f"{PROCESS.get()}/lease")
        self._task = self._loop.create_task(self._keep(), context=context)
        await self._registered.wait()

    async def stop(self) -> None:
        self._stop.set()
        self._task.cancel()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _post(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon(callback, context=self._main)


class Scenario:
    """Use once: `run`."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.rng = random.Random(seed)
        self.loop = SimLoop(self.rng, STORMY_SECONDS + CALM_SECONDS + 100)
        self.store = Store(self.loop.time)
        self.server = Server(self.loop, self.rng, self.store, NAMES)
        self.ledger = Ledger(self.loop, self.store, self.rng, self._still_runs)
        self.report = Report(seed)
        self.workers: list[Worker] = []
        self._names = iter(range(1, 1_000))
        self._everybody: list[asyncio.Task[Any]] = []
        self._thawed: dict[str, float] = {}
        self._trace = trace
        if trace is not None:
            self.server.trace = lambda process, text: trace(f"{self.loop.time():10.5f} {process:8} {text}")

    def run(self) -> Report:
        report = self.report
        with self._made_up():
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(self._play())
            except (Violation, Stuck) as error:
                report.violations.append(f"{type(error).__name__}: {error}")
            except Exception:
                report.violations.append(traceback.format_exc())
            finally:
                self.loop.quiet = True
                asyncio.set_event_loop(None)
        report.violations += self.loop.complaints + self.ledger.violations
        report.statements, report.callbacks = self.store.ran, self.loop.steps
        report.cut, report.seconds = self.server.cut, self.loop.time()
        return report

    @contextmanager
    def _made_up(self) -> Iterator[None]:
        """Time, chance and connections are the simulation's."""
        clock = SimpleNamespace(
            monotonic=self.loop.time, perf_counter=self.loop.time, time_ns=lambda: int(self.loop.time() * 1e9)
        )
        chance = SimpleNamespace(urandom=self.rng.randbytes)
        state = random.getstate()
        with ExitStack() as stack:
            for module in TIMED:
                stack.enter_context(mock.patch(f"durable.{module}.time", clock))
            stack.enter_context(mock.patch("durable.ids.os", chance))
            stack.enter_context(mock.patch.object(asyncpg, "connect", self.server.connect))
            stack.enter_context(mock.patch.object(asyncpg, "create_pool", self.server.create_pool))
            stack.enter_context(mock.patch("durable.app.migrate", _nothing))
            stack.enter_context(mock.patch.object(standing, "LeaseKeeper", Keeper))
            stack.callback(random.setstate, state)
            random.seed(self.rng.random())
            logging.disable(logging.CRITICAL)
            stack.callback(logging.disable, logging.NOTSET)
            stack.enter_context(mock.patch.object(ledger_of, "current", self.ledger, create=True))
            yield

    # --- Processes ---

    def spawn(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        context = contextvars.copy_context()
        context.run(PROCESS.set, name)
        task = self.loop.create_task(context.run(work), name=name, context=context)
        self._everybody.append(task)
        return task

    def begin_worker(self) -> Worker:
        name = f"w{next(self._names)}"
        engine = durable.Durable(
            "postgresql://simulated",
            workflows=WORKFLOWS,
            queues={"default": self.rng.choice((1, 2, 4, 16))},
            lease=durable.seconds(LEASE),
            drain=durable.seconds(self.rng.choice((0, 1, 10))),
            max_crashes=1_000,
        )
        worker = Worker(name, engine, asyncio.Event())

        async def work() -> None:
            while not worker.stop.is_set():
                try:
                    async with engine:
                        await worker.stop.wait()
                except durable.StoreUnavailable:  # at the start: whoever manages the process begins it anew
                    await asyncio.sleep(1)
            worker.alive = False

        worker.task = self.spawn(name, work)
        self.workers.append(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        self._note(f"kill {worker.name}")
        worker.alive = worker.frozen = False
        for process in (worker.name, f"{worker.name}/lease"):
            self.loop.kill(process)
            self.server.lose(process)
        self.report.kills += 1

    async def freeze(self, worker: Worker, seconds: float, *, whole: bool) -> None:
        """Stop a process; or, not *whole*, only its event loop, as a step does that blocks it."""
        self._note(f"freeze {worker.name} {seconds:.2f} whole={whole}")
        self.report.freezes += 1
        worker.frozen = True
        processes = (worker.name, f"{worker.name}/lease") if whole else (worker.name,)
        for process in processes:
            self.loop.freeze(process)
        await asyncio.sleep(seconds)
        for process in processes:
            self.loop.thaw(process)
        worker.frozen = False
        self._thawed[worker.name] = self.loop.time()
        self._note(f"thaw {worker.name}")

    def _still_runs(self, process: str) -> bool:
        """Whether a process does what it does knowingly: it lives, and was not frozen just now."""
        worker = next((w for w in self.workers if w.name == process), None)
        if worker is None or not worker.alive or worker.frozen:
            return False
        return self.loop.time() - self._thawed.get(process, -1.0) > 0.5

    def _note(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.loop.time():10.5f} --- {text}")

    # --- The play ---

    async def _play(self) -> None:
        rng, server = self.rng, self.server
        for _ in range(rng.randint(1, 3)):
            self.begin_worker()
        client = self.spawn("client", self._client)
        if rng.random() < 0.8:
            bad = rng.choice((0.0, 0.002, 0.01, 0.05))
            server.weather = Weather(
                late=rng.choice((0.0, 0.0, 0.02, 0.2)),
                request_lost=bad * rng.random(),
                reply_lost=bad * rng.random(),
                half_open=rng.choice((0.0, 0.0, bad * 0.3)),
                deaf=rng.choice((0.0, 0.0, 0.1, 1.0)),
                latency=rng.choice((0.0002, 0.001, 0.02)),
            )
        self._note(f"weather {server.weather}")
        harm = rng.choice((0.0, 0.5, 2.0, 8.0))  # seconds between two faults, on the average
        while harm and self.loop.time() < STORMY_SECONDS:
            await asyncio.sleep(rng.expovariate(1 / harm))
            self._harm()
        if not harm:
            await asyncio.sleep(STORMY_SECONDS)
        server.weather = FAIR
        self._note("calm")
        if not [w for w in self.workers if w.alive and not w.leaving]:
            self.begin_worker()
        await client
        await self._come_to_rest()
        for worker in self.workers:
            worker.stop.set()
        living = [w.task for w in self.workers if w.alive and w.task is not None]
        if living:
            _, hanging = await asyncio.wait(living, timeout=60)
            if hanging:
                raise Violation(f"{len(hanging)} workers do not end")
            for task in living:
                task.result()
        self._check_the_end()

    def _harm(self) -> None:
        rng = self.rng
        living = [w for w in self.workers if w.alive and not w.frozen]
        act = rng.random()
        if act < 0.25 and living:
            self.kill(rng.choice(living))
        elif act < 0.5 and living:
            seconds = rng.choice((0.01, 0.3, LEASE * 0.9, LEASE * 1.5, LEASE * 4)) * rng.uniform(0.5, 1.5)
            freeze = functools.partial(self.freeze, rng.choice(living), seconds, whole=rng.random() < 0.7)
            self.spawn("world", freeze)
        elif act < 0.6 and living:
            worker = rng.choice(living)
            self._note(f"drain {worker.name}")
            worker.leaving = True
            worker.stop.set()
        elif act < 0.7:
            seconds = rng.choice((0.0, 0.2, 2.0, LEASE * 1.5))
            self._note(f"server down {seconds}")
            self.server.restart(seconds)
            self.report.crashes += 1
        elif act < 0.8 and living:
            worker, seconds = rng.choice(living), LEASE * rng.choice((0.5, 2.0, 4.0))
            self._note(f"{worker.name} is cut off for {seconds}")
            for process in (worker.name, f"{worker.name}/lease"):
                self.server.part(process, seconds)
            self.report.partings += 1
        elif act < 0.9 and self.server.sessions:
            rng.choice(self.server.sessions).break_off("somebody has cut it")
        if len([w for w in self.workers if w.alive and not w.leaving]) < rng.randint(1, 3):
            self.begin_worker()

    async def _client(self) -> None:
        """Start executions, send them what they wait for, cancel some; and await them all."""
        engine = durable.Durable("postgresql://simulated", workflows=WORKFLOWS, worker=False)
        await self._surely(engine.__aenter__)
        await asyncio.gather(*(self._life(engine, number) for number in range(self.rng.randint(1, 6))))
        await engine.__aexit__(None, None, None)

    async def _life(self, engine: durable.Durable, number: int) -> None:
        rng = self.rng
        workflow = rng.choice(WORKFLOWS[1:])
        id = f"x{number}"
        data = {"id": id, "fails": rng.choice((0, 0, 1, 2)), "slow": rng.choice((0.0, 0.001, 0.1, 4.0, 12.0))}
        await asyncio.sleep(rng.uniform(0, STORMY_SECONDS * 0.8))
        chosen = rng.random() < 0.5
        delay = durable.seconds(rng.choice((0, 0, 0, 3)))
        handle = await self._surely(
            lambda: engine.start(workflow, data, id=id if chosen else None, **({"delay": delay} if delay else {}))
        )
        self._note(f"started {id} {workflow.name} {handle.id}")
        self.report.executions += 1
        self.ledger.ids[handle.id] = id
        ending: asyncio.Task[Any] | None = None
        if rng.random() < 0.25 or workflow.name == "endless":
            ending = asyncio.create_task(
                self._cancel(engine, handle.id, rng.uniform(0, 8), compensate=rng.random() < 0.4)
            )
        sent: list[int] = []
        if workflow.name == "listens":
            for value in range(2):
                await asyncio.sleep(rng.choice((0.0, 0.005, rng.uniform(0, 5))))
                try:
                    if await self._surely(lambda v=value: engine.send_event(handle.id, "go", v, dedupe_key=f"{v}")):
                        sent.append(value)
                except durable.ExecutionEnded:
                    break
        cancelled = await ending if ending is not None else None
        try:
            result: Any = await handle.result()
            result.pop("runs", None)
            status = "completed"
        except durable.ExecutionFailed as error:
            result, status = None, str(error.status)
        except durable.ExecutionCancelled:
            result, status = None, "cancelled"
        self._judge(id, workflow.name, data, handle.id, status, result, cancelled, sent)

    async def _cancel(self, engine: durable.Durable, id: str, delay: float, *, compensate: bool) -> tuple[bool, bool]:
        await asyncio.sleep(delay)
        done = await self._surely(lambda: engine.cancel(id, "enough", compensate=compensate))
        self._note(f"cancelled {id} {done} compensate={compensate}")
        return bool(done), compensate

    async def _surely(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """As a caller does whose calls may be repeated."""
        while True:
            try:
                return await call()
            except durable.StoreUnavailable:
                await asyncio.sleep(1)

    def _judge(
        self,
        id: str,
        workflow: str,
        data: dict[str, Any],
        shown: str,
        status: str,
        result: Any,
        cancelled: tuple[bool, bool] | None,
        sent: list[int],
    ) -> None:
        say = self.ledger.violations.append
        e = self.store.tables.executions[execution_uuid(shown)]
        if e.status != status:
            say(f"{id} was told to have {status}, but has {e.status}")
        if cancelled is not None and cancelled[0]:
            expected = ("cancelled", "compensated", "failed") if cancelled[1] else ("cancelled",)
            if status not in expected:
                say(f"{id} was cancelled with success, and has {status}")
            return
        if cancelled is not None and status in ("cancelled", "compensated"):
            return  # the first of several tries did it, and its reply was lost
        wanted = EXPECTED[workflow](data)
        if (status, result) != wanted and not (workflow == "listens" and len(sent) < 2):
            say(f"{id} of {workflow!r} should be {wanted}, and is {(status, result)}")

    # --- The end ---

    async def _come_to_rest(self) -> None:
        """What was left behind ends, too: children, claims nobody knows of."""
        t = self.store.tables
        began = self.loop.time()
        while any(e.ended_at is None for e in t.executions.values()) or self.store.tables.doomed:
            t = self.store.tables
            if self.loop.time() > began + CALM_SECONDS:
                raise Violation(f"never ended: {[e for e in t.executions.values() if e.ended_at is None]}")
            await asyncio.sleep(1)
        for worker in self.workers:
            parts = worker.engine._running
            if worker.alive and parts is not None and parts.supervisor is not None:
                await self._check_idle(worker, parts.supervisor)

    async def _check_idle(self, worker: Worker, supervisor: Supervisor) -> None:
        """Nothing is left in a worker's own books, at least between two looks of its claimer."""
        for _ in range(1_000):
            left = f"{supervisor._owned} {supervisor._suspects} suspects {supervisor.under_way} {supervisor.slots()}"
            lost = any(in_flight for _, _, in_flight in supervisor.slots())
            if not (lost or supervisor._owned or supervisor._suspects or supervisor.under_way):
                return
            await asyncio.sleep(0.1)
        raise Violation(f"{worker.name} is not idle: {left}")

    def _check_the_end(self) -> None:
        t = self.store.tables
        if t.claims or t.ready or t.wakes:
            raise Violation(f"left behind: {t.claims} {t.ready} {t.wakes}")
        self.ledger.check_the_end()

    def bury(self) -> None:
        """Nothing that was killed may come to life again in the garbage collector."""
        for task in self._everybody:
            task._log_destroy_pending = False  # type: ignore[attr-defined]


async def _nothing(*_: Any) -> None:
    pass


def play(seeds: range, trace: Callable[[str], None] | None = None) -> Iterator[Report]:
    """One report for each seed. It takes over this interpreter."""
    sys.unraisablehook = lambda _: None  # what was killed is not to be heard of again
    gc.disable()
    kept: list[Scenario] = []
    for seed in seeds:
        scenario = Scenario(seed, trace)
        yield scenario.run()
        scenario.bury()
        kept.append(scenario)
        if len(kept) == 20:
            kept.clear()
            gc.collect()
