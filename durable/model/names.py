"""Names that authors and senders choose: of events, inputs, children, and keys. They become parts of indexed columns."""

from __future__ import annotations

import re
from typing import Any

from durable.errors import UsageError

NAME_CHARACTERS_MAX = 200

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_name(name: Any, what: str) -> str:
    """Return *name*, or raise `UsageError`; *what* says what it is: ``"the name of an event"``."""
    if not isinstance(name, str) or not name or len(name) > NAME_CHARACTERS_MAX or not storable(name):
        shown = name[:50] if isinstance(name, str) else name
        raise UsageError(
            f"{shown!r} cannot be {what}. Give a string of 1 to {NAME_CHARACTERS_MAX} characters, without NUL and surrogates."
        )
    return name


def visible(text: str) -> str:
    """*text*, with what of it cannot be stored, NUL and halves of characters, spelled out."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def storable(text: str) -> bool:
    """Whether PostgreSQL can store *text* as it is."""
    return _UNSTORABLE.search(text) is None
