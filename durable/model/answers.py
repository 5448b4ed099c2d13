"""What waits are given, as it is recorded: topics with payloads.

The topic of an event is its name with a word before it. That of an input is of this one request: its record's number, and its
name, so that no answer reaches another question.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

EVENT = "event:"
INPUT = "input:"


def topic_of_input(seq: int, name: str) -> str:
    """The topic on which the answer to a request comes; as in ``durable.answer``."""
    return f"{INPUT}{seq}:{name}"


def shown_topic(topic: str) -> str:
    """A topic for people: the name of an event, or what else is waited for."""
    if topic.startswith(INPUT):
        return INPUT + topic.removeprefix(INPUT).partition(":")[2]
    return topic.removeprefix(EVENT)


def write_answer(answer: Sequence[tuple[str, str]]) -> str:
    """What a wait was given, as it is recorded: pairs of topic and payload, which stays as the codec has written it."""
    return msgspec.json.encode([(topic, msgspec.Raw(payload.encode())) for topic, payload in answer]).decode()


def read_answer(text: str | None) -> list[tuple[str, str]]:
    """The other way round."""
    pairs = msgspec.json.decode(text or "[]", type=list[tuple[str, msgspec.Raw]])
    return [(topic, bytes(payload).decode()) for topic, payload in pairs]
