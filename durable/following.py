"""Following an execution: its life as an async iterator, from its records and its stream, in the order in which they came.

Owns the place where a reader stands. Records of concurrent strands may become visible out of their numbers' order, so a place
is a number up to which all are seen, and those that are seen beyond it.
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
GAP_SECONDS = 60.0  # a number that was left out for so long was never used


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
class Place:
    """Where a reader stands."""

    low: int = 0
    beyond: dict[int, datetime] = field(default_factory=dict[int, datetime])
    told: int = 0

    @classmethod
    def read(cls, text: str | None) -> Place:
        """A place as it was written. Raises `UsageError`."""
        if text is None:
            return cls()
        try:
            low, beyond, told = text.split(".")
            long_ago = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
            return cls(int(low), {int(seq): long_ago for seq in beyond.split("-") if seq}, int(told))
        except ValueError as error:
            raise UsageError(f"{text!r} is no position that events() has given.") from error

    def __str__(self) -> str:
        return f"{self.low}.{'-'.join(map(str, sorted(self.beyond)))}.{self.told}"

    def see(self, seq: int, at: datetime, now: datetime) -> None:
        """A record is seen."""
        self.beyond[seq] = at
        for number in sorted(self.beyond):
            if number == self.low + 1 or now - self.beyond[number] > timedelta(seconds=GAP_SECONDS):
                self.low = number
                del self.beyond[number]
            else:
                break


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
            for row in await self._executions.fetch("stream/runs", self._id, place.told):
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
        records_max = PAGE + len(place.beyond)
        page = await self._executions.fetch("stream/life", self._id, place.low, place.told, records_max, PAGE)
        records = [row for row in page if not row["told"]]
        told = [row for row in page if row["told"]]
        new = [row for row in records if row["number"] not in place.beyond]
        # Of a full page the rest is not known: what is later than its end must wait for that.
        ends = [rows[-1]["at"] for rows, most in ((records, records_max), (told, PAGE)) if len(rows) == most]
        rows: list[Row] = sorted(
            [*told, *new], key=lambda row: row["at"]
        )  # at the same time, what was told comes first
        return rows if not ends else [row for row in rows if row["at"] <= min(ends)]

    def _event(self, row: Row, place: Place) -> Iterator[LifeEvent]:
        if row["told"]:
            yield from self._told(row, place)
            return
        at = row["at"]
        place.see(row["number"], at, datetime.now(at.tzinfo))
        kind = row["kind"]
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
