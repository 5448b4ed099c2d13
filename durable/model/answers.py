"""What waits are given, as it is recorded: topics with payloads.

The topic of an event is its name with a word before it. That of an input is of this one request: its record's number, and its
name, so that no answer reaches another question.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from durable.errors import ChildFailed, DecodeError
from durable.model.failure import Failure
from durable.model.status import Status

EVENT = "event:"
INPUT = "input:"
CHILD = "child:"
STARTED = "started:"
MATCH = "match:"


class ChildEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a child has ended, as its parent is told. `result` is as the codec has written it."""

    status: str
    result: msgspec.Raw = msgspec.Raw()
    error: Failure | None = None
    reason: str | None = None


def topic_of_child(execution_id: UUID) -> str:
    """The topic on which a parent is told of a child's end; as in ``execution/finish``."""
    return f"{CHILD}{execution_id}"


def topic_of_started(execution_id: UUID) -> str:
    """The topic on which a parent is woken by the end of a child that it has only started."""
    return f"{STARTED}{execution_id}"


def child_end(payload: str) -> ChildEnd:
    """What a message from a child says."""
    return msgspec.json.decode(payload, type=ChildEnd)


def child_failure(answer: tuple[str, str]) -> ChildFailed | None:
    """The failure that a message from a child tells of; None when it has completed, or the message is none of a child."""
    topic, payload = answer
    if not topic.startswith(CHILD) or (end := child_end(payload)).status == Status.COMPLETED:
        return None
    return ChildFailed(topic.removeprefix(CHILD), end.status, end.error, end.reason)


def topic_of_input(seq: int, name: str) -> str:
    """The topic on which the answer to a request comes; as in ``durable.answer``."""
    return f"{INPUT}{seq}:{name}"


def topic_of_match(seq: int, name: str) -> str:
    """The topic on which a wait for what is in events gets one; as in ``durable.spread``."""
    return f"{MATCH}{seq}:{name}"


def shown_topic(topic: str) -> str:
    """A topic for people: the name of an event, or what else is waited for."""
    if topic.startswith(INPUT):
        return INPUT + topic.removeprefix(INPUT).partition(":")[2]
    if topic.startswith(MATCH):
        return topic.removeprefix(MATCH).partition(":")[2]
    return topic.removeprefix(EVENT)


def write_answer(answer: Sequence[tuple[str, str]]) -> str:
    """What a wait was given, as it is recorded: pairs of topic and payload, which stays as the codec has written it."""
    return msgspec.json.encode([(topic, msgspec.Raw(payload.encode())) for topic, payload in answer]).decode()


def read_answer(text: str | None) -> list[tuple[str, str]]:
    """The other way round. Raises `DecodeError` where what came from outside is no JSON that can be read."""
    try:
        pairs = msgspec.json.decode(text or "[]", type=list[tuple[str, msgspec.Raw]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise DecodeError(f"$: what was sent cannot be read: {error}") from error
    return [(topic, bytes(payload).decode()) for topic, payload in pairs]
