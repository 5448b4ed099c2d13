"""Effects: what is durable inside the body of one step. Sleeps, waits for messages, and calls that are made once.

An effect is recorded under the path of its step and a key of its own. When the body runs again, from the top, each effect that
is recorded gives its recorded answer at once; the first that is not goes on. A body that only waits does not keep its slot
(see `durable.engine.rest`). It is never unwound by an exception of ours, which `gather` would swallow or let its siblings
outlive.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import typing
import weakref
from collections.abc import Callable, Coroutine, Generator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import msgspec

from durable.codec import Codec, plain_text
from durable.engine.context import CURRENT, MAKER, WITHIN_CALL, Body
from durable.engine.journal import ENDING_PATH, Birth, Kind, Record
from durable.engine.rest import TURNS, Rest
from durable.engine.strands import Strand
from durable.errors import (
    AmbiguousEffect,
    AnsweredMeanwhile,
    EncodeError,
    Interruption,
    JournalMismatch,
    NonRetryable,
    RunFailed,
    RunRefused,
    UsageError,
)
from durable.model.definition import UNANNOTATED, Step
from durable.model.failure import Failure
from durable.model.names import check_name
from durable.model.retry import Retry

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter

EFFECTS_MAX = 10_000  # of one body: all of them are read again each time it wakes
_DIGEST_LETTERS = 16
_encode = msgspec.json.Encoder().encode

_MAKER_LETTERS = 8
_FINAL = "final"  # the target of a call that failed by a NonRetryable, which is to end the step


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
    if (called := WITHIN_CALL.get()) is not None:
        raise UsageError(
            f"this was awaited within run({called[0]!r}), whose answer is recorded as a whole: when the body runs again, what "
            "is inside is not called, and others would get its answers. Await it in the body itself."
        )
    if context.transaction is not None:
        raise UsageError(
            f"this was awaited in {context.path!r}, which is transactional: its transaction would be open "
            "for nobody knows how long. Await it in a step of its own, before or after."
        )
    if body.effects is None:
        body.effects = Effects(body, context.path, context.attempt)
    return body.effects


class Effects:
    """The effects of one run of the body of one attempt."""

    __slots__ = (
        "_asked",
        "_attempt",
        "_calls",
        "_count",
        "_in_flight",
        "_keys",
        "_path",
        "_strand",
        "_waiters",
        "loop",
        "rest",
        "run",
    )

    def __init__(self, body: Body, path: str, attempt: int) -> None:
        self.loop = body.run.loop
        self.rest = Rest(body)
        self.run: Interpreter = body.run
        self._strand: Strand = body.strand
        self._path = path
        self._attempt = attempt
        self._keys: dict[str, int] = {}
        self._count = 0
        self._in_flight: set[str] = set()
        self._asked: dict[str, bool] = {}  # the keys that were asked for: whether something was recorded of them
        self._waiters: dict[
            str, asyncio.Task[Any] | None
        ] = {}  # by the name of a wait: the task that has used it first

        self._calls: dict[str, list[str]] | None = None  # by call: the keys under which it was recorded before

    @property
    def codec(self) -> Codec:
        """As what data is read and written."""
        return self.run.runner.codec

    # --- Sleeping -----------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float, key: str | None) -> None:
        """Sleep for so long from when it is called first. See `durable.sleep`."""
        with self.waiting("sleep", key) as taken:
            await self._sleep(taken, lambda: _at_once(seconds))

    async def sleep_until(self, when: datetime, key: str | None) -> None:
        """Sleep until the instant that it is called with first. See `durable.schedule_at`."""
        with self.waiting("schedule_at", key) as taken:
            await self._sleep(taken, lambda: self.run.journal.seconds_until(when))

    async def _sleep(self, key: str, seconds: Callable[[], Coroutine[Any, Any, float]]) -> None:
        record = next(iter(self.recorded(key)[0]), None)
        if record is None:
            with self.rest.at_work():
                delay = max(await seconds(), 0.0)
                record = Record(self.take_seq(), self._path, "waiting", self._attempt, delay=delay, key=key)
                await self.write(record)
        await self._pause(record)
        if (tracer := self.run.runner.tracer) is not None:
            tracer.slept(self.run.subject.execution_id, record)

    async def _pause(self, record: Record) -> None:
        """Wait until what *record* promises is due."""
        await self.rest.pause(self.run.due(record))
        self.run.dues[record.seq] = 0.0  # it has passed, also where time is virtual

    # --- Calls that are made once -------------------------------------------------------------------------------

    async def call(self, function: Callable[..., Any], args: Sequence[Any], name: str, retry: Retry) -> Any:
        """Call a function, record what it returns, and give that from then on. See `durable.run`."""
        codec = self.codec
        try:
            text = plain_text(list(args), codec)
        except EncodeError as error:
            raise NonRetryable(
                f"run({name!r}): its arguments tell it from other calls, but cannot be stored: {error}. "
                "Bind what is no data with functools.partial, and give it a name=."
            ) from error
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LETTERS]
        call = f"run:{name}:{digest}"
        key = await self._of_another_task(call, self._take_key(f"{call}{self._maker()}"))
        kind = _result_type(function)
        tried: list[Record] = []
        for record in self.recorded(key)[0]:
            if record.kind == "ran":
                return codec.decode(record.value or "null", kind)
            tried.append(record)
        while True:
            if tried:
                last = tried[-1]
                if last.delay is None:
                    raise (RunRefused if last.target == _FINAL else RunFailed)(name, last.failure)
                await self._pause(last)
            await self._may_begin()
            with self.rest.at_work():
                within = WITHIN_CALL.set((name, key))
                try:
                    returned = await self.run.runner.call(function, args, self._path, key)
                except Exception as error:
                    delay = retry.next_delay(len(tried) + 1, error, random.uniform(-1, 1))
                    seconds = None if delay is None else delay.total_seconds()
                    failure = Failure.of(error)
                    text = _encode(failure).decode()
                    seq = self.take_seq()
                    record = Record(seq, self._path, "tried", self._attempt, error=text, delay=seconds, key=key)
                    record.target = _FINAL if isinstance(error, NonRetryable) else None
                    await self.write(record, made=True)
                    if delay is None:
                        raise (RunFailed if record.target is None else RunRefused)(name, failure) from error
                    tried.append(record)
                    continue
                finally:
                    WITHIN_CALL.reset(within)
                try:
                    result = codec.encode(returned, kind)
                except EncodeError as error:
                    raise NonRetryable(f"run({name!r}): what it returned cannot be stored: {error}") from error
                record = Record(self.take_seq(), self._path, "ran", self._attempt, value=result, key=key)
                await self.write(record, made=True)
                return codec.decode(result, kind)

    # --- Children that are only begun ---------------------------------------------------------------------------

    async def bear(self, kind: str, own: str | None, birth: Callable[[str, int], Birth]) -> UUID:
        """Begin a child, once. Returns its id. See `durable.start_workflow`."""
        with self.waiting(kind, own) as key:
            records, failed = self.recorded(key)
            for record in records:
                return msgspec.json.decode(record.value or "", type=UUID)
            born = birth(key, failed)
            with self.rest.at_work():
                record = self.record(self.take_seq(), "ran", key)
                record.value, record.bears = _encode(born.execution_id).decode(), born
                await self.write(record)
            return born.execution_id

    # --- To begin afresh ------------------------------------------------------------------------------------------

    async def continue_as(self, data: Any) -> NoReturn:
        """End the body, and begin the execution afresh. See `durable.continue_as`."""
        body = self.run.definition.body.nodes
        if not (len(body) == 1 and isinstance(body[0], Step) and body[0].whole and self._path == body[0].name):
            raise UsageError("continue_as() is for the body of a @durable.workflow. A pipeline repeats by a loop.")
        if self.rest.busy:
            raise UsageError("continue_as() was called while another task of the body is at work. Await that first.")
        try:
            text = self.codec.encode(data, self.run.definition.input_type)
        except EncodeError as error:
            raise NonRetryable(f"continue_as(): its data cannot be stored: {error}") from error
        with self.rest.at_work():
            history = self.run.subject.history
            record = Record(self.take_seq(), ENDING_PATH, "continued", history.life + 1, text)
            record.takes_back = tuple(history.open.values())
            self.rest.leave_to(asyncio.current_task())
            await self.write(record)
            self.rest.let_go_at_once()
        await self._for_ever()

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
        key, task, known = f"{name}#{count}", asyncio.current_task(), MAKER.get()
        if task is not None and task is not self._strand.task and (known is None or known[0]() is not task):
            MAKER.set((weakref.ref(task), key))
        return key

    def _maker(self) -> str:
        """Which task of the body makes a call: equal calls of several tasks are to be told apart by more than the order in
        which they come, for that hangs on how long other things take. Nothing for the body itself. A task is known by what it
        has used first, and before that by the task that has begun it: tasks begin in their order."""
        task = asyncio.current_task()
        if task is self._strand.task:
            return ""
        known = MAKER.get()
        identity = "" if known is None else known[1] if known[0]() is task else f"{known[1]}>"
        return f"@{hashlib.sha256(identity.encode()).hexdigest()[:_MAKER_LETTERS]}"

    async def _of_another_task(self, call: str, key: str) -> str:
        """The *key* of a call; or that of an equal one that is recorded and that nobody asks for: other code has made it in
        another task. Those that ask for what they have made themselves are let do so first."""
        past = self.run.subject.history.by_path.get(self._path)
        effects = None if past is None else past.effects
        if effects is None or key in effects:
            return key
        if self._calls is None:
            self._calls = {}
            for known in (key for key, records in effects.items() if records[-1].kind == "ran"):
                self._calls.setdefault(_call_of(known), []).append(known)

        def unasked() -> str:
            return next((known for known in (self._calls or {}).get(call, ()) if known not in self._asked), key)

        if unasked() != key:
            with self.rest.at_work():
                for _ in range(TURNS):
                    await asyncio.sleep(0)
        return unasked()

    @contextlib.contextmanager
    def waiting(self, kind: str, own: str | None) -> Generator[str]:
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

    def recorded(self, key: str) -> tuple[list[Record], int]:
        """What is recorded of an effect and still holds: a failure, and what led to it, do so within their attempt only. And
        how often it has failed before that."""
        past = self.run.subject.history.by_path.get(self._path)
        records = () if past is None or past.effects is None else past.effects.get(key, ())
        self._asked[key] = bool(records)
        holding: list[Record] = []
        failed = 0
        for record in records:
            if record.error is not None and record.attempt != self._attempt:
                holding.clear()
                failed += 1
            else:
                holding.append(record)
        return holding, failed

    def given_up(self, key: str) -> list[Record]:
        """The registrations of a wait that ended with the execution, before somebody had it go on."""
        past = self.run.subject.history.by_path.get(self._path)
        records = () if past is None or past.effects is None else past.effects.get(key, ())
        return [record for record in records if record.kind == "waiting" and not record.attempt]

    def mismatch(self) -> JournalMismatch | None:
        """What shows that the code was changed, once the body can ask for nothing more: something of this attempt is recorded
        that it has not asked for, and it has asked for something else of that name."""
        past = self.run.subject.history.by_path.get(self._path)
        if past is None or past.effects is None:
            return None
        left = {
            _label(key): key
            for key, records in past.effects.items()
            if key not in self._asked and records[-1].attempt == self._attempt
        }
        for key, known in self._asked.items():
            found = left.get(_label(key)) if left and not known else None
            if found is not None and found.partition(":")[0] != key.partition(":")[0]:
                return JournalMismatch(
                    f"the body of {self._path!r} was changed while it was waiting: expected {key.partition('#')[0]}, found "
                    f"{found.partition('#')[0]} in the journal. Bring the old code back, or give the new wait another name."
                )
        return None

    def record(self, seq: int, kind: Kind, key: str) -> Record:
        """A record of an effect of this body, to be filled in and written."""
        return Record(seq, self._path, kind, self._attempt, key=key)

    def take_seq(self) -> int:
        return self.run.subject.history.take_seq()

    async def write(self, record: Record, *, made: bool = False) -> None:
        """Make a record durable. That of a call that was *made* is written although the strand is over: else it is made
        again."""
        if not made:
            self.rest.refuse_ended()
        try:
            await self.run.write(self._strand, record)
        except AnsweredMeanwhile:
            raise
        except Exception as error:
            self.rest.end(error)
            await self._for_ever()
        self.rest.refuse_ended()

    async def _may_begin(self) -> None:
        """Go on if something new may begin; else not at all."""
        try:
            self.run.may_begin(self._strand)
        except Interruption as reason:
            self.rest.hold(reason)
            await self._for_ever()

    async def _for_ever(self) -> NoReturn:
        while True:
            await self.loop.create_future()  # until the cancellation comes


def _call_of(key: str) -> str:
    """What of the key of a call says neither which task has made it nor which of several equal ones it is."""
    call = key.rpartition("#")[0]
    return call[: -_MAKER_LETTERS - 1] if call[-_MAKER_LETTERS - 1 : -_MAKER_LETTERS] == "@" else call


def _label(key: str) -> str:
    """What an effect is called, and which one of its name it is, whatever its kind."""
    name, _, count = key.rpartition("#")
    kind, _, rest = name.partition(":")
    if kind == "run":
        rest = json.dumps(rest.rpartition(":")[0], ensure_ascii=False)
    return f"{rest}#{count}"


async def _at_once(seconds: float) -> float:
    return seconds


def _result_type(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return", UNANNOTATED)
    except Exception:  # annotations are expressions: they may raise anything
        return UNANNOTATED
