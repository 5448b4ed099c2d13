"""A failure as it is recorded: what went wrong, readable in the database and by every later program."""

from __future__ import annotations

import concurrent.futures
import os
import traceback
from pathlib import Path
from types import TracebackType

import msgspec

import durable.errors

MESSAGE_CHARACTERS_MAX = 4_000  # an error page of a remote service must not fill the journal
TRACEBACK_CHARACTERS_MAX = 8_000
_ON_THE_WAY = tuple(f"{Path(file).parent}{os.sep}" for file in (durable.errors.__file__, concurrent.futures.__file__))


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recorded error. `type` is the exception's qualified name, e.g. ``"builtins.ValueError"``."""

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        name = self.type.removeprefix("builtins.")
        return f"{name}: {self.message}" if self.message else name

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe *error*; long messages and tracebacks keep their beginning and their end."""
        kind = type(error)
        try:
            message = str(error)
        except Exception as broken:  # a user's __str__ may fail too, and must not hide the first error
            message = f"<its __str__ raised {type(broken).__name__}>"
        lines = (
            traceback.format_exception(kind, error, _from_the_body(error.__traceback__)) if error.__traceback__ else []
        )
        return cls(
            f"{kind.__module__}.{kind.__qualname__}",
            _shortened(message, MESSAGE_CHARACTERS_MAX),
            _shortened("".join(lines), TRACEBACK_CHARACTERS_MAX),
        )


def _from_the_body(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the user's code: how the engine got there tells the reader nothing."""
    begin = trace
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(_ON_THE_WAY):
        begin = begin.tb_next
    return begin or trace


def _shortened(text: str, limit: int) -> str:
    # A lone surrogate has no UTF-8 form: PostgreSQL could not store the record at all.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
