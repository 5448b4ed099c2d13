"""The log records of a body, captured into the execution: bounded, and written beside the step, so that it waits for none of
them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from durable.engine.streaming import Told
from durable.model.names import visible

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter

RECORDS_MAX = 200  # of one run of a body
CHARACTERS_MAX = 64_000
LINE_MAX = 8_000

_encode = msgspec.json.Encoder().encode


class Logs:
    """What one run of one body has logged."""

    __slots__ = ("_attempt", "_count", "_interpreter", "_path", "_room", "_run")

    def __init__(self, interpreter: Interpreter, path: str, attempt: int) -> None:
        self._interpreter = interpreter
        self._path = path
        self._attempt = attempt
        self._run = uuid4()
        self._count = 0
        self._room = CHARACTERS_MAX

    def take(self, level: str, logger: str, text: str) -> None:
        """Keep a record, in any thread. Beyond what one run may log, one record says that there was more."""
        try:
            here = asyncio.get_running_loop() is self._interpreter.loop
        except RuntimeError:  # in a thread
            here = False
        if here:
            self._take(level, logger, text)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to keep it
                self._interpreter.loop.call_soon_threadsafe(self._take, level, logger, text)

    def _take(self, level: str, logger: str, text: str) -> None:
        if self._count > RECORDS_MAX or self._room < 0:
            return
        if len(text) > LINE_MAX:
            text = f"{text[:LINE_MAX]}... ({len(text) - LINE_MAX:,} more characters)"
        self._count += 1
        self._room -= len(text)
        if self._count > RECORDS_MAX or self._room < 0:
            level, logger, text = "WARNING", "durable", "this run of the step has logged more, which is not kept"
        value = _encode({"level": level, "logger": visible(logger)}).decode()
        self._interpreter.journal.log(
            Told(self._run, self._count, self._attempt, "log", self._path, visible(text), value)
        )
