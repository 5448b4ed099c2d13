"""Effects: what is durable inside the body of one step. Sleeps, and calls that are made once.

An effect is recorded under the path of its step and a key of its own. When the body runs again, from the top, each effect that
is recorded gives its recorded answer at once; the first that is not goes on. A body that only waits does not keep its slot:
once nothing in the execution can go on, its task is cancelled, and what it returns after that counts for nothing. It is
never unwound by an exception of ours, which `gather` would swallow or let its siblings outlive.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import hashlib
import random
import typing
from collections.abc import Callable, Coroutine, Generator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from durable.engine.context import CURRENT, Body
from durable.engine.journal import Record
from durable.engine.strands import IN_PLACE, Strand
from durable.errors import AmbiguousEffect, EncodeError, Interruption, NonRetryable, RunFailed, UsageError
from durable.model.definition import UNANNOTATED
from durable.model.failure import Failure
from durable.model.retry import Retry

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter

TURNS = 16  # of the loop; a gather or a TaskGroup passes an error on in two
EFFECTS_MAX = 10_000  # of one body: all of them are read again each time it wakes
_DIGEST_LETTERS = 16
_encode = msgspec.json.Encoder().encode

_WITHIN_CALL: contextvars.ContextVar[str | None] = contextvars.ContextVar("durable_within_call", default=None)


def effects() -> Effects:
    """The effects of the step whose body calls this. Raises `UsageError` elsewhere."""
    context = CURRENT.get()
    body = None if context is None else context.body
    if context is None or body is None:
        raise UsageError("this can be awaited only in the body of a step, an `async def`. One in a thread cannot wait.")
    if body.run.loop is not asyncio.get_running_loop():
        raise UsageError("this was awaited in another event loop than that of the engine. Await it in the body itself.")
    if body.over:
        raise UsageError(
            f"this was awaited by something that the body of {context.path!r} has left behind. Await it there."
        )
    if (called := _WITHIN_CALL.get()) is not None:
        raise UsageError(
            f"this was awaited within run({called!r}), whose answer is recorded as a whole: when the body runs again, what is "
            "inside is not called, and others would get its answers. Await it in the body itself."
        )
    if body.effects is None:
        body.effects = Effects(body, context.path, context.attempt)
    return body.effects


class _Pause:
    """A wait of a body: `over` is set when its time has come. `due` is on the loop's clock."""

    __slots__ = ("due", "over", "timer")

    def __init__(self, due: float, loop: asyncio.AbstractEventLoop) -> None:
        self.due = due
        self.over: asyncio.Future[None] = loop.create_future()
        self.timer: asyncio.Task[None] | None = None


