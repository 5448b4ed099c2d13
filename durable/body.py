"""What the body of a step may await: sleeps, and calls that are made once. `durable.sleep` and its siblings.

The body runs again from the top when it wakes, and after a crash. What is here gives its recorded answer then; everything else
in the body is done again. What must not be done twice belongs into a step of its own before the wait, or into `run`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

from durable.engine.effects import effects
from durable.errors import UsageError
from durable.model.retry import Retry

T = TypeVar("T")
Args = TypeVarTuple("Args")

_ONCE = Retry()


async def sleep(duration: timedelta, *, key: str | None = None) -> None:
    """Sleep for *duration* from the first time that the body comes here, through crashes and deploys.

    Never shorter, by the clock of the database. A long sleep occupies no slot: the body is cancelled, so that its ``finally``
    and ``async with`` run, and runs again from the top when the time has come. A step's `timeout` does not count it. *key*
    tells apart the sleeps of several tasks of one body, as in a `gather`: without it, they are an `AmbiguousEffect`.

    Raises `UsageError` outside a step's body, and when *duration* is no `timedelta`. If cancelled, the sleep goes on by the
    clock, and the next run of the body waits for the rest.
    """
    given: Any = duration
    if not isinstance(given, timedelta):
        raise UsageError(f"sleep was given {given!r}. Give a timedelta: seconds(30), hours(2), days(3).")
    await effects().sleep(duration.total_seconds(), key)


async def schedule_at(when: datetime, *, key: str | None = None) -> None:
    """Sleep until *when*, an aware datetime, as it was given the first time. At once when that has passed. See `sleep`."""
    given: Any = when
    if not isinstance(given, datetime) or given.utcoffset() is None:
        raise UsageError(f"schedule_at was given {given!r}. Give a datetime with a time zone.")
    await effects().sleep_until(when, key)


@overload
async def run(
    function: Callable[[Unpack[Args]], Awaitable[T]],
    /,
    *args: *Args,
    name: str | None = None,
    retry: Retry | None = None,
) -> T: ...
@overload
async def run(
    function: Callable[[Unpack[Args]], T], /, *args: *Args, name: str | None = None, retry: Retry | None = None
) -> T: ...
async def run(function: Callable[..., Any], /, *args: Any, name: str | None = None, retry: Retry | None = None) -> Any:
    """Call *function* on *args* and record what it returns: a checkpoint inside a step. Whenever the body runs again, the
    recorded result is given instead. A plain function is called in a thread.

    A call is known by its *name* (default: the function's), its arguments, and which one it is of several that are equal; so it
    may be made in a `gather` or TaskGroup. Results and arguments are data as between steps; the result is read as the
    function's annotation says. *retry* is for this call alone (default: one try), and its tries are counted across crashes.
    What it calls must not wait by itself: that is a `UsageError`.

    Raises `RunFailed` when the last try has failed; the next attempt of the step makes the call anew. Raises `UsageError`
    outside a step's body, and `NonRetryable` when arguments or result cannot be stored. If cancelled, the call is cancelled and
    made again by the next run of the body.
    """
    label = name or _name_of(function)
    if not label:
        raise UsageError(f"run was given {function!r}, which has no name. Give it one: name=.")
    return await effects().call(function, args, label, retry or _ONCE)


def _name_of(function: Any) -> str | None:
    return getattr(function.func if isinstance(function, functools.partial) else function, "__name__", None)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
