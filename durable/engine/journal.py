"""The journal's protocol: what the interpreter asks and tells, whatever keeps it.

Data travels between nodes as JSON text together with the number of the record that holds it, so that it is encoded once,
decoded by each step for itself, and never stored twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from durable.model.failure import Failure

Kind: TypeAlias = Literal["completed", "failed"]


@dataclass(slots=True)
class Record:
    """One thing that has happened.

    `value` is the result as JSON text; None when the step returned None and the data goes on unchanged. `delay`, in
    seconds, is the pause until the next attempt: None on a failure that is final. When a record is read back, `delay`
    is what is left of it. `seconds` is how long the body ran.
    """

    seq: int
    path: str
    kind: Kind
    attempt: int
    value: str | None = None
    error: str | None = None
    delay: float | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Past:
    """What is recorded at one path."""

    completed: Record | None = None
    failures: tuple[Record, ...] = ()


class History:
    """Everything recorded in one execution, by path."""

    __slots__ = ("by_path", "next_seq")

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.by_path: dict[str, Past] = {}
        self.next_seq = 1
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in a record that is durable."""
        past = self.by_path.get(record.path)
        if past is None:
            past = self.by_path[record.path] = Past()
        if record.kind == "completed":
            past.completed = record
        else:
            past.failures += (record,)
        if record.seq >= self.next_seq:
            self.next_seq = record.seq + 1


@dataclass(slots=True)
class Value:
    """Data on its way: JSON text, and the number of the record that holds it (0: the execution's input)."""

    text: str
    seq: int


@dataclass(slots=True)
class Completed:
    """The execution has a result. `record`, here and below, is a last record that is not durable yet."""

    value: Value
    record: Record | None = None


@dataclass(slots=True)
class Failed:
    """The execution has failed for good."""

    failure: Failure
    record: Record | None = None


@dataclass(slots=True)
class Blocked:
    """Nothing can be done for *delay* seconds: the execution lets go of its slot."""

    delay: float
    record: Record | None = None


Outcome: TypeAlias = Completed | Failed | Blocked


@dataclass(slots=True)
class Subject:
    """The execution that is interpreted: what the definition does not say."""

    execution_id: str
    workflow: str
    input: str
    history: History
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])
    crashes: int = 0
    deadline_passed: bool = False


class Journal(Protocol):
    """Where an execution's records go. Each method returns when what it was told is durable."""

    async def record(self, record: Record) -> None:
        """Append a record. Raises `ClaimLost` when the execution is no longer ours. If cancelled, it may have happened."""
        ...

    async def conclude(self, outcome: Outcome) -> None:
        """End the execution, or put it to sleep. Raises and cancels like `record`."""
        ...

    def may_begin(self) -> None:
        """Raise an `Interruption` when no new attempt may begin here: the worker drains, its lease is about to lapse, or
        the execution was asked to stop."""
        ...

    def stopping(self) -> bool:
        """Whether the execution was asked to stop from outside. A cancellation without that is its body's own doing."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait for so long, keeping the slot. Where time is virtual, it passes at once."""
        ...
