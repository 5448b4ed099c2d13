"""What waits are given, as it is recorded: topics with payloads. The topic of an event is its name with a word before it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

EVENT = "event:"


def write_answer(answer: Sequence[tuple[str, str]]) -> str:
    """What a wait was given, as it is recorded: pairs of topic and payload, which stays as the codec has written it."""
    return msgspec.json.encode([(topic, msgspec.Raw(payload.encode())) for topic, payload in answer]).decode()


def read_answer(text: str | None) -> list[tuple[str, str]]:
    """The other way round."""
    pairs = msgspec.json.decode(text or "[]", type=list[tuple[str, msgspec.Raw]])
    return [(topic, bytes(payload).decode()) for topic, payload in pairs]
