"""What a body tells while it runs, for whoever follows the execution: progress, and chunks of what it makes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from durable.errors import UsageError
from durable.model.names import visible

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter

UNWRITTEN_MAX = 64  # chunks on their way, before `send` waits


@dataclass(frozen=True, slots=True)
class Told:
    """Something that run *run* of a body has told. `kind` is progress or chunk; `value` is JSON text."""

    run: UUID
    number: int
    attempt: int
    kind: str
    path: str
    message: str | None
    value: str


class Stream:
    """The stream of one run of one body: ``durable.context().stream``."""

    __slots__ = ("_attempt", "_count", "_interpreter", "_loop", "_path", "_run")

    def __init__(self, interpreter: Interpreter, path: str, attempt: int) -> None:
        self._interpreter = interpreter
        self._loop = interpreter.loop
        self._path = path
        self._attempt = attempt
        self._run = uuid4()
        self._count = 0

    async def send(self, chunk: Any) -> None:
        """Send a part of what the body makes, JSON data, to whoever follows the execution; see `Handle.events`.

        Chunks are durable soon, in their order, and before the step's result is. Those of a run that did not come to its end
        are marked as withdrawn. Waits while many are on their way. Raises `EncodeError`, and `UsageError` in a thread. If
        cancelled, the chunk is sent.
        """
        if not self._here():
            raise UsageError(
                "stream.send() is for the body of an async step. In a thread there is context().progress()."
            )
        self._tell("chunk", None, self._interpreter.runner.codec.encode(chunk))
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        await asyncio.sleep(0)  # a body that only sends is to hear of its cancellation, too
        await self._interpreter.journal.drain_stream(UNWRITTEN_MAX)
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError  # which waiting for a write has outlasted

    def progress(self, fraction: float, message: str | None) -> None:
        """See `Context.progress`."""
        given: Any = message
        if given is not None and not isinstance(given, str):
            raise UsageError(f"the message of progress is {given!r}. Give a text.")
        message = None if message is None else visible(message)
        text = self._interpreter.runner.codec.encode(fraction)
        if self._here():
            self._tell("progress", message, text)
        else:
            self._loop.call_soon_threadsafe(self._tell, "progress", message, text)

    def _here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:  # in a thread
            return False

    def _tell(self, kind: str, message: str | None, text: str) -> None:
        self._count += 1
        told = Told(self._run, self._count, self._attempt, kind, self._path, message, text)
        self._interpreter.journal.stream(told)
