"""Queues as an engine is told of them: how much of each runs here, and what holds for all workers together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from durable.errors import ConfigurationError, UsageError
from durable.model.names import storable

COUNT_MAX = (1 << 31) - 1
KEY_MAX = 200  # characters
CONCURRENCY = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """At most *count* executions taken up in any stretch of time as long as *per*, by all workers together."""

    count: int
    per: timedelta

    def __post_init__(self) -> None:
        _check("Rate", "count", self.count, 1)
        if not timedelta(milliseconds=1) <= self.per <= timedelta(days=366):
            raise ConfigurationError(f"Rate: per is {self.per!r}. Give a timedelta from a millisecond to a year.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A named lane of executions. *concurrency* is how many of it run in this process at once (0: this process only starts
    them); all else holds for all workers of the database together, and is what the engine that was started last says.

    *global_concurrency*: how many run at once. *rate*: how many are taken up in a time, counting each time that one is taken
    up: to begin, after a wait or a retry that freed its slot, after a crash. *key* is given the data of a start and returns
    who it is for (``lambda data: data["tenant"]``): keys take turns, and of each *per_key* run at once. *max_depth*: how many
    may be ready and not running; further starts raise `QueueFull` (more by what is started at the same instant elsewhere;
    children are never refused). *paused*: whether it begins its life paused (after that, `pause_queue` and `resume_queue`
    decide).

    What waits in a body holds no slot and counts against nothing. Raises `ConfigurationError`.
    """

    concurrency: int = CONCURRENCY
    global_concurrency: int | None = None
    rate: Rate | None = None
    key: Callable[[Any], str | int | UUID] | None = None
    per_key: int | None = None
    max_depth: int | None = None
    paused: bool = False

    def __post_init__(self) -> None:
        _check("Queue", "concurrency", self.concurrency, 0)
        for name in ("global_concurrency", "per_key", "max_depth"):
            if (value := getattr(self, name)) is not None:
                _check("Queue", name, value, 1)
        for name, kind in (("rate", Rate), ("paused", bool)):
            if (value := getattr(self, name)) is not None and not isinstance(value, kind):
                raise ConfigurationError(f"Queue: {name} is {value!r}. Give a {kind.__name__}.")
        if self.key is not None and not callable(self.key):
            raise ConfigurationError(f"Queue: key is {self.key!r}. Give a function of the data of a start.")

    @property
    def keyed(self) -> bool:
        """Whether what is in it takes turns by key."""
        return self.key is not None or self.per_key is not None

    @property
    def plain(self) -> bool:
        """Whether nothing holds for all workers together."""
        limited = self.global_concurrency is not None or self.rate is not None or self.max_depth is not None
        return not (limited or self.keyed or self.paused)

    def key_of(self, queue: str, data: Any) -> str | None:
        """Whose turn an execution on *data* takes. Raises `UsageError`."""
        if self.key is None:
            return None
        try:
            return checked_key(self.key(data))
        except UsageError as error:
            raise UsageError(f"the key of queue {queue!r}: {error}") from None
        except Exception as error:
            raise UsageError(
                f"the key of queue {queue!r} cannot be told from this data: {type(error).__name__}: {error}. "
                "Mend its Queue(key=...), or the data, or give the start a key=."
            ) from error


def checked_key(key: Any) -> str:
    """Return *key* as text, or raise `UsageError`."""
    if not isinstance(key, str | int | UUID) or isinstance(key, bool):
        raise UsageError(f"{key!r} cannot be a key. Give a str, an int or a UUID.")
    text = str(key)
    if not text or len(text) > KEY_MAX or not storable(text):
        raise UsageError(f"{text[:50]!r} cannot be a key. Give 1 to {KEY_MAX} characters, without NUL and surrogates.")
    return text


def _check(owner: str, name: str, value: Any, least: int) -> None:
    if type(value) is not int or not least <= value <= COUNT_MAX:
        raise ConfigurationError(f"{owner}: {name} is {value!r}. Give a whole number from {least} to {COUNT_MAX:,}.")
