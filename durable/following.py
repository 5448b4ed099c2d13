"""Following an execution: its life as an async iterator, from its records and its stream, in the order in which they came.

Owns the place where a reader stands. Records of concurrent strands may become visible out of their numbers' order, one of them
long after others if its strand waits for those, and some numbers are never used: a place is a number and the gaps below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from durable.codec import Codec
from durable.errors import UnknownExecution, UsageError
from durable.model.failure import Failure
from durable.paging import Row
from durable.runtime.followers import FOLLOW_EVERY, Followers
from durable.store.executions import Executions
from durable.view import failure_from, shown

PAGE = 500
LOOK_EVERY = 1.0  # seconds, whatever was told
GAPS_MAX = 100  # of more, the first are given up
GAP_SECONDS = 60.0  # but not those that are younger


class LifeEvent(msgspec.Struct, frozen=True):
    """Something in the life of an execution.

    `kind` is "completed", "retrying" or "failed" of an attempt of the step at *path*; "waiting", "answered", "expired", "ran"
    or "tried" of an effect of its body (`message` is its key); "progress" (`value` is the fraction) or "chunk" (`value` is
    it) of its stream; "log" of what it has logged (`message`; `value` says the level and the logger); "withdrawn", when the
    chunks of the step so far do not count any more; and at last "ended" (`message` is the status). `position` is for
    ``events(after=...)``.
    """

    kind: str
    path: str
    attempt: int
    at: datetime
    position: str
    value: Any = None
    message: str | None = None
    error: Failure | None = None


@dataclass(slots=True)
class Gap:
    """Numbers that were not seen when one beyond them was; *at* is when that one was recorded, None if that is not known."""

    first: int
    last: int
    at: datetime | None = None


@dataclass(slots=True)
class Place:
    """Where a reader stands: the highest number that is seen, the gaps below it, and what was told last."""

    high: int = 0
    gaps: list[Gap] = field(default_factory=list[Gap])
    told: int = 0

    @classmethod
    def read(cls, text: str | None) -> Place:
        """A place as it was written. Raises `UsageError`."""
        if text is None:
            return cls()
        try:
            high, gaps, told = text.split(".")
            ends = [gap.partition("_") for gap in gaps.split("-") if gap]
            found = cls(int(high), [Gap(int(first), int(last or first)) for first, _, last in ends], int(told))
        except ValueError:
            found = None
        if (
            found is None
            or not all(0 <= number < 1 << 31 for number in found.numbers())
            or not 0 <= found.told < 1 << 63
        ):
            raise UsageError(f"{text!r} is no position that events() has given.")
        return found

    def __str__(self) -> str:
        gaps = (f"{gap.first}" if gap.first == gap.last else f"{gap.first}_{gap.last}" for gap in self.gaps)
        return f"{self.high}.{'-'.join(gaps)}.{self.told}"

    def numbers(self) -> Iterator[int]:
        """All that it is made of."""
        yield self.high
        for gap in self.gaps:
            yield from (gap.first, gap.last)

    def see(self, seq: int, at: datetime, now: datetime) -> None:
        """A record is seen at a time by the clock of its own."""
        if seq > self.high:
            if seq > self.high + 1:
                self.gaps.append(Gap(self.high + 1, seq - 1, at))
            self.high = seq
        else:
            self.gaps = [part for gap in self.gaps for part in _without(gap, seq)]
        surplus = len(self.gaps) - GAPS_MAX
        for gap in self.gaps[: max(surplus, 0)]:
            gap.at = gap.at or now
            if now - gap.at > timedelta(seconds=GAP_SECONDS):
                self.gaps.remove(gap)


def _without(gap: Gap, seq: int) -> Iterator[Gap]:
    if not gap.first <= seq <= gap.last:
        yield gap
        return
    if gap.first < seq:
        yield Gap(gap.first, seq - 1, gap.at)
    if seq < gap.last:
        yield Gap(seq + 1, gap.last, gap.at)


class Following:
    """One reader of one execution."""

    def __init__(self, executions: Executions, followers: Followers, codec: Codec, id: UUID, shown: str) -> None:
        self._executions = executions
        self._followers = followers
        self._codec = codec
        self._id = id
        self._shown = shown
        self._runs: dict[str, tuple[UUID, int]] = {}  # by path: which run has told chunks last, and its attempt

    async def events(self, after: str | None, *, follow: bool = True) -> AsyncIterator[LifeEvent]:
        """All that happens after a place, until the execution has ended, or unless *follow* all that has happened by now."""
        place = Place.read(after)
        loop = asyncio.get_running_loop()
        if place.told:
            for row in await self._executions.fetch("stream/runs", self._id, place.told, place.high):
                self._runs[row["path"]] = row["run"], row["attempt"]
        asked_at = -FOLLOW_EVERY
        with self._followers.reading(self._id) as news:
            while True:
                if loop.time() - asked_at >= FOLLOW_EVERY:
                    asked_at = loop.time()
                    self._followers.ask(self._id)
                news.clear()
                (ended,) = await self._executions.fetch("execution/get", self._id) or (None,)
                if ended is None:
                    raise UnknownExecution(f"there is no execution {self._shown!r}")
                while rows := await self._page(place):
                    for row in rows:
                        for event in self._event(row, place):
                            yield event
                if ended["ended_at"] is not None:
                    yield LifeEvent("ended", "", 0, ended["ended_at"], str(place), message=ended["status"])
                    return
                if not follow:
                    return
                try:
                    async with asyncio.timeout(LOOK_EVERY):
                        await news.wait()
                except TimeoutError:
                    pass

    async def _page(self, place: Place) -> list[Row]:
        """What is new, in the order of time."""
        first, last = [gap.first for gap in place.gaps], [gap.last for gap in place.gaps]
        page = await self._executions.fetch("stream/life", self._id, place.high, first, last, place.told, PAGE)
        parts: dict[str, list[Row]] = {"told": [], "late": [], "new": []}
        for row in page:
            parts[row["part"]].append(row)
        # Of a full page the rest is not known: what is later than its end must wait for that.
        ends = [rows[-1]["at"] for rows in parts.values() if len(rows) == PAGE]
        # At the same time, what was told comes first.
        rows = sorted((row for part in parts.values() for row in part), key=lambda row: row["at"])
        return rows if not ends else [row for row in rows if row["at"] <= min(ends)]

    def _event(self, row: Row, place: Place) -> Iterator[LifeEvent]:
        if row["part"] == "told":
            yield from self._told(row, place)
            return
        at = row["at"]
        place.see(row["number"], at, row["now"])
        kind = row["kind"]
        if kind == "continued":  # its chunks stand: it came to its end
            self._runs.clear()
        if kind == "failed" and row["run_at"] is not None:
            kind = "retrying"
        if row["path"] and (kind in ("completed", "failed", "retrying") or row["key"] is not None):
            value = None
            if (
                row["value"] is not None
                and kind in ("completed", "ran")
                and not (row["key"] or "").startswith("start:")
            ):
                value = shown(row["value"], self._codec)
            error = failure_from(row["error"])
            yield LifeEvent(kind, row["path"], row["attempt"], at, str(place), value, row["key"], error)
        if kind in ("failed", "retrying") and row["path"] in self._runs:
            _, attempt = self._runs.pop(row["path"])
            yield LifeEvent("withdrawn", row["path"], attempt, at, str(place))

    def _told(self, row: Row, place: Place) -> Iterator[LifeEvent]:
        path, at = row["path"], row["at"]
        if row["kind"] == "chunk":
            before = self._runs.get(path)
            if before is not None and before[0] != row["run"]:
                yield LifeEvent("withdrawn", path, before[1], at, str(place))
            self._runs[path] = row["run"], row["attempt"]
        place.told = row["number"]
        value = shown(row["value"], self._codec)
        yield LifeEvent(row["kind"], path, row["attempt"], at, str(place), value, row["message"])
