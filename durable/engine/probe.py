"""Walks an execution as far as its journal goes, and looks at what its code would be given next. Nothing of the author's is
called.

It is the interpreter itself, with three changes: a step whose turn it is has its data read and is not called; neither is a
function that decides about the flow; and nothing is written. So where it stops is where a worker would go on, whatever the
interpreter comes to mean.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from durable.codec import Codec
from durable.engine.ending import to_undo
from durable.engine.inbox import Inbox
from durable.engine.interpreter import Interpreter, Jump
from durable.engine.journal import Blocked, Outcome, Past, Record, Subject, Transaction, Value
from durable.engine.step_runner import Item, StepRunner
from durable.engine.strands import Strand
from durable.engine.streaming import Told
from durable.errors import DecodeError, InternalError
from durable.model.definition import Composite, Decision, Definition, Rule, Signature, Step

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """What code at *path* would be given. `problem` says why its stored data cannot be read as what it takes: None if it can.
    *later*: it is not what comes next, but what undoes a step or tells of a failure, if that becomes necessary."""

    path: str
    problem: str | None = None
    later: bool = False


async def look_ahead(definition: Definition, subject: Subject, codec: Codec) -> list[Look]:
    """All that *definition* would call next for an execution, in the order in which it is come upon, and what may have to undo
    it. Empty when nothing is left but to write its end. Nothing is called and nothing is written."""
    probe = _Probe(definition, subject, codec)
    await probe.run()
    probe.look_at_endings()
    return probe.looks


class _Stopped(Exception):
    """The walk has come upon a function that decides about the flow."""

    def __init__(self, problem: str | None) -> None:
        super().__init__(problem)
        self.problem = problem


class _Runner(StepRunner):
    async def decide(self, rule: Rule, *values: Any) -> Any:
        raise _Stopped(None)  # its data could be read


class _Probe(Interpreter):
    __slots__ = ("looks",)

    def __init__(self, definition: Definition, subject: Subject, codec: Codec) -> None:
        super().__init__(definition, subject, _Nowhere(), _Runner(codec), max_crashes=subject.crashes + 1)
        self.looks: list[Look] = []

    async def attempts(
        self, step: Step | Decision, path: str, value: Value, strand: Strand, past: Past
    ) -> Record | Blocked:
        self.looks.append(Look(path, self._problem(step.signature, value, strand.item)))
        return Blocked(math.inf)

    async def guarded(self, work: Awaitable[T], strand: Strand) -> tuple[T | None, Exception | None]:
        try:
            await work
        except DecodeError as error:
            raise _Stopped(str(error)) from error
        raise InternalError("the functions of an author are not called by a probe")

    async def _composite(
        self, node: Decision | Composite, path: str, value: Value, strand: Strand, hold: bool
    ) -> Value | Blocked | Jump:
        try:
            return await super()._composite(node, path, value, strand, hold)
        except _Stopped as stopped:
            self.looks.append(Look(path, stopped.problem))
            return Blocked(math.inf)

    def look_at_endings(self) -> None:
        """What has been done may have to be undone, and `on_failure` gets the input."""
        history = self.subject.history
        for path, step, value in to_undo(self):
            past = history.by_path.get(path)
            if (past is None or past.completed is None) and not any(look.path == path for look in self.looks):
                self.looks.append(Look(path, self._problem(step.signature, value, None), later=True))
        last = self.definition.on_failure
        if last is not None and not any(look.path == last.name for look in self.looks):
            problem = self._problem(last.signature, self.input(), None)
            self.looks.append(Look(last.name, problem, later=True))

    def _problem(self, signature: Signature, value: Value, item: Item | None) -> str | None:
        if not signature.positional:
            return None
        try:
            self.runner.values(signature, value.text, item)
        except DecodeError as error:
            return str(error)
        return None


class _Nowhere:
    """A journal that keeps nothing: see `durable.engine.journal.Journal`."""

    def __init__(self) -> None:
        self.inbox = Inbox()

    async def begin(self) -> Transaction:
        raise InternalError("nothing is run here")

    async def record(self, *records: Record) -> None:
        """It is taken for durable, and the walk goes on."""

    async def conclude(self, outcome: Outcome) -> None:
        """Nothing ends."""

    def enter(self, path: str) -> None:
        """Nothing begins."""

    def may_begin(self) -> None:
        """Nothing does."""

    def stopping(self) -> bool:
        return False

    def stream(self, told: Told) -> None:
        """Nothing is told."""

    def log(self, told: Told) -> None:
        """Nothing is kept."""

    async def drain_stream(self, most: int) -> None:
        """There is nothing."""

    async def end_of_child(self, execution_id: UUID) -> tuple[str | None, bool]:
        return None, True

    async def fetch_mail(self) -> None:
        """There is none."""

    async def seconds_until(self, when: datetime) -> float:
        return _never()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)


def _never() -> NoReturn:
    raise InternalError("no body runs in a probe")
