"""Waits for messages: for events, for the answers of people, for the ends of children.

Each is registered by a record, together with what it asks or begins. It is answered by a record that consumes the messages, or
expires by one that takes back what it has asked or begun.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from durable.engine.inbox import Message, Wanted
from durable.engine.journal import Asked, Birth, Listening, Record
from durable.errors import AnsweredMeanwhile, DecodeError, InternalError, NonRetryable, WaitTimeout
from durable.model.answers import (
    child_failure,
    read_answer,
    topic_of_child,
    topic_of_input,
    topic_of_match,
    topic_of_started,
    write_answer,
)
from durable.model.failure import Failure

if TYPE_CHECKING:
    from durable.engine.effects import Effects

_encode = msgspec.json.Encoder().encode

ON_ITS_WAY = 0.01  # seconds until it is looked again
LOOK_AGAIN = 30.0  # seconds; at a child that another execution has started, whose end nobody tells us


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait for a message on one of *topics*, or with *every* one on each of them; or for the answer to what is *asked*; or
    for the end of the child that *bears* makes, given the key of the wait and how often it has failed before.

    *timeout*, in seconds, counts from when it is registered. *lenient*: then the answer is None, else `WaitTimeout`. Or for
    the end of a child that was *started*, which is looked up.
    """

    kind: str
    own: str | None = None
    topics: Sequence[str] = ()
    every: bool = False
    timeout: float | None = None
    lenient: bool = False
    asked: Asked | None = None
    listens: Listening | None = None
    bears: Callable[[str, int], Birth] | None = None
    started: UUID | None = None


async def wait(effects: Effects, wait: Wait) -> list[tuple[str, str]] | None:
    """Wait: topics and payloads (JSON), or None when there is no answer in time.

    Raises `WaitTimeout` and `ChildFailed`, which the step's next attempt begins anew.
    """
    with effects.waiting(wait.kind, wait.own) as key:
        records, failed = effects.recorded(key)
        for record in records:
            match record.kind:
                case "answered":
                    try:
                        return read_answer(record.value)
                    except DecodeError as error:  # as it was found when it came
                        raise NonRetryable(f"what {record.path!r} was given is not what it takes: {error}") from error
                case "tried":
                    raise child_failure(read_answer(record.value)[0]) or InternalError("a child's end is none")
                case "expired":
                    return _expired(record)
                case _:
                    pass
        return await _Waiting(effects, wait, key, records[0] if records else None, failed).answer()


