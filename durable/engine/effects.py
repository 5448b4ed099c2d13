"""Effects: what is durable inside the body of one step. Sleeps, waits for messages, and calls that are made once.

An effect is recorded under the path of its step and a key of its own. When the body runs again, from the top, each effect that
is recorded gives its recorded answer at once; the first that is not goes on. A body that only waits does not keep its slot
(see `durable.engine.rest`). It is never unwound by an exception of ours, which `gather` would swallow or let its siblings
outlive.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import json
import math
import random
import typing
from collections.abc import Callable, Coroutine, Generator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from durable.codec import Codec
from durable.engine.context import CURRENT, Body
from durable.engine.inbox import Wanted
from durable.engine.journal import Asked, Record
from durable.engine.rest import Rest
from durable.engine.strands import Strand
from durable.errors import (
    AmbiguousEffect,
    AnsweredMeanwhile,
    EncodeError,
    Interruption,
    NonRetryable,
    RunFailed,
    UsageError,
    WaitTimeout,
)
from durable.model.answers import read_answer, topic_of_input, write_answer
from durable.model.definition import UNANNOTATED
from durable.model.failure import Failure
from durable.model.names import check_name
from durable.model.retry import Retry

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter

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


class Effects:
    """The effects of one run of the body of one attempt."""

    __slots__ = ("_attempt", "_count", "_in_flight", "_keys", "_path", "_run", "_strand", "_waiters", "loop", "rest")

    def __init__(self, body: Body, path: str, attempt: int) -> None:
        self.loop = body.run.loop
        self.rest = Rest(body)
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

    @property
    def codec(self) -> Codec:
        """As what data is read and written."""
        return self._run.runner.codec

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
        with self.rest.at_work():
            delay = max(await seconds(), 0.0)
            record = Record(self._take_seq(), self._path, "waiting", self._attempt, delay=delay, key=key)
            await self._write(record)
        await self._pause(record)

    async def _pause(self, record: Record) -> None:
        """Wait until what *record* promises is due."""
        await self.rest.pause(self._run.due(record))
        self._run.dues[record.seq] = 0.0  # it has passed, also where time is virtual

    # --- Waiting for messages -----------------------------------------------------------------------------------

    async def wait(
        self,
        kind: str,
        own: str | None,
        topics: Sequence[str] = (),
        *,
        every: bool = False,
        timeout: float | None,
        lenient: bool,
        asked: Asked | None = None,
    ) -> list[tuple[str, str]] | None:
        """Wait for a message on one of *topics*, or with *every* one on each of them, or for the answer to what is *asked*, for
        *timeout* seconds from when it is called first. Returns topics and payloads (JSON), or with *lenient* None when none
        came in time.

        Raises `WaitTimeout` then otherwise, which the step's next attempt begins anew.
        """
        with self._waiting(kind, own) as key:
            records = self._recorded(key)
            for record in records:
                if record.kind == "answered":
                    return read_answer(record.value)
                if record.kind == "expired":
                    return self._expired(record)
            registered = records[0] if records else None
            order = self._take_seq() if registered is None else registered.seq
            if asked is not None:
                topics = [topic_of_input(order, asked.name)]
            wanted = Wanted(topics, every, order, _nobody)
            return await self._await_message(key, registered, wanted, timeout, lenient, asked)

    async def _await_message(
        self,
        key: str,
        registered: Record | None,
        wanted: Wanted,
        timeout: float | None,
        lenient: bool,
        asked: Asked | None,
    ) -> list[tuple[str, str]] | None:
        inbox = self._run.journal.inbox
        inbox.want(wanted)
        try:
            with self.rest.at_work():
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # what is there is given now
                if wanted.answer is None and registered is None:
                    registered = Record(
                        wanted.order, self._path, "waiting", self._attempt, delay=timeout, key=key, asks=asked
                    )
                    await self._write(registered)
            if wanted.answer is None and registered is not None:
                due = math.inf if registered.delay is None else self._run.due(registered)
                await self.rest.pause(due, wanted)
            with self.rest.at_work():
                while wanted.answer is None:
                    await self._run.journal.fetch_mail()  # what was there before the time had come beats it
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    if wanted.answer is None:
                        error = None if lenient else _encode(Failure.of(_late(key, self._path))).decode()
                        seq, closes = self._take_seq(), None if asked is None else wanted.order
                        record = Record(seq, self._path, "expired", self._attempt, error=error, key=key, closes=closes)
                        with contextlib.suppress(AnsweredMeanwhile):  # by an answer that is there now
                            await self._write(record)
                            return self._expired(record)
                answer = [(message.topic, message.payload) for message in wanted.answer]
                numbers = tuple(message.number for message in wanted.answer)
                text = write_answer(answer)
                await self._write(
                    Record(self._take_seq(), self._path, "answered", self._attempt, text, key=key, consumes=numbers)
                )
                return answer
        finally:
            inbox.leave(wanted)

    def _expired(self, record: Record) -> None:
        if record.error is not None:
            raise WaitTimeout(record.failure.message)

    # --- Calls that are made once -------------------------------------------------------------------------------

    async def call(self, function: Callable[..., Any], args: Sequence[Any], name: str, retry: Retry) -> Any:
        """Call a function, record what it returns, and give that from then on. See `durable.run`."""
        codec = self.codec
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
            with self.rest.at_work():
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
        self.rest.refuse_ended()
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
        name = kind if own is None else f"{kind}:{json.dumps(check_name(own, 'a key'), ensure_ascii=False)}"
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
        """What is recorded of an effect and still holds: a failure, and what led to it, do so within their attempt only."""
        past = self._run.subject.history.by_path.get(self._path)
        records = () if past is None or past.effects is None else past.effects.get(key, ())
        holding: list[Record] = []
        for record in records:
            if record.error is not None and record.attempt != self._attempt:
                holding.clear()
            else:
                holding.append(record)
        return holding

    def _take_seq(self) -> int:
        return self._run.subject.history.take_seq()

    async def _write(self, record: Record) -> None:
        self.rest.refuse_ended()
        try:
            await self._run.write(self._strand, record)
        except AnsweredMeanwhile:
            raise
        except Exception as error:
            self.rest.end(error)
            await self._for_ever()
        self.rest.refuse_ended()

    async def _may_begin(self) -> None:
        """Go on if something new may begin; else not at all."""
        try:
            self._run.may_begin(self._strand)
        except Interruption as reason:
            self.rest.hold(reason)
            await self._for_ever()

    async def _for_ever(self) -> NoReturn:
        while True:
            await self.loop.create_future()  # until the cancellation comes


def _late(key: str, path: str) -> WaitTimeout:
    return WaitTimeout(f"{path!r}: {key.rpartition('#')[0]} did not come within its timeout")


def _nobody() -> None:
    """Nobody is to be told."""


async def _at_once(seconds: float) -> float:
    return seconds


def _result_type(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return", UNANNOTATED)
    except Exception:  # annotations are expressions: they may raise anything
        return UNANNOTATED
