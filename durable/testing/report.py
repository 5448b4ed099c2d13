"""What a `crash_everywhere` saw, for people and for assertions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from durable.errors import UsageError
from durable.model.paths import plain
from durable.testing.memory import Run

Side: TypeAlias = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Point:
    """A moment to crash at: the *write*-th write (from 1) of a worker, before or after it is durable."""

    write: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} write {self.write} was durable"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A body that ran more than once for the same attempt, and the crashes that made it so."""

    path: str
    attempt: int
    times: int
    crashed: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.path!r} (attempt {self.attempt}) ran {self.times} times: crashed {spelled(self.crashed)}"


@dataclass(slots=True)
class CrashReport:
    """What a `crash_everywhere` saw: the uninterrupted run, the number of crashed ones, and every body that was repeated.

    `keyed` are the steps, as paths without visits and indices, that have ever asked for their `idempotency_key`. A repeat does
    twice whatever its step does to the world, unless the world knows it by that key, or does not mind. What one of the
    `transactional` steps writes by its connection is not done twice.
    """

    uninterrupted: Run
    runs: int = 0
    repeats: list[Repeat] = field(default_factory=list[Repeat])
    keyed: set[str] = field(default_factory=set[str])
    transactional: set[str] = field(default_factory=set[str])

    @property
    def unkeyed(self) -> set[str]:
        """The steps that ran again after a crash, are not transactional, and never asked for their key: those to look at."""
        return {plain(repeat.path) for repeat in self.repeats} - self.keyed - self.transactional

    def assert_keyed(self, *steps: str) -> None:
        """Assert that *steps*, paths without visits and indices, have asked for their `idempotency_key`.

        Raises `AssertionError` for one that has not, and `UsageError` for one that has not run.
        """
        ran = {plain(path) for path in self.uninterrupted.calls} | {plain(repeat.path) for repeat in self.repeats}
        for step in steps:
            if step not in ran:
                raise UsageError(f"no step {step!r} has run. Those that have are {', '.join(map(repr, sorted(ran)))}.")
        faults = [line for step in steps if step not in self.keyed for line in self._unkeyed(step)]
        if faults:
            raise AssertionError("\n".join(faults))

    def _unkeyed(self, step: str) -> Iterator[str]:
        yield (
            f"{step!r} never asked for its idempotency key. Give context().idempotency_key to whatever must not be done twice."
        )
        yield from (f"- {repeat}" for repeat in self._of(step)[:1])

    def _of(self, step: str) -> list[Repeat]:
        return [repeat for repeat in self.repeats if plain(repeat.path) == step]

    def __str__(self) -> str:
        lines = [f"{self.runs} crashed runs ended like the uninterrupted one ({self.uninterrupted.status})."]
        steps = list(dict.fromkeys(plain(repeat.path) for repeat in self.repeats))
        if steps:
            lines.append("Run again after a crash, as any step may be:")
        width = max(map(len, steps), default=0)
        for step in steps:
            repeats = self._of(step)
            runs = len({repeat.crashed for repeat in repeats})
            crashed = spelled(repeats[0].crashed)
            lines.append(f"  {step:{width}}  in {runs} of {self.runs} runs, {self._how(step)}; e.g. crashed {crashed}")
        return "\n".join(lines)

    def _how(self, step: str) -> str:
        if step in self.keyed:
            return "under its idempotency key"
        return "in its transaction" if step in self.transactional else "WITHOUT asking for its idempotency key"


def spelled(points: Sequence[Point]) -> str:
    """*points* in words."""
    return ", then ".join(map(str, points))