class _Waiting:
    def __init__(self, effects: Effects, wait: Wait, key: str, registered: Record | None, failed: int) -> None:
        self.effects = effects
        self.wait = wait
        self.key = key
        self.registered = registered
        self.seq = effects.take_seq() if registered is None else registered.seq
        self.birth: Birth | None = None
        self.child: UUID | None = None
        self.told = True  # whether the end of what was started is told to us
        topics = None if registered is not None else self._answered_too_late()
        if topics is None and wait.bears is not None:
            if registered is None:
                self.birth = wait.bears(key, failed)
                self.child = self.birth.execution_id
            else:  # as it is, whatever the code would begin today
                self.child = _child_of(registered)
        if topics is None:
            topics = self._topics(self.seq, self.child)
        self.wanted = Wanted(topics, wait.every, self.seq, _nobody, looks=wait.started is not None)

    def _topics(self, seq: int, child: UUID | None) -> Sequence[str]:
        """Where the answer comes to a wait that record *seq* has registered."""
        wait = self.wait
        if wait.asked is not None:
            return [topic_of_input(seq, wait.asked.name)]
        if wait.listens is not None:
            return [topic_of_match(seq, wait.listens.name)]
        if child is not None:
            return [topic_of_child(child)]
        return wait.topics if wait.started is None else [topic_of_started(wait.started)]

    def _answered_too_late(self) -> Sequence[str] | None:
        """Where the answer is that came between the last look of an execution that failed and its end: it was
        acknowledged, or a child has done its work, and now that the execution goes on it does."""
        if self.wait.asked is None and self.wait.listens is None and self.wait.bears is None:
            return None
        for record in self.effects.given_up(self.key):
            topics = self._topics(record.seq, None if self.wait.bears is None else _child_of(record))
            message = self.effects.run.journal.inbox.unread(topics[0])
            if message is not None and child_failure((message.topic, message.payload)) is None:
                return topics
        return None

    async def answer(self) -> list[tuple[str, str]] | None:
        effects, wanted = self.effects, self.wanted
        inbox = effects.run.journal.inbox
        inbox.want(wanted)
        try:
            with effects.rest.at_work():
                await self._given()
                if wanted.answer is None and self.registered is None:
                    self.registered = self._registration()
                    await effects.write(self.registered)
            due = math.inf
            if self.registered is not None and self.registered.delay is not None:
                due = effects.run.due(self.registered)
            if self.wait.started is not None:
                await self._look_until(due)
            elif wanted.answer is None and self.registered is not None:
                await effects.rest.pause(due, wanted)
            with effects.rest.at_work():
                while wanted.answer is None:
                    await effects.run.journal.fetch_mail()  # what was there before the time had come beats it
                    await self._given()
                    if wanted.answer is None and not await self._has_ended():
                        record = self._expiry()
                        try:
                            await effects.write(record)
                        except AnsweredMeanwhile:  # by what is there now, or on its way
                            await effects.run.journal.pause(ON_ITS_WAY)
                        else:
                            return _expired(record)
                return await self._consume([(message.topic, message.payload) for message in wanted.answer])
        finally:
            inbox.leave(wanted)

    async def _given(self) -> None:
        """Let the inbox give what is there."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _look_until(self, due: float) -> None:
        """Look whether the child has ended, at once and whenever something has come, until the time has passed. Of one that is
        not ours nothing will come."""
        inbox, loop = self.effects.run.journal.inbox, self.effects.run.loop
        while True:
            seen = inbox.seen
            if await self._has_ended():
                return
            if inbox.seen == seen:  # else something came while that was looked up
                soon = math.inf if self.told else loop.time() + LOOK_AGAIN
                if await self.effects.rest.pause(min(due, soon), self.wanted) and due <= soon:
                    return

    async def _has_ended(self) -> bool:
        """Whether the child that was started has ended: then that is the answer."""
        if self.wait.started is None:
            return False
        with self.effects.rest.at_work():
            end, self.told = await self.effects.run.journal.end_of_child(self.wait.started)
        if end is not None:
            self.wanted.answer = [Message(0, topic_of_child(self.wait.started), end)]
        return end is not None

    def _registration(self) -> Record:
        record = self.effects.record(self.seq, "waiting", self.key)
        record.delay, record.asks, record.bears = self.wait.timeout, self.wait.asked, self.birth
        record.listens = self.wait.listens
        if self.child is not None:
            record.value = _encode(self.child).decode()
        return record

    def _expiry(self) -> Record:
        record = self.effects.record(self.effects.take_seq(), "expired", self.key)
        if not self.wait.lenient:
            late = WaitTimeout(f"{record.path!r}: {self.key.rpartition('#')[0]} did not come within its timeout")
            record.error = _encode(Failure.of(late)).decode()
        if self.wait.asked is not None or self.wait.listens is not None:
            record.closes = self.seq
        record.dooms = self.child
        return record

    async def _consume(self, answer: list[tuple[str, str]]) -> list[tuple[str, str]]:
        assert self.wanted.answer is not None
        failure = child_failure(answer[0])
        record = self.effects.record(self.effects.take_seq(), "answered" if failure is None else "tried", self.key)
        record.value = write_answer(answer)
        record.consumes = tuple(message.number for message in self.wanted.answer if message.number)
        if failure is None:
            await self.effects.write(record)
            return answer
        record.error = _encode(Failure.of(failure)).decode()
        await self.effects.write(record)
        raise failure


def _child_of(registered: Record) -> UUID:
    return msgspec.json.decode(registered.value or "", type=UUID)


def _expired(record: Record) -> None:
    if record.error is not None:
        raise WaitTimeout(record.failure.message)


def _nobody() -> None:
    """Nobody is to be told."""
