"""The supervisor: one worker in one process. It owns what runs here and decides what happens to it.

Data flows one way: claimer (or a local start) -> `begin` -> a task that interprets -> group commit -> `finished`, `suspended`
or `released`. Everything else comes from outside and ends in one of three acts on a task: interrupt it because its claim is
lost, because its deadline has passed, or because this worker drains.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from durable.engine.context import Engine
from durable.engine.inbox import Inbox, Message
from durable.engine.interpreter import Interpreter
from durable.engine.journal import Blocked, Failed, History, Outcome, Subject
from durable.engine.step_runner import StepRunner
from durable.errors import ClaimLost, Interruption, StoreUnavailable
from durable.ids import shown_id
from durable.model.definition import Definition
from durable.model.failure import Failure
from durable.model.status import Status
from durable.runtime.auditor import Auditor
from durable.runtime.canceller import Canceller
from durable.runtime.claimer import Claimer, Lane
from durable.runtime.code import Shapes, claimable, record_from
from durable.runtime.followers import Followers
from durable.runtime.herald import Herald
from durable.runtime.hooks import ExecutionEvent, Hooks, WorkerEvent
from durable.runtime.janitor import Janitor
from durable.runtime.listener import HELD, QUEUES, READY, SCHEDULES, TIMER, Listener
from durable.runtime.owned import ENDING, Ended, Interrupted, Owned, Writes
from durable.runtime.postman import Postman
from durable.runtime.reaper import Reaper
from durable.runtime.reminder import Remind, Reminder
from durable.runtime.scheduler import Declaration, Scheduler
from durable.runtime.standing import Standing
from durable.runtime.timekeeper import Timekeeper
from durable.store.claims import Past, read_messages
from durable.store.connection import AGAIN, LOST, Link, Named, Row
from durable.store.executions import births
from durable.store.group_commit import GroupCommit
from durable.store.queries import load
from durable.store.transactions import Transactions
from durable.telemetry.catalogue import Labels
from durable.telemetry.meter import Meter
from durable.telemetry.tracing import Tracing, Waits, waits_of

log = logging.getLogger("durable.runtime")

RELEASE_ROWS = 500
EARLY_MAX = 10_000  # hints kept about executions that may be being claimed
SIGN_OFF_SECONDS = 2.0
CANCEL_SECONDS = 5.0  # how long a cancelled step may take to end before a drain gives up on it
OUR_FAULT_DELAY = 60.0  # seconds until an execution that met a fault of ours is tried again
POLL_HEALTHY = 20.0  # seconds between looks when notifications arrive
POLL_DEAF = 1.0  # when they do not


class Supervisor:
    """Runs executions with the code for their *shapes*, from *queues* (name to concurrency). `start`, then
    `drain`."""

    def __init__(
        self,
        *,
        dsn: str,
        process: UUID,
        shapes: Shapes,
        queues: Mapping[str, int],
        commit: GroupCommit,
        listener: Listener,
        transactions: Transactions,
        runner: StepRunner,
        lease: float,
        max_crashes: int,
        engine: Engine | None,
        herald: Herald,
        followers: Followers,
        canceller: Canceller,
        on_left: Callable[[UUID], None],
        remind: Remind | None,
        definitions: Mapping[tuple[str, int], Definition],
        declarations: Sequence[Declaration],
        turn_of: Callable[[str, Definition, str], str | None],
        janitor: Janitor,
        meter: Meter,
        hooks: Hooks,
        tracing: Tracing | None,
    ) -> None:
        self._tracing = tracing
        self._meter = meter
        self._hooks = hooks
        self._janitor = janitor
        self._process = process
        self._shapes = shapes
        self._codes = shapes.codes
        self._commit = commit
        self._listener = listener
        self.transactions = transactions
        self._runner = runner
        self._max_crashes = max_crashes
        self._engine = engine
        self._herald = herald
        self.followers = followers
        self._canceller = canceller
        self._on_left = on_left
        self._lanes = {name: Lane(name, concurrency) for name, concurrency in queues.items()}
        self._owned: dict[UUID, Owned] = {}
        self._suspects = 0
        self._draining = False
        self.under_way: set[UUID] = set()  # tokens of claims that are being asked for: no strays
        self._told_early: set[UUID] = set()  # of what message came while claims were under way
        self._left_some = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sentinel: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._link = Link(dsn, "supervisor", on_resent=self.look_everywhere)
        self._errands: set[asyncio.Task[None]] = set()
        self._claimer = Claimer(
            dsn,
            self._lanes,
            claimable(self._codes),
            self._identity,
            lambda: 0 if self._suspects else 1,
            self._claimed,
            self.under_way,
            self._poll_seconds,
        )
        self._postman = Postman(self._link, herald.mail)
        self._timekeeper = Timekeeper(
            self._link, self._became_ready, self._postman.look, canceller.look, self._poll_seconds
        )
        self._reminder = None if remind is None else Reminder(self._link, remind, self._poll_seconds)
        self._reaper = Reaper(self._link, self._became_ready, self._timekeeper.look, self._lost)
        self._auditor = Auditor(
            self._link,
            lambda: self.worker_id,
            self._owned,
            self.under_way,
            self._reaper.reap_orphans,
            self.release_stray,
            self._poll_seconds,
        )
        self.scheduler = Scheduler(
            dsn,
            self._link,
            definitions,
            declarations,
            turn_of=turn_of,
            on_ready=self._became_ready,
            on_doomed=canceller.look,
            on_queued=functools.partial(listener.send, SCHEDULES, "queued"),
            on_resent=self.look_everywhere,
            poll_seconds=self._poll_seconds,
        )
        self._standing = Standing(
            dsn, lease, self._stop_everything, self._take_up_work, self._reaper.reap, self._shapes_counted
        )
        self._writes = Writes(commit, self.worker_id)
        self.births = births(self.worker_id)

    @property
    def worker_id(self) -> UUID:
        """Who this worker is: a new one after it was taken for dead."""
        return self._standing.worker_id

    def _shapes_counted(self, count: int) -> None:
        if count != self._shapes.count:
            self._background(self._learn())

    async def _learn(self) -> None:
        """Other code has come: executions may have begun under it, and be here for us when it has gone again."""
        before = len(self._codes)
        self._shapes.judge(await self._link.fetch_surely(load("shape/read"), self._shapes.names))
        if len(self._codes) > before:
            self._claimer.learn(claimable(self._codes))

    # --- Life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register this worker and begin to work. Raises what keeps it from registering, other than an outage."""
        await self._standing.start()
        await self.scheduler.declare()
        # Does nothing, and so is cancelled only when all are; the others are, for an instant, when a timeout of theirs is over.
        self._sentinel = asyncio.create_task(_for_ever(), name="durable sentinel")
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("claimer", self._claimer.run),
            ("timekeeper", self._timekeeper.run),
            ("postman", self._postman.run),
            ("canceller", functools.partial(self._canceller.run, self._link)),
            ("reaper", self._reaper.run),
            ("auditor", self._auditor.run),
            ("lease watch", self._standing.watch),
            ("janitor", self._janitor.run),
        ]
        if self._shapes.names:
            loops.append(("scheduler", self.scheduler.run))
        if self._reminder is not None:
            loops.append(("reminder", self._reminder.run))
        self._tasks = [asyncio.create_task(self._kept_alive(name, run), name=f"durable {name}") for name, run in loops]
        self._tasks.append(self._sentinel)

    async def drain(self, limit: float) -> None:
        """Stop gracefully: nothing new begins, steps that run may finish within *limit* seconds, the rest is cancelled; all
        that is not finished goes back, at once, to be claimed by others. If cancelled, it stops at once, ungracefully."""
        self._draining = True
        self._claimer.stop()
        try:
            await self._let_finish(limit)
        finally:
            for owned in list(self._owned.values()):  # some are left if it was cancelled: nobody would stop them later
                owned.interrupt(Interrupted.DRAIN)
            await self._stop()

    async def _let_finish(self, limit: float) -> None:
        try:
            async with asyncio.timeout(limit):
                # Slots of claims and starts under way count too: what they deliver goes back. The claimer gives back by
                # itself the slots that it found nothing for, so its end is waited for first.
                if self._tasks:
                    await asyncio.wait(self._tasks[:1])
                await self._until(self._empty)
            return
        except TimeoutError:
            log.warning("%d steps did not finish within the drain limit and are cancelled", len(self._owned))
        for owned in list(self._owned.values()):
            owned.interrupt(Interrupted.DRAIN)
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._until(self._idle)
        except TimeoutError:
            log.error(
                "%d steps do not heed their cancellation; their executions go on elsewhere when the lease has lapsed",
                len(self._owned),
            )

    async def _stop(self) -> None:
        tasks = [*self._tasks, *self._errands]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.send(READY, TIMER)  # others are to keep the time that only this worker knew of
        await self._standing.stop()
        try:
            async with asyncio.timeout(SIGN_OFF_SECONDS):
                await self._link.fetch(load("worker/sign_off"), self.worker_id)
                await self._link.fetch(load("worker/remove"), self.worker_id)
        except (*LOST, *AGAIN):
            log.warning("this worker could not sign off: its lease will lapse by itself")
        await self.scheduler.close()
        await self._link.close()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._left_some.clear()
            await self._left_some.wait()

    def _idle(self) -> bool:
        return not self._owned

    def _empty(self) -> bool:
        return not any(lane.in_flight for lane in self._lanes.values())

    async def _kept_alive(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop of ours for ever: a fault in one of them must not end the worker silently."""
        while True:
            try:
                await run()
                return
            except Exception:
                log.exception("the %s has failed and is started again", name)
                await asyncio.sleep(1)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._errands.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._errands.discard)

    # --- What may run, and when to look ------------------------------------------------------------------------

    def may_begin(self) -> None:
        """Raise an `Interruption` when no new attempt may begin here."""
        if self._draining:
            raise Interruption("this worker drains")
        if not self._standing.well:
            raise Interruption("this worker's lease is about to lapse")

    def closing(self) -> bool:
        """Whether this worker ends, or whoever closes the loop cancels every task in it: ours are then among them."""
        return self._sentinel is not None and self._sentinel.cancelling() > 0

    def reserve(self, definition: Definition, queue: str) -> bool:
        """Take a slot for an execution that is about to be started here, if it would run at once: there is a free slot,
        nobody waits before it, and this worker is well. Give it back with `unreserve`, or use it with `begin`."""
        lane = self._lanes.get(queue)
        if lane is None or lane.backlog or lane.limited or lane.free <= 0 or self._draining or not self._standing.well:
            return False
        if definition.shape not in self._codes:
            return False
        lane.in_flight += 1
        return True

    def unreserve(self, queue: str) -> None:
        """Give a slot back that `reserve` took."""
        lane = self._lanes[queue]
        lane.in_flight -= 1
        self._claimer.slot_freed(lane)
        self._left_some.set()

    @property
    def epoch(self) -> int:
        """Goes up with every lapse of the lease; see `can_use`."""
        return self._standing.epoch

    def can_use(self, epoch: int) -> bool:
        """Whether a claim that was asked for in *epoch* may be used. If not, it was or will be given back, by ourselves when
        the lease holds again, or by whoever took us for dead: to run it could be to run it twice."""
        return epoch == self._standing.epoch and not self._standing.lapsed

    @property
    def well(self) -> bool:
        """Whether the lease holds, and is not about to lapse."""
        return self._standing.well

    @property
    def draining(self) -> bool:
        """Whether this worker ends."""
        return self._draining

    def dead_loops(self) -> list[str]:
        """What this worker does by itself and has stopped to do."""
        return [] if self._draining else [task.get_name() for task in self._tasks if task.done()]

    def slots(self) -> list[tuple[str, int, int]]:
        """Of each queue how many executions run here at most, and now."""
        used = Counter(owned.queue for owned in self._owned.values())  # not those that are only asked for
        return [(lane.name, lane.concurrency, used[lane.name]) for lane in self._lanes.values()]

    def _lost(self, worker: UUID, executions: int) -> None:
        self._meter.count("durable_workers_lost_total")
        self._hooks.call(
            "on_worker_lost", WorkerEvent(worker_id=worker, executions=executions, found_at=datetime.now(UTC))
        )

    def owns(self, execution_id: UUID) -> bool:
        """Whether the execution runs here."""
        return execution_id in self._owned

    def became_ready(self, queue: str) -> None:
        """Something was made ready by this process: look, and tell the others."""
        self._became_ready([queue])

    def queues_changed(self) -> None:
        """Limits of queues were changed."""
        self._claimer.limits_changed()

    @property
    def keyed(self) -> frozenset[str]:
        """The queues in which keys take turns."""
        return self._claimer.keyed

    def deliver_posted(self) -> None:
        """Something was posted, or emitted."""
        self._postman.look()

    def cancel_doomed(self) -> None:
        """Something is to be cancelled because of another execution."""
        self._canceller.look()

    def will_be_due(self, delay: float) -> None:
        """Something was put to sleep by this process."""
        self._timekeeper.consider(delay)

    def asked(self, remind_every: float | None) -> None:
        """An execution has asked people, who are to be reminded."""
        if self._reminder is not None and remind_every is not None:
            self._reminder.consider(remind_every)

    def _identity(self) -> tuple[UUID, int] | None:
        return (self.worker_id, self.epoch) if self._standing.well else None

    def _poll_seconds(self) -> float:
        return (POLL_HEALTHY if self._listener.healthy else POLL_DEAF) * random.uniform(0.5, 1.0)

    def _became_ready(self, queues: Sequence[str]) -> None:
        for queue in queues:
            self._claimer.nudge(queue)
            self._listener.send(READY, queue)

    # --- Executions ---------------------------------------------------------------------------------------------

    def begin(
        self,
        execution_id: UUID,
        token: UUID,
        queue: str,
        shape: int,
        subject: Subject,
        deadline_in: float | None,
        inbox: Inbox | None = None,
        parent_id: UUID | None = None,
        *,
        called: bool = False,
        waits: Waits | None = None,
    ) -> None:
        """Run an execution that was claimed under *token*; its slot was reserved. *shape*: what it was begun under. *waits* are
        those that it brings along, for traces."""
        stay = None
        if self._tracing is not None:
            try:
                stay = self._tracing.arrived(execution_id, subject, queue, self.worker_id, waits or {})
            except Exception:  # of a sampler, or an exporter: none of ours
                log.exception("execution %s runs without a span", execution_id)
        owned = Owned(
            self,
            self._writes,
            execution_id,
            token,
            queue,
            self._codes[shape],
            subject,
            time.monotonic(),
            inbox or Inbox(),
            parent_id,
            called,
        )
        if subject.crashes >= 2:
            owned.suspect = True
            self._suspects += 1
        if deadline_in is not None:
            owned.deadline = self._loop.call_later(max(deadline_in, 0.0), owned.interrupt, Interrupted.DEADLINE)
        self._owned[execution_id] = owned
        owned.stay = stay
        owned.task = self._loop.create_task(self._run(owned))
        # Not at the end of `_run`: a task that is cancelled before it has run never gets there.
        owned.task.add_done_callback(functools.partial(self._left, owned))
        if execution_id in self._told_early:
            self._told_early.discard(execution_id)
            self.claim_told(execution_id)

    def _claimed(self, epoch: int, token: UUID, row: Row, past: Past) -> None:
        if not self.can_use(epoch):
            self.unreserve(row["queue"])
            return
        queue: Labels = (("queue", row["queue"]),)
        self._meter.count("durable_executions_claimed_total", queue)
        if row["waited"] is not None:
            self._meter.observe("durable_ready_seconds", queue, row["waited"])
        history = History([record_from(r) for r in past.journal])
        code = self._codes[row["shape_id"]]
        deadline_in: float | None = row["deadline_in"]
        overdue = deadline_in is not None and deadline_in <= 0
        ending = overdue or row["undo"] is not None or history.failing is not None
        if (reason := code.refuses(history, ending=ending)) is not None:
            self._background(self._hold(row, token, code.definition, reason, ending=ending))
            return
        subject = Subject(
            shown_id(row["execution_id"], row["name"]),
            code.definition.name,
            row["input"],
            history,
            json.loads(row["tags"]) if row["tags"] else {},
            row["crashes"],
            deadline_passed=overdue,
            undo=row["undo"],
        )
        inbox = Inbox()
        if row["mail"]:
            inbox.put(map(_message, past.messages), row["mail"])
        self.begin(
            row["execution_id"],
            token,
            row["queue"],
            row["shape_id"],
            subject,
            None if overdue else deadline_in,
            inbox,
            row["parent_id"],
            called=row["called"],
            waits=None if self._tracing is None else waits_of(past.journal, row["ready_at"]),
        )

    async def _hold(self, row: Row, token: UUID, definition: Definition, reason: str, *, ending: bool) -> None:
        """Leave an execution that our code cannot go on with to workers that can."""
        queue = row["queue"]
        name = shown_id(row["execution_id"], row["name"])
        log.warning("execution %r of %r is held: %s", name, definition.name, reason)
        try:
            shapes = sorted({*(row["held_by"] or ()), definition.shape})
            held = await self._writes.hold(row["execution_id"], token, shapes, reason, ending=ending)
            if held is not None and not held["stays"]:  # somebody has asked to undo it since
                self._claimer.nudge(queue)
                self._listener.send(READY, queue)
            elif held is not None:
                event = ExecutionEvent(id=name, workflow=definition.name, status=Status.PENDING, reason=reason)
                self._hooks.call("on_execution_held", event)
                self._listener.send(READY, HELD)
        finally:
            self.unreserve(queue)

    async def _run(self, owned: Owned) -> None:
        owned.started = True
        interpreter = Interpreter(
            owned.code.definition,
            owned.subject,
            owned,
            self._runner,
            max_crashes=self._max_crashes,
            engine=self._engine,
            loop=self._loop,
        )
        try:
            await self._interpret(owned, interpreter)
        except Interruption as error:
            log.info("execution %r: %s", owned.subject.execution_id, error)
        except Exception:
            # Not even its end could be written. The audit gives its claim back.
            log.exception("execution %r is left as it stands", owned.subject.execution_id)

    async def _interpret(self, owned: Owned, interpreter: Interpreter) -> None:
        """Run until there is an outcome and it is written. What ends an execution from outside, or data that PostgreSQL
        refuses, is not the end: what has to be undone is undone in the same task."""
        run = interpreter.run
        refused = False
        while True:
            outcome: Outcome | None = None
            unstorable: Failure | None = None
            try:
                outcome = await run()
                if owned.interrupted not in ENDING or isinstance(outcome, Failed):
                    await owned.conclude(outcome)
                    return
                # A body did not heed it; what it has done counts as a record.
            except asyncio.CancelledError:
                if owned.interrupted is None:
                    raise
            except ClaimLost:
                if not await self._is_to_be_undone(owned):
                    raise
            except StoreUnavailable:
                raise  # nothing can be written: the engine closes
            except Interruption:
                pass
            except asyncpg.PostgresError as error:
                # The codec should have refused it before. The execution must not be tried for ever on what cannot be stored.
                unstorable = Failure.of(error)
                if refused:
                    await owned.conclude(Failed(unstorable))
                    return
                refused = True
            except Exception as error:
                log.error(
                    "execution %r met a fault of durable; please report it", owned.subject.execution_id, exc_info=error
                )
                await owned.conclude(Blocked(OUR_FAULT_DELAY))
                return
            match owned.interrupted:
                case None if unstorable is not None:
                    run = functools.partial(interpreter.fail, unstorable)
                case Interrupted.DEADLINE:
                    run = functools.partial(interpreter.deadline_exceeded, outcome)
                case Interrupted.UNDO:
                    run = functools.partial(interpreter.undo, owned.subject.undo or "", outcome)
                case _:
                    await self._released(owned)
                    return
            owned.go_on()

    async def _is_to_be_undone(self, owned: Owned) -> bool:
        """A write was refused: perhaps because somebody has cancelled the execution, to be undone, at this moment."""
        try:
            row = await self._ask(owned)
        except (*LOST, *AGAIN):
            return False  # the audit will find it
        if row is None or row["gone"] or row["undo"] is None:
            return False
        owned.subject.undo = row["undo"]
        owned.interrupted = Interrupted.UNDO  # set, for the task that it would cancel is this one
        return True

    async def _released(self, owned: Owned) -> None:
        """Give the execution back, if it is ours. While the lease is gone, that is done for all at once, when it is back."""
        owned.concluding = True
        if self._standing.holds and await owned.writes.release(owned.execution_id, owned.token) is not None:
            self._became_ready([owned.queue])

    def _left(self, owned: Owned, _: asyncio.Task[None]) -> None:
        if owned.deadline is not None:
            owned.deadline.cancel()
        if self._owned.get(owned.execution_id) is owned:
            del self._owned[owned.execution_id]
        if owned.suspect:
            owned.suspect = False
            self.cleared()
        self.unreserve(owned.queue)
        if self._tracing is not None and owned.stay is not None:
            self._tracing.left(owned.subject.execution_id, owned.stay)
        lane = self._lanes[owned.queue]
        if lane.limited and (lane.others or lane.backlog):
            self._listener.send(READY, owned.queue)  # it may be another worker's turn
        self._on_left(owned.execution_id)

    def cleared(self) -> None:
        """A suspect is none any more, or has left: the next one may come."""
        self._suspects -= 1
        self._claimer.nudge()

    def finished(self, owned: Owned, ended: Ended, row: Row) -> None:
        """The end of an execution is durable: tell who waits for it."""
        self._herald.ended(owned.execution_id, ended, row["watchers"])
        self._meter.count(
            "durable_executions_ended_total", (("workflow", owned.subject.workflow), ("status", ended.status))
        )
        if ended.error is not None and self._hooks.has("on_execution_failed"):
            failure = msgspec.json.decode(ended.error, type=Failure)
            id, workflow = owned.subject.execution_id, owned.subject.workflow
            event = ExecutionEvent(id=id, workflow=workflow, status=Status(ended.status), failure=failure)
            self._hooks.call("on_execution_failed", event)
        self.followers.moved(owned.execution_id)
        if owned.parent_id is not None:
            self._herald.mail(owned.parent_id, row["parent_queue"], sure=False)
        # With its end those are doomed that it waits for, and all children, if somebody asked to undo it, even since the claim.
        if owned.subject.history.open or ended.status != Status.COMPLETED:
            self._canceller.look()

    def suspended(self, owned: Owned, delay: float, *, ready: bool) -> None:
        """An execution sleeps: until its time, or its deadline if that comes first. Or it is *ready*, for it has mail."""
        if ready:
            self._became_ready([owned.queue])
        if owned.deadline is not None:
            delay = min(delay, owned.deadline.when() - self._loop.time())
        self._timekeeper.consider(delay)

    async def seconds_until(self, when: datetime) -> float:
        """How long it is to an instant, by the clock of the database."""
        rows = await self._link.fetch_surely(load("clock/until"), when)
        return float(rows[0]["seconds"])

    # --- Messages -----------------------------------------------------------------------------------------------

    def ready_message(self, message: str) -> None:
        """Another process says that something is ready in a queue, or that time has to be kept."""
        if message == TIMER:
            self._timekeeper.look()
        elif message == HELD:
            self._claimer.nudge(held=True)
        elif message == QUEUES:
            self._claimer.limits_changed()
        else:
            self._claimer.nudge(message)

    def claim_told(self, execution_id: UUID) -> None:
        """A message says that a claim may be gone, or its execution be to be undone: ask, for a message is a hint."""
        if execution_id in self._owned:
            self._background(self._ask_for_told(self._owned[execution_id]))
        elif not self.under_way or len(self._told_early) > EARLY_MAX:
            self._told_early.clear()
        else:
            self._told_early.add(execution_id)

    def look_everywhere(self) -> None:
        """Notifications may have been missed."""
        self._claimer.nudge(held=True)
        self._claimer.limits_changed()
        self._timekeeper.look()
        self.scheduler.look()

    async def _ask_for_told(self, owned: Owned) -> None:
        try:
            row = await self._ask(owned)
        except (*LOST, *AGAIN):
            return  # the audit will ask again
        owned.paused = row is not None and bool(row["paused"])
        if row is not None and self._owned.get(owned.execution_id) is owned:
            if row["gone"]:
                owned.interrupt(Interrupted.CLAIM_LOST)
                return
            if row["undo"] is not None:
                owned.ask_to_undo(row["undo"])
            await self.fetch_mail(owned, row["mail"] or 0)

    async def _ask(self, owned: Owned) -> Row | None:
        """What became of a claim: nothing, if there is no row. Raises what `Link.fetch` raises."""
        rows = await self._link.fetch(load("claim/told"), [owned.execution_id], [owned.token], [owned.inbox.seen])
        return rows[0] if rows else None

    async def fetch_mail(self, owned: Owned, mail: int = 0) -> None:
        """Put into the inbox what was sent since it was looked into last. All up to number *mail* were sent before this."""
        found = await read_messages(self._link, [owned.execution_id], owned.inbox.seen)
        owned.inbox.put(map(_message, found[owned.execution_id]), mail)

    async def fetch_result(self, execution_id: UUID) -> Row | None:
        """A row of ``execution/results``; None when there is no such execution."""
        rows = await self._link.fetch_surely(load("execution/results"), [execution_id])
        return rows[0] if rows else None

    async def release_stray(self, execution_id: UUID, token: UUID) -> None:
        """Give back a claim of ours that nobody here knows."""
        if execution_id not in self._owned and await self._writes.release(execution_id, token) is not None:
            self.look_everywhere()

    # --- The lease ------------------------------------------------------------------------------------------------

    def _stop_everything(self) -> None:
        for owned in list(self._owned.values()):
            owned.interrupt(Interrupted.CLAIM_LOST)

    async def _take_up_work(self) -> None:
        """The lease holds again. What was stopped goes back; a body that does not heed its cancellation keeps its claim
        until it ends, for nobody else may run it meanwhile."""
        if self.worker_id != self._writes.worker_id:
            self._writes = Writes(self._commit, self.worker_id)
            self.births = births(self.worker_id)
        queues: set[str] = set()
        while True:
            rows = await self._link.fetch_surely(
                load("claim/release_all"), self.worker_id, RELEASE_ROWS, list(self._owned)
            )
            queues.update(row["queue"] for row in rows)
            if not rows:  # a short page may be one of which some have ended meanwhile
                break
        self._became_ready(sorted(queues))
        self.look_everywhere()


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def _message(row: Named) -> Message:
    return Message(row["number"], row["topic"], row["payload"])
