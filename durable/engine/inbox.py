"""What was sent to an execution and is not consumed yet, and who in it waits for what.

Owns the matching: of several waits that could have a message the one that was registered first gets it, and each gets the
earliest that it can have. A message that is given to a wait is kept for it until the record that consumes it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Message:
    """Something that was sent. `number` orders the messages of an execution, `payload` is JSON text."""

    number: int
    topic: str
    payload: str


@dataclass(slots=True, eq=False)
class Wanted:
    """What a wait waits for: one message on any of *topics*, or with *every* one on each of them. Waits are ordered by the
    number of the record that has registered them. *given* is called when there is an answer."""

    topics: Sequence[str]
    every: bool
    order: int
    given: Callable[[], None]
    answer: list[Message] | None = None
    looks: bool = False  # no message brings its answer: it looks itself, whenever one has come
    seen: int = 0  # the latest message that it knew of when it fell asleep

    def choose(self, left: Sequence[Message]) -> list[Message] | None:
        """The messages that would be its answer, among those that are left; None while there are not enough."""
        if self.every:
            found = {topic: next((m for m in left if m.topic == topic), None) for topic in self.topics}
            chosen = [message for message in found.values() if message is not None]
            return chosen if len(chosen) == len(found) else None
        first = next((message for message in left if message.topic in self.topics), None)
        return None if first is None else [first]

    def missing(self, left: Sequence[Message]) -> list[str]:
        """The topics of which a message would bring it nearer to its answer."""
        there = {message.topic for message in left}
        return [topic for topic in self.topics if topic not in there]


class Inbox(msgspec.Struct, eq=False):
    """The messages of one execution in one worker. `seen` is the number of the latest that is known of, consumed or not."""

    seen: int = 0
    _messages: dict[int, Message] = {}
    _waiting: list[Wanted] = []
    _asleep: list[Wanted] = []
    _matching: bool = False

    def put(self, messages: Iterable[Message], seen: int = 0) -> None:
        """Messages have come. All up to *seen* are known of."""
        for message in messages:
            if message.number > self.seen:
                self._messages[message.number] = message
                seen = max(seen, message.number)
        if seen > self.seen:
            self.seen = seen
            for wanted in list(self._waiting):
                if wanted.looks:
                    wanted.given()
        self._match_soon()

    def want(self, wanted: Wanted) -> None:
        """A wait begins. It is given what is there a turn of the loop later: others that go on with it come first if they
        were registered first."""
        self._waiting.append(wanted)
        self._match_soon()

    def leave(self, wanted: Wanted) -> None:
        """A wait is over, or given up: what it was given and has not consumed is there for others."""
        if wanted in self._waiting:
            self._waiting.remove(wanted)
            if wanted.answer is not None:
                self._match_soon()

    def fall_asleep(self, wanted: Wanted) -> None:
        """The execution lets go, and this wait is to wake it."""
        self.leave(wanted)
        wanted.seen = self.seen
        self._asleep.append(wanted)

    def consumed(self, numbers: Iterable[int]) -> None:
        """A record that consumes messages is durable."""
        for number in numbers:
            self._messages.pop(number, None)

    def unread(self, topic: str) -> Message | None:
        """The earliest message on *topic* that no wait has been given."""
        return next((message for message in self._left() if message.topic == topic), None)

    def topics(self) -> list[str]:
        """What is to wake the execution that has let go."""
        left = self._left()
        return list(dict.fromkeys(topic for wanted in self._asleep for topic in wanted.missing(left)))

    def seen_asleep(self) -> int:
        """Up to which message those that let go have seen all. Below `seen` when one came that answers them: as late as that
        they did not hear of it."""
        left = self._left()
        if any(wanted.choose(left) for wanted in self._asleep):
            return -1
        return min((wanted.seen for wanted in self._asleep if wanted.looks), default=self.seen)

    @property
    def waits(self) -> bool:
        """Whether a message is to wake the execution that has let go."""
        return bool(self._asleep)

    def _left(self) -> list[Message]:
        given = {message.number for wanted in self._waiting for message in wanted.answer or ()}
        return [message for number, message in sorted(self._messages.items()) if number not in given]

    def _match_soon(self) -> None:
        if not self._matching and self._waiting and self._messages:
            self._matching = True
            asyncio.get_running_loop().call_soon(self._match)

    def _match(self) -> None:
        self._matching = False
        left = self._left()
        for wanted in sorted(self._waiting, key=lambda wanted: wanted.order):
            if wanted.answer is None and (chosen := wanted.choose(left)) is not None:
                wanted.answer = chosen
                left = [message for message in left if message not in chosen]
                wanted.given()
