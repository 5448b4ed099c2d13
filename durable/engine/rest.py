"""Whether a body only waits, and how it lets go.

A body that waits for something far lets go of its slot as soon as nothing else of its execution can go on: its task is
cancelled, and what it returns after that counts for nothing. While something is busy, it waits where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Generator

from durable.engine.context import Body
from durable.engine.inbox import Wanted
from durable.engine.strands import IN_PLACE
from durable.errors import Interruption, JournalMismatch

TURNS = 16  # of the loop; a gather or a TaskGroup passes an error on in two


class Pause:
    """A wait of a body, until `due` on the loop's clock or, where something is `wanted`, until that is there."""

    __slots__ = ("due", "over", "passed", "timer", "wanted")

    def __init__(self, due: float, over: asyncio.Future[None], wanted: Wanted | None) -> None:
        self.due = due
        self.over = over
        self.wanted = wanted
        self.passed = False
        self.timer: asyncio.Task[None] | None = None


class Rest:
    """What one run of a body is doing: how many of its effects are at work, and which only wait."""

    __slots__ = (
        "_at_work",
        "_body",
        "_closed",
        "_held_by",
        "_left_to",
        "_limit_left",
        "_loop",
        "_pauses",
        "_resting",
        "_turns",
        "stopped_by",
        "suspended_until",
    )

    def __init__(self, body: Body) -> None:
        self.suspended_until: float | None = (
            None  # when the body is to run again, by the loop's clock; None: it may go on
        )
        self.stopped_by: Exception | None = None  # why the body was ended otherwise: not its own doing
        self._body = body
        self._loop = body.run.loop
        self._pauses: dict[Pause, None] = {}  # in the order in which they began
        self._limit_left = 0.0
        self._at_work: dict[asyncio.Task[object] | None, int] = {}  # how many effects each task does or records
        self._left_to: asyncio.Task[object] | None = None  # who alone may go on
        self._turns = 0  # of the loop, until it is looked whether the body only waits
        self._resting = False
        self._closed = False
        self._held_by: Interruption | None = None  # why nothing new may begin

    @property
    def ended(self) -> bool:
        """Whether the body was ended by us: what comes of it counts for nothing."""
        return self.suspended_until is not None or self.stopped_by is not None

    @property
    def busy(self) -> bool:
        """Whether effects are at work."""
        return bool(self._at_work)

    def let_go_at_once(self) -> None:
        """End the body: the execution goes on, but not with this run of it."""
        if self.ended:
            raise asyncio.CancelledError
        self.suspended_until = self._loop.time()
        if self._closed:  # the body is over, and something that it has left has begun the execution afresh
            raise asyncio.CancelledError
        self._cancel()

    def refuse_ended(self) -> None:
        """Cancel whoever goes on although the body was ended: it has swallowed that, or left something behind."""
        if self._left_to is not None:
            if asyncio.current_task() is not self._left_to:
                raise asyncio.CancelledError
        elif self.ended or self._closed or self._body.strand.over:
            raise asyncio.CancelledError

    def leave_to(self, task: asyncio.Task[object] | None) -> None:
        """From now on the other tasks of the body may do nothing more."""
        self._left_to = task

    async def come_to_rest(self) -> None:
        """The body is over, and this is closed: have what it has left at work come to its end, for it must not go on beside
        what comes next. It is cancelled; a thread, and a record on its way, are waited for."""
        own = asyncio.current_task()
        while left := [task for task in self._at_work if task is not None and task is not own]:
            for task in left:
                if task is not self._left_to:
                    task.cancel()
            await asyncio.wait(left)

    @contextlib.contextmanager
    def at_work(self) -> Generator[None]:
        """Something is being done: the body does not only wait."""
        self.refuse_ended()
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        self._at_work[task] = self._at_work.get(task, 0) + 1
        self._wake()
        try:
            yield
        finally:
            self._at_work[task] -= 1
            if not self._at_work[task]:
                del self._at_work[task]
            if self._held_by is not None and not self._at_work and not self.ended and not self._closed:
                self.end(self._held_by)
            self._look_soon()
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError  # a write, or a thread, has waited it out: the body is to hear of it now

    async def pause(self, due: float, wanted: Wanted | None = None) -> bool:
        """Wait, in place while anything else of the execution is busy. Whether the time has passed."""
        self.refuse_ended()
        if wanted is not None and wanted.answer is not None:
            return False
        if due <= self._loop.time():
            return True
        pause = Pause(due, self._loop.create_future(), wanted)
        if wanted is not None:
            wanted.given = functools.partial(self._over, pause)
        self._pauses[pause] = None
        self._look_soon()
        try:
            await pause.over
        finally:
            self._pauses.pop(pause, None)
            if pause.timer is not None:
                pause.timer.cancel()
            self._wake()  # whatever has ended this wait, the body goes on, or comes to its end
            self._look_soon()  # others may still wait
        return pause.passed

    def hold(self, reason: Interruption) -> None:
        """Nothing new may begin. The body is ended, once what is at work is recorded."""
        self._held_by = self._held_by or reason
        if not self._at_work:
            self.end(reason)

    def end(self, reason: Exception) -> None:
        """End the body because of something that is no doing of the author's, whose code must not catch it."""
        if self._closed or self.ended:
            raise asyncio.CancelledError  # its task does something else by now
        self.stopped_by = reason
        self._cancel()

    def close(self) -> None:
        """The body is over."""
        if self._resting:
            self._resting = False
            self._body.run.activity.wake(self._let_go)
        self._closed = True
        for pause in self._pauses:
            pause.over.cancel()  # whatever still waits for it was left behind
            if pause.timer is not None:
                pause.timer.cancel()

    def _cancel(self) -> None:
        if self._body.strand.task is not None:
            self._body.strand.task.cancel()

    def _look_soon(self) -> None:
        """Look whether the body only waits, once whatever is ready to run has run: others may be about to do something, or have
        failed, which takes a few turns of the loop to reach the body."""
        if not self._turns:
            self._loop.call_soon(self._turn)
        self._turns = TURNS

    def _turn(self) -> None:
        self._turns = 0 if self._at_work else self._turns - 1
        if self._turns:
            self._loop.call_soon(self._turn)
        elif not self._closed and not self.ended and self._pauses:
            self._look()

    def _look(self) -> None:
        # One that is over has a task which is about to go on.
        far = all(not p.over.done() and p.due - self._loop.time() > IN_PLACE for p in self._pauses)
        if far and not self._at_work and not self._resting:
            if (mismatch := self._mismatch()) is not None:
                self.end(mismatch)
                return
            self._resting = True
            self._stop_limit()
            self._body.run.activity.rest(self._let_go)
            if self.ended:
                return
        for pause in self._pauses:
            if pause.timer is None and pause.due != float("inf"):
                left = max(pause.due - self._loop.time(), 0.0)
                pause.timer = asyncio.ensure_future(self._body.run.journal.pause(left))
                pause.timer.add_done_callback(functools.partial(self._passed, pause))

    def _passed(self, pause: Pause, timer: asyncio.Task[None]) -> None:
        if not timer.cancelled():
            pause.passed = True
            self._over(pause)

    def _over(self, pause: Pause) -> None:
        if not pause.over.done():
            self._wake()
            pause.over.set_result(None)

    def _wake(self) -> None:
        if self._resting:
            self._resting = False
            self._body.run.activity.wake(self._let_go)
            limit = self._body.limit
            if limit is not None and not limit.expired():
                with contextlib.suppress(RuntimeError):  # the body has left it
                    limit.reschedule(self._loop.time() + self._limit_left)

    def _stop_limit(self) -> None:
        """A step's timeout does not count the time in which its body only waits."""
        limit = self._body.limit
        if limit is not None and not limit.expired() and (due := limit.when()) is not None:
            self._limit_left = due - self._loop.time()
            limit.reschedule(None)

    def _mismatch(self) -> JournalMismatch | None:
        return None if self._body.effects is None else self._body.effects.mismatch()

    def _let_go(self) -> None:
        """Nothing in the execution can go on: end the body. It runs again when there is something."""
        self._resting = False
        self.suspended_until = min(pause.due for pause in self._pauses)
        for pause in self._pauses:
            if pause.wanted is not None:
                self._body.run.journal.inbox.fall_asleep(pause.wanted)
        self._cancel()