class Effects:
    """The effects of one run of the body of one attempt."""

    __slots__ = (
        "_attempt",
        "_body",
        "_busy",
        "_closed",
        "_count",
        "_held_by",
        "_in_flight",
        "_keys",
        "_limit_left",
        "_path",
        "_pauses",
        "_resting",
        "_run",
        "_strand",
        "_turns",
        "_waiters",
        "loop",
        "stopped_by",
        "suspended_until",
    )

    def __init__(self, body: Body, path: str, attempt: int) -> None:
        self.loop = body.run.loop
        self.suspended_until: float | None = (
            None  # when the body is to run again, by the loop's clock; None: it may go on
        )
        self.stopped_by: Exception | None = None  # why the body was ended otherwise: not its own doing
        self._body = body
        self._run: Interpreter = body.run
        self._strand: Strand = body.strand
        self._path = path
        self._attempt = attempt
        self._keys: dict[str, int] = {}
        self._count = 0
        self._in_flight: set[str] = set()
        self._waiters: dict[
            str, asyncio.Task[Any] | None
        ] = {}  # by the name of a wait: the task that has used it first
        self._pauses: dict[str, _Pause] = {}
        self._limit_left = 0.0
        self._busy = 0  # effects that are being done or recorded
        self._turns = 0  # of the loop, until it is looked whether the body only waits
        self._resting = False
        self._closed = False
        self._held_by: Interruption | None = None  # why nothing new may begin

    # --- Sleeping -----------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float, key: str | None) -> None:
        """Sleep for so long from when it is called first. See `durable.sleep`."""
        with self._waiting("sleep", key) as taken:
            await self._sleep(taken, lambda: _at_once(seconds))

    async def sleep_until(self, when: datetime, key: str | None) -> None:
        """Sleep until the instant that it is called with first. See `durable.schedule_at`."""
        with self._waiting("schedule_at", key) as taken:
            await self._sleep(taken, lambda: self._run.journal.seconds_until(when))

    async def _sleep(self, key: str, seconds: Callable[[], Coroutine[Any, Any, float]]) -> None:
        for record in self._recorded(key):
            await self._pause(record)
            return
        with self._at_work():
            delay = max(await seconds(), 0.0)
            record = Record(self._take_seq(), self._path, "waiting", self._attempt, delay=delay, key=key)
            await self._write(record)
        await self._pause(record)

    async def _pause(self, record: Record) -> None:
        """Wait until what *record* promises is due, in place while anything else of the execution is busy."""
        self._refuse_ended()
        key, due = record.key or "", self._run.due(record)
        if due <= self.loop.time():
            return
        pause = self._pauses[key] = _Pause(due, self.loop)
        self._look_soon()
        try:
            await pause.over
            self._run.dues[record.seq] = 0.0  # it has passed, also where time is virtual
        finally:
            del self._pauses[key]
            if pause.timer is not None:
                pause.timer.cancel()
            self._wake()  # whatever has ended this wait, the body goes on, or comes to its end
            self._look_soon()  # others may still wait

    # --- Calls that are made once -------------------------------------------------------------------------------

    async def call(self, function: Callable[..., Any], args: Sequence[Any], name: str, retry: Retry) -> Any:
        """Call a function, record what it returns, and give that from then on. See `durable.run`."""
        codec = self._run.runner.codec
        try:
            text = codec.encode(list(args))
        except EncodeError as error:
            raise NonRetryable(
                f"run({name!r}): its arguments tell it from other calls, but cannot be stored: {error}. "
                "Bind what is no data with functools.partial, and give it a name=."
            ) from error
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LETTERS]
        key = self._take_key(f"run:{name}:{digest}")
        kind = _result_type(function)
        tried: list[Record] = []
        for record in self._recorded(key):
            if record.kind == "ran":
                return codec.decode(record.value or "null", kind)
            tried.append(record)
        while True:
            if tried:
                last = tried[-1]
                if last.delay is None:
                    raise RunFailed(name, last.failure)
                await self._pause(last)
            await self._may_begin()
            with self._at_work():
                within = _WITHIN_CALL.set(name)
                try:
                    returned = await self._run.runner.call(function, args, self._path, key)
                except Exception as error:
                    delay = retry.next_delay(len(tried) + 1, error, random.uniform(-1, 1))
                    seconds = None if delay is None else delay.total_seconds()
                    failure = Failure.of(error)
                    text = _encode(failure).decode()
                    seq = self._take_seq()
                    record = Record(seq, self._path, "tried", self._attempt, error=text, delay=seconds, key=key)
                    await self._write(record)
                    if delay is None:
                        raise RunFailed(name, failure) from error
                    tried.append(record)
                    continue
                finally:
                    _WITHIN_CALL.reset(within)
                try:
                    result = codec.encode(returned, kind)
                except EncodeError as error:
                    raise NonRetryable(f"run({name!r}): what it returned cannot be stored: {error}") from error
                await self._write(Record(self._take_seq(), self._path, "ran", self._attempt, value=result, key=key))
                return codec.decode(result, kind)

    # --- Keys and records ---------------------------------------------------------------------------------------

    def _take_key(self, name: str) -> str:
        """The key of the next effect of this name, by its occurrence in the body."""
        self._refuse_ended()
        count = self._keys[name] = self._keys.get(name, 0) + 1
        self._count += 1
        if self._count > EFFECTS_MAX:
            raise NonRetryable(
                f"the body of {self._path!r} has more than {EFFECTS_MAX:,} effects. Use several steps, or a loop."
            )
        return f"{name}#{count}"

    @contextlib.contextmanager
    def _waiting(self, kind: str, own: str | None) -> Generator[str]:
        """The key of a wait, for as long as it lasts. *own* is the author's name for it."""
        name = kind if own is None else f"{kind}:{own}"
        task = asyncio.current_task()
        if name in self._in_flight or self._waiters.setdefault(name, task) is not task:
            raise AmbiguousEffect(
                f"the body of {self._path!r} waits by {kind}() in several of its tasks. Which of them is which could "
                "change when it runs again. Give each a key= of its own."
            )
        self._in_flight.add(name)
        try:
            yield self._take_key(name)
        finally:
            self._in_flight.discard(name)

    def _recorded(self, key: str) -> list[Record]:
        """What is recorded of an effect and still holds: failures do so within their attempt only."""
        past = self._run.subject.history.by_path.get(self._path)
        records = () if past is None or past.effects is None else past.effects.get(key, ())
        return [record for record in records if record.kind != "tried" or record.attempt == self._attempt]

    def _take_seq(self) -> int:
        return self._run.subject.history.take_seq()

    async def _write(self, record: Record) -> None:
        self._refuse_ended()
        try:
            await self._run.write(self._strand, record)
        except Exception as error:
            self._end(error)
            await self._for_ever()
        self._refuse_ended()

    # --- What ends a body --------------------------------------------------------------------------------------

    async def _may_begin(self) -> None:
        """Go on if something new may begin. If not, the body is ended, once its calls that are under way are recorded."""
        try:
            self._run.may_begin(self._strand)
        except Interruption as reason:
            self._held_by = self._held_by or reason
            if not self._busy:
                self._end(reason)
            await self._for_ever()

    def _end(self, reason: Exception) -> None:
        """End the body because of something that is no doing of the author's, whose code must not catch it."""
        if self._closed or self.ended:
            raise asyncio.CancelledError  # its task does something else by now
        self.stopped_by = reason
        if self._strand.task is not None:
            self._strand.task.cancel()

    async def _for_ever(self) -> NoReturn:
        while True:
            await self.loop.create_future()  # until the cancellation comes

    # --- Being busy, resting, and letting go --------------------------------------------------------------------

    @contextlib.contextmanager
    def _at_work(self) -> Generator[None]:
        """Something is being done: the body does not only wait."""
        self._refuse_ended()
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        self._busy += 1
        self._wake()
        try:
            yield
        finally:
            self._busy -= 1
            if self._held_by is not None and not self._busy and not self.ended and not self._closed:
                self._end(self._held_by)
            self._look_soon()
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError  # a write, or a thread, has waited it out: the body is to hear of it now

    @property
    def ended(self) -> bool:
        """Whether the body was ended by us: what comes of it counts for nothing."""
        return self.suspended_until is not None or self.stopped_by is not None

    def _refuse_ended(self) -> None:
        if self.ended or self._closed or self._strand.over:
            raise asyncio.CancelledError  # the body has swallowed it, or something that it has left behind goes on

    def _look_soon(self) -> None:
        """Look whether the body only waits, once whatever is ready to run has run: others may be about to do something, or have
        failed, which takes a few turns of the loop to reach the body."""
        if not self._turns:
            self.loop.call_soon(self._turn)
        self._turns = TURNS

    def _turn(self) -> None:
        self._turns = 0 if self._busy else self._turns - 1
        if self._turns:
            self.loop.call_soon(self._turn)
        elif not self._closed and not self.ended and self._pauses:
            self._look()

    def _look(self) -> None:
        far = all(pause.due - self.loop.time() > IN_PLACE for pause in self._pauses.values())
        if far and not self._busy and not self._resting:
            self._resting = True
            self._stop_limit()
            self._run.activity.rest(self._let_go)
            if self.ended:
                return
        for pause in self._pauses.values():
            if pause.timer is None:
                left = max(pause.due - self.loop.time(), 0.0)
                pause.timer = asyncio.ensure_future(self._run.journal.pause(left))
                pause.timer.add_done_callback(functools.partial(self._passed, pause))

    def _passed(self, pause: _Pause, timer: asyncio.Task[None]) -> None:
        if not timer.cancelled() and not pause.over.done():
            self._wake()
            pause.over.set_result(None)

    def _wake(self) -> None:
        if self._resting:
            self._resting = False
            self._run.activity.wake(self._let_go)
            limit = self._body.limit
            if limit is not None and not limit.expired():
                with contextlib.suppress(RuntimeError):  # the body has left it
                    limit.reschedule(self.loop.time() + self._limit_left)

    def _stop_limit(self) -> None:
        """A step's timeout does not count the time in which its body only waits."""
        limit = self._body.limit
        if limit is not None and not limit.expired() and (due := limit.when()) is not None:
            self._limit_left = due - self.loop.time()
            limit.reschedule(None)

    def _let_go(self) -> None:
        """Nothing in the execution can go on: end the body. It runs again when there is something."""
        self._resting = False
        self.suspended_until = min(pause.due for pause in self._pauses.values())
        if self._strand.task is not None:
            self._strand.task.cancel()

    def close(self) -> None:
        """The body is over."""
        if self._resting:
            self._resting = False
            self._run.activity.wake(self._let_go)
        self._closed = True
        for pause in self._pauses.values():
            pause.over.cancel()  # whatever still waits for it was left behind
            if pause.timer is not None:
                pause.timer.cancel()


async def _at_once(seconds: float) -> float:
    return seconds


def _result_type(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return", UNANNOTATED)
    except Exception:  # annotations are expressions: they may raise anything
        return UNANNOTATED
