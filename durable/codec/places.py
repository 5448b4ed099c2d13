"""How the codec's messages name a place inside a value, a type and an error. Decides nothing."""

from __future__ import annotations

import types
from typing import Any, TypeAlias

AT = " - at `"  # how msgspec joins a message and a path
DEPTH_MAX = 200  # levels; far below Python's recursion limit and PostgreSQL's stack, so both ends agree for ever

Link: TypeAlias = "tuple[Link | None, object]"  # a path inside a value, innermost segment first


def render(link: Link | None) -> str:
    """``$.items[3].price``; a very long path is shortened in the middle."""
    segments: list[str] = []
    while link is not None:
        link, segment = link
        if isinstance(segment, str):
            segments.append(f".{segment}" if segment.isidentifier() else f"[{segment!r:.80}]")
        else:
            segments.append(f"[{segment!r:.80}]")
    if len(segments) > 16:
        segments[4:-8] = ["..."]
    return "$" + "".join(reversed(segments))


def name_of(annotation: Any) -> str:
    """An annotation as its author wrote it, more or less."""
    try:
        if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
            return annotation.__qualname__
        return repr(annotation).replace("typing.", "")
    except Exception as broken:  # a metaclass of the user's may raise anything
        return f"<a type whose name raised {type(broken).__name__}>"


def text_of(error: Exception) -> str:
    """The message of *error*, whatever its class does."""
    try:
        return str(error)
    except Exception as broken:  # a user's __str__ may fail too, and must not hide the first error
        return f"<its __str__ raised {type(broken).__name__}>"
