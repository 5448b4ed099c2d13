"""`Durable`: the engine an application holds. It puts the parts together and takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import logging
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import ModuleType, TracebackType
from typing import Any
from uuid import UUID

import msgspec

from durable import current
from durable.authoring import Workflow, collect
from durable.client import Client
from durable.codec import Codec, JsonCodec
from durable.engine.step_runner import StepRunner
from durable.errors import ConfigurationError, DecodeError, DefinitionError, DurableError, EngineNotRunning
from durable.ids import new_token
from durable.inbox import Input, input_from
from durable.logs import Capture
from durable.model.data_types import types_of
from durable.model.definition import Definition
from durable.model.fingerprint import shape_of
from durable.model.retention import LONGEST, Retention, fault_of
from durable.paging import Row
from durable.parts import Parts
from durable.queues import CONCURRENCY, COUNT_MAX, Queue
from durable.request import check_queue_name, key_of
from durable.runtime.canceller import Canceller
from durable.runtime.code import Shapes
from durable.runtime.collector import patient_collector
from durable.runtime.followers import Followers
from durable.runtime.herald import Herald
from durable.runtime.hooks import ExecutionEvent, Hooks, WorkerEvent
from durable.runtime.janitor import Janitor, Policy
from durable.runtime.listener import ENDED, FOLLOW, NEWS, READY, SCHEDULES, TOLD, Listener
from durable.runtime.supervisor import POLL_DEAF, POLL_HEALTHY, Supervisor
from durable.runtime.waiter import Waiter
from durable.scheduled import declarations
from durable.store.connection import Pooled
from durable.store.executions import Executions, births
from durable.store.group_commit import GroupCommit
from durable.store.migrate import migrate
from durable.store.transactions import Transactions
from durable.telemetry.figures import Figures
from durable.telemetry.meter import Meter
from durable.telemetry.otel import metrics
from durable.telemetry.page import Health, Page, health_of
from durable.telemetry.tracing import Tracing

log = logging.getLogger("durable")

DSN_VARIABLE = "DURABLE_DATABASE_URL"
LOCK_WAIT = "500ms"  # for somebody's transaction, of what is cancelled because of another execution
HOOK_SECONDS = 5.0  # how long closing waits for hooks that are under way
FLUSH_SECONDS = 5.0  # how long closing waits for PostgreSQL to take what was written


class Durable(Client):
    """The engine: a client, and unless ``worker=False`` a worker, in this process and event loop.

    *dsn* names the PostgreSQL database; without one the environment variable ``DURABLE_DATABASE_URL`` does, else an embedded
    PostgreSQL under ``.durable/`` is used (extra ``embedded``). *workflows* are what it can start and run: `Workflow` values,
    or modules that hold them. *queues* maps the queues that this worker serves to how many executions of each run here at
    once, or to a `Queue` with limits that hold for all workers. *lease* is how long this worker may be silent before others
    take its executions over; *drain* how long running steps may go on when it stops; *max_crashes* after how many crashes of
    its workers an execution is given up. *max_payload* bounds encoded input, in bytes. *writers* is the number of connections
    that write. *threads* and *processes* bound how many plain ``def`` and ``process=True`` steps run at once, *transactions*
    how many steps with ``transactional=True``: each has a connection meanwhile, beside those that write. *retention* is how
    long executions are kept after their end (a duration, or a `Retention` by status; for ever without one), of workflows that
    do not say so themselves, and *id_retention* how long ids of deleted ones are: under them nothing is started again.
    *on_reminder* is awaited with each `Input` that nobody has answered for its ``remind_every=``: by one worker that was given
    it; a reminder is lost with a worker that dies in it, or when it raises (which is logged), and the next one comes in its
    time.

    *on_execution_failed*, *on_execution_held* and *on_worker_lost* are awaited with what has happened, at most once, by the
    worker that has found it out: an end that a worker's crash hides from it is not told of. *capture_logs* is from which
    level on what bodies log is kept with their execution; None keeps nothing. *tracing* makes spans for OpenTelemetry, and
    *otel_metrics* tells it the figures of `metrics_app` (extra ``otel``).

    Use it as an async context manager, as the lifespan of an ASGI app, in aiohttp's ``cleanup_ctx``, or with `run`.
    It can be entered again after it was left. Raises `DefinitionError` and `ConfigurationError`.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        listener_dsn: str | None = None,
        workflows: Sequence[Workflow[Any, Any] | ModuleType] = (),
        queues: Mapping[str, int | Queue] | None = None,
        worker: bool = True,
        codec: Codec | None = None,
        lease: timedelta = timedelta(seconds=6),
        drain: timedelta = timedelta(seconds=15),
        max_crashes: int = 5,
        max_payload: int = 1 << 20,
        writers: int = 2,
        threads: int = 40,
        processes: int = 2,
        transactions: int = 10,
        on_reminder: Callable[[Input], Awaitable[None]] | None = None,
        on_execution_failed: Callable[[ExecutionEvent], Awaitable[None]] | None = None,
        on_execution_held: Callable[[ExecutionEvent], Awaitable[None]] | None = None,
        on_worker_lost: Callable[[WorkerEvent], Awaitable[None]] | None = None,
        capture_logs: int | str | None = "INFO",
        tracing: bool = False,
        otel_metrics: bool = False,
        retention: Retention | timedelta | None = None,
        id_retention: timedelta | None = timedelta(days=30),
    ) -> None:
        self._dsn = dsn
        self._listener_dsn = listener_dsn
        self._workflows = collect(workflows)
        self._definitions = {key: workflow.definition for key, workflow in self._workflows.items()}
        given = {"default": CONCURRENCY} if queues is None else queues
        self._queues = {name: _queue(name, queue) for name, queue in given.items()}
        # Of a bare number nothing is said for other workers.
        self._declared = sorted(name for name, queue in (queues or {}).items() if isinstance(queue, Queue))
        self._served = {name: queue.concurrency for name, queue in self._queues.items() if queue.concurrency}
        self._worker = worker
        self._registers = True
        self._codec: Codec = codec or JsonCodec()
        self._lease = lease.total_seconds()
        self._drain = drain.total_seconds()
        self._max_crashes = max_crashes
        self._max_payload = max_payload
        self._writers = writers
        self._threads = threads
        self._processes = processes
        self._transactions = transactions
        self._on_reminder = on_reminder
        self._hooks: dict[str, Any] = {
            "on_execution_failed": on_execution_failed,
            "on_execution_held": on_execution_held,
            "on_worker_lost": on_worker_lost,
        }
        self._capture_logs = capture_logs
        self._tracing = Tracing() if tracing else None
        self._otel_metrics = metrics() if otel_metrics else None
        self._page = Page(self.parts)
        self._retention = Retention.of(retention) if fault_of(retention) is None else retention
        self._id_retention = id_retention
        self._check()
        self._declarations = declarations(self._definitions, self._codec, self._max_payload)
        self._stack: contextlib.AsyncExitStack | None = None
        self._running: Parts | None = None

    def _check(self) -> None:
        for name, value, least in (
            ("max_crashes", self._max_crashes, 1),
            ("max_payload", self._max_payload, 1),
            ("writers", self._writers, 1),
            ("threads", self._threads, 1),
            ("processes", self._processes, 1),
            ("transactions", self._transactions, 1),
        ):
            if type(value) is not int or value < least:
                raise ConfigurationError(f"Durable: {name} is {value!r}. Give a whole number from {least} up.")
        if not 1 <= self._lease <= 3600:
            raise ConfigurationError(f"Durable: lease is {self._lease} s. Give one second to one hour.")
        if self._drain < 0:
            raise ConfigurationError(f"Durable: drain is {self._drain} s. Give zero or more.")
        if (fault := fault_of(self._retention)) is not None:
            raise ConfigurationError(f"Durable: {fault}")
        kept = self._id_retention
        if kept is not None and not (isinstance(kept, timedelta) and timedelta(0) <= kept <= LONGEST):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"Durable: id_retention is {kept!r}. Give a timedelta, or None to keep ids for ever."
            )
        for queue in self._queues:
            check_queue_name(queue)
        for name, hook in {"on_reminder": self._on_reminder, **self._hooks}.items():
            if hook is not None and not inspect.iscoroutinefunction(hook):
                raise ConfigurationError(f"Durable: {name} is {hook!r}. Give an `async def`.")
        level = self._capture_logs
        if isinstance(level, str):
            level = logging.getLevelNamesMapping().get(level)
        if (level is None and self._capture_logs is not None) or isinstance(level, bool):
            raise ConfigurationError(
                f'Durable: capture_logs is {self._capture_logs!r}. Give a level of logging, e.g. "INFO", or None for nothing.'
            )
        for definition in self._definitions.values():
            self._check_types(definition)
        if self._worker and not self._served:
            raise ConfigurationError(
                "Durable: a worker without queues would run nothing. Give queues, or worker=False."
            )

    def _check_types(self, definition: Definition) -> None:
        if type(self._codec) is not JsonCodec:
            return  # another may read what plain JSON cannot be read as
        for what, annotation in types_of(definition):
            try:
                self._codec.check(annotation)
            except DecodeError as error:
                raise DefinitionError(f"{what}: {str(error).removeprefix('$: ')}") from error

    # --- What it was given ----------------------------------------------------------------------------------------

    @property
    def dsn(self) -> str | None:
        """The database that it was given, or that the environment names; None: an embedded one."""
        return self._dsn or os.environ.get(DSN_VARIABLE)

    @property
    def listener_dsn(self) -> str | None:
        """The database past a pooler, if it was given one."""
        return self._listener_dsn

    @property
    def workflows(self) -> list[Workflow[Any, Any]]:
        """What it can start and run."""
        return list(self._workflows.values())

    @property
    def codec(self) -> Codec:
        """How its data becomes JSON."""
        return self._codec

    def serve(self, queues: Mapping[str, int]) -> None:
        """Be a worker that serves these queues and no others, so many executions of each here at once, from when it is entered.
        What limits they have stays. Raises `ConfigurationError`."""
        if self._stack is not None:
            raise ConfigurationError("this engine is running already. Say what it serves before it is entered.")
        known = {name: self._queues.get(name, Queue()) for name in queues}
        self._queues |= {name: replace(queue, concurrency=queues[name]) for name, queue in known.items()}
        self._served, self._worker = dict(queues), True
        self._check()

    def as_client(self, dsn: str, *, starts: bool = False) -> Durable:
        """An engine like this one, not running, that is a client and no worker, on the database of *dsn*. Unless it *starts*
        something, it leaves as it is what workers go by: the limits of queues, and which code there is."""
        client = copy.copy(self)
        if dsn != self.dsn:
            client._listener_dsn = None  # it leads to the other database
        client._dsn, client._worker, client._stack, client._running = dsn, False, None, None
        client._registers, client._declared = starts, self._declared if starts else []
        return client

    # --- Ways to run ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Durable:
        """Connect, migrate, begin to work. Raises `ConfigurationError`, or what asyncpg raises when it cannot connect."""
        if self._stack is not None:
            raise ConfigurationError("this engine is running already. Make another Durable for a second one.")
        stack = contextlib.AsyncExitStack()
        self._stack = stack
        try:
            await self._open(stack)
        except BaseException:
            self._stack = self._running = None
            await stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain: steps that run may finish within the limit, the rest goes back to be run by others or later."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[None]:
        """The lifespan of an ASGI app: ``FastAPI(lifespan=engine.lifespan)``."""
        async with self:
            yield

    async def cleanup_ctx(self, app: Any) -> AsyncGenerator[None]:
        """For aiohttp: ``app.cleanup_ctx.append(engine.cleanup_ctx)``."""
        async with self:
            yield

    async def run(self) -> None:
        """Be a worker process: run until SIGTERM or SIGINT, then drain and return. Meanwhile Python's garbage collector looks
        less often (`gc.set_threshold`), for the process has nothing else to do. Raises `ConfigurationError` with
        ``worker=False``."""
        if not self._worker:
            raise ConfigurationError(
                "this engine is a client, Durable(worker=False): it would run nothing. Give the worker an engine of its own, "
                "or say what it serves: `durable worker --queue NAME`."
            )
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        try:
            async with self:
                log.info("this worker serves %s; it stops on SIGTERM or SIGINT", ", ".join(self._served))
                with patient_collector():
                    await stop.wait()
                log.info("this worker drains")
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    # --- How it is ------------------------------------------------------------------------------------------------

    async def health(self) -> Health:
        """Whether this engine goes on by itself, and would serve what comes now; what is wrong, otherwise. Raises
        `EngineNotRunning`."""
        return await health_of(self.parts())

    def metrics_app(self) -> Page:
        """An ASGI app to be mounted or served: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for whoever manages
        processes."""
        return self._page

    # --- Putting it together ---------------------------------------------------------------------------------------

    def parts(self) -> Parts:
        if self._running is None:
            raise EngineNotRunning(
                "this engine is not running. Enter it first: `async with engine:`, or FastAPI(lifespan=engine.lifespan)."
            )
        return self._running

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        dsn = self.dsn
        if dsn is None and self._listener_dsn is not None:
            raise ConfigurationError(
                f"Durable: listener_dsn goes with a dsn that leads to a pooler. Give it, or set {DSN_VARIABLE}."
            )
        if dsn is None:
            from durable.embedded import EmbeddedPostgres  # only here: it is not for every system

            dsn = (await stack.enter_async_context(await EmbeddedPostgres.start())).dsn
        direct = dsn if self._listener_dsn is None else self._listener_dsn
        dsn = dsn if self._listener_dsn is None else Pooled(dsn)
        await migrate(direct)
        process = new_token()
        executions = Executions(dsn)
        stack.push_async_callback(executions.close)
        shapes = Shapes(self._definitions)
        if self._registers:
            await self._judge_shapes(executions, shapes)
        await self._declare_queues(executions)
        commit = await stack.enter_async_context(_closing_in_time(GroupCommit(dsn, self._writers)))
        channels = [READY, TOLD, FOLLOW, SCHEDULES] if self._worker else []
        listener = Listener(direct, process, channels, self._message, self._connected)
        runner = StepRunner(self._codec, threads=self._threads, processes=self._processes)
        stack.callback(runner.close)
        meter = runner.meter = Meter()
        runner.tracer = self._tracing
        if self._capture_logs is not None and self._worker:
            stack.enter_context(self._captured(runner, self._capture_logs))
        hooks = Hooks(self._hooks)
        waiter = Waiter(dsn, process, self._runs_here, lambda: POLL_HEALTHY if listener.healthy else POLL_DEAF)
        followers = Followers(process, listener)
        herald = Herald(process, listener, waiter.ended)
        patient = Executions(
            dsn, LOCK_WAIT
        )  # what waits for somebody's transaction there must not hold up those who ask
        stack.push_async_callback(patient.close)
        canceller = Canceller(executions, patient, herald)
        janitor = Janitor(dsn, self._policies(), self._keep_ids)
        stack.push_async_callback(janitor.close)
        supervisor = None
        if self._worker:
            transactions = Transactions(direct, self._transactions)
            stack.push_async_callback(transactions.close)
            supervisor = Supervisor(
                dsn=dsn,
                process=process,
                shapes=shapes,
                queues=self._served,
                commit=commit,
                listener=listener,
                transactions=transactions,
                runner=runner,
                lease=self._lease,
                max_crashes=self._max_crashes,
                engine=self,
                herald=herald,
                followers=followers,
                canceller=canceller,
                on_left=waiter.ask,
                definitions=self._definitions,
                turn_of=self._turn_of,
                declarations=self._declarations,
                remind=None if self._on_reminder is None else self._remind,
                janitor=janitor,
                meter=meter,
                hooks=hooks,
                tracing=self._tracing,
            )
        herald.supervisor = supervisor
        figures = Figures(meter, commit, executions, lambda: [] if supervisor is None else supervisor.slots())
        if self._otel_metrics is not None:
            stack.enter_context(self._otel_metrics.telling(figures))
        self._running = Parts(
            process=process,
            definitions=self._definitions,
            queues=self._queues,
            janitor=janitor,
            meter=meter,
            figures=figures,
            tracing=self._tracing,
            codec=self._codec,
            commit=commit,
            births=births(process),
            executions=executions,
            listener=listener,
            followers=followers,
            herald=herald,
            canceller=canceller,
            waiter=waiter,
            supervisor=supervisor,
            payload_bytes_max=self._max_payload,
        )
        stack.callback(self._closed)
        if self._declared:
            herald.queues_changed()  # each time: not everybody may have heard of it
        await stack.enter_async_context(_task(waiter.run(), "durable waiter"))
        await stack.enter_async_context(_task(listener.run(), "durable listener"))
        stack.push_async_callback(listener.flush)
        if supervisor is not None:
            stack.push_async_callback(hooks.finish, HOOK_SECONDS)
            stack.push_async_callback(supervisor.drain, self._drain)
            await supervisor.start()
        current.enter(self)
        stack.callback(current.leave, self)

    def _closed(self) -> None:
        self._running = None

    async def _judge_shapes(self, executions: Executions, shapes: Shapes) -> None:
        """Store our shapes, and find which stored ones our definitions can go on with."""
        ours = sorted(self._definitions.values(), key=lambda d: d.shape)
        await executions.fetch(
            "shape/register",
            [d.shape for d in ours],
            [d.name for d in ours],
            [d.version for d in ours],
            [msgspec.json.encode(shape_of(d)).decode() for d in ours],
            [d.queue for d in ours],
            [d.priority for d in ours],
            [None if d.timeout is None else d.timeout.total_seconds() for d in ours],
        )
        shapes.judge(await executions.fetch("shape/read", shapes.names))

    async def _declare_queues(self, executions: Executions) -> None:
        """Say what limits the queues that we were given limits for."""
        if not self._declared:
            return
        queues = [self._queues[name] for name in self._declared]
        rows = await executions.fetch(
            "queue/declare",
            self._declared,
            [queue.global_concurrency for queue in queues],
            [queue.rate and queue.rate.count for queue in queues],
            [queue.rate and queue.rate.per.total_seconds() for queue in queues],
            [queue.per_key for queue in queues],
            [queue.max_depth for queue in queues],
            [queue.keyed for queue in queues],
            [queue.paused for queue in queues],
        )
        for row in rows:
            if row["changed"]:
                log.warning(
                    "the limits of queue %r were declared otherwise before; ours hold from now on", row["queue"]
                )
        # Each time, not only when that is new: whoever has declared it may have died before this.
        await executions.fetch("queue/count_claims", self._declared)

    @property
    def _keep_ids(self) -> float | None:
        return None if self._id_retention is None else self._id_retention.total_seconds()

    def _policies(self) -> list[Policy]:
        """How long what is kept: of a workflow with several versions, as its newest says."""
        newest = {name: definition for (name, _), definition in sorted(self._definitions.items())}
        return [
            Policy(name, status.value, period.total_seconds())
            for name, definition in newest.items()
            if (kept := definition.retention or Retention.of(self._retention)) is not None
            for status, period in kept.periods()
        ]

    @contextlib.contextmanager
    def _captured(self, runner: StepRunner, level: int | str) -> Generator[None]:
        handler = Capture(self, logging.getLevelNamesMapping()[level] if isinstance(level, str) else level)
        runner.capture = True
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)

    def _turn_of(self, queue: str, definition: Definition, text: str) -> str | None:
        """With whom an execution takes turns that a schedule starts; with nobody, where its data does not say."""
        try:
            return key_of(queue, self._codec.decode(text, definition.input_type), None, self._queues)
        except DurableError as error:
            log.error("a schedule of workflow %r starts under no key: %s", definition.name, error)
            return None

    async def _remind(self, row: Row) -> None:
        if self._on_reminder is not None:
            await self._on_reminder(input_from(row, self._codec))

    # --- Messages --------------------------------------------------------------------------------------------------

    def _runs_here(self, execution_id: UUID) -> bool:
        return (
            self._running is not None
            and self._running.supervisor is not None
            and self._running.supervisor.owns(execution_id)
        )

    def _message(self, channel: str, message: str) -> None:
        parts = self._running
        if parts is None:
            return
        if channel == parts.listener.own:
            if message.startswith(ENDED):
                parts.waiter.told(UUID(hex=message.removeprefix(ENDED)))
            elif message.startswith(NEWS):
                parts.followers.told(UUID(hex=message.removeprefix(NEWS)))
        elif channel == FOLLOW:
            parts.followers.asked(message)
        elif parts.supervisor is not None:
            if channel == READY:
                parts.supervisor.ready_message(message)
            elif channel == SCHEDULES:
                parts.supervisor.scheduler.look()
            elif channel == TOLD:
                parts.supervisor.claim_told(UUID(hex=message))

    def _connected(self) -> None:
        parts = self._running
        if parts is not None:
            parts.waiter.look()
            if parts.supervisor is not None:
                parts.supervisor.look_everywhere()


def _queue(name: str, queue: Any) -> Queue:
    if isinstance(queue, Queue):
        return queue
    if type(queue) is not int or not 1 <= queue <= COUNT_MAX:
        raise ConfigurationError(f"Durable: queues[{name!r}] is {queue!r}. Give a whole number from 1 up, or a Queue.")
    return Queue(concurrency=queue)


@contextlib.asynccontextmanager
async def _task(work: Any, name: str) -> AsyncGenerator[None]:
    task: asyncio.Task[None] = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _closing_in_time(commit: GroupCommit) -> AsyncGenerator[GroupCommit]:
    await commit.__aenter__()
    try:
        yield commit
    finally:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await commit.__aexit__()
        except TimeoutError:
            log.error(
                "PostgreSQL did not take the last writes within %.0f s; they were never acknowledged", FLUSH_SECONDS
            )
