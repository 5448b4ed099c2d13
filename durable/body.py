"""What the body of a step may await: sleeps, events, and calls that are made once. `durable.sleep` and its siblings.

The body runs again from the top when it wakes, and after a crash. What is here gives its recorded answer then; everything else
in the body is done again. What must not be done twice belongs into a step of its own before the wait, or into `run`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack, overload

from durable.engine.effects import effects
from durable.engine.journal import Listening
from durable.engine.waits import Wait, wait
from durable.errors import DecodeError, NonRetryable, UsageError
from durable.model.answers import EVENT, MATCH
from durable.model.definition import UNANNOTATED
from durable.model.names import check_name
from durable.model.retry import Retry
from durable.timing import DURATION_MAX, instant

T = TypeVar("T")
Args = TypeVarTuple("Args")

_ONCE = Retry()
MATCH_KEY_BYTES_MAX = 200
MATCH_KEYS_MAX = 8  # with their names they stand in an index
LOOKBACK_MAX = timedelta(hours=1)  # as long as emissions are kept
NOTHING_GIVEN: Any = object()  # no timeout_value: None is a value like any other


async def sleep(duration: timedelta, *, key: str | None = None) -> None:
    """Sleep for *duration* from the first time that the body comes here, through crashes and deploys.

    Never shorter, by the clock of the database. A long sleep occupies no slot: the body is cancelled, so that its ``finally``
    and ``async with`` run, and runs again from the top when the time has come. A step's `timeout` does not count it. *key*
    tells apart the sleeps of several tasks of one body, as in a `gather`: without it, they are an `AmbiguousEffect`.

    Raises `UsageError` outside a step's body, and when *duration* is no `timedelta`. If cancelled, the sleep goes on by the
    clock, and the next run of the body waits for the rest.
    """
    await effects().sleep(duration_seconds(duration, "sleep"), key)


async def schedule_at(when: datetime, *, key: str | None = None) -> None:
    """Sleep until *when*, an aware datetime of the next hundred years, as it was given the first time. At once when that has
    passed. See `sleep`."""
    await effects().sleep_until(instant(when, "schedule_at"), key)


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
    function's annotation says, and of the arguments a hash is stored. *retry* is for this call alone (default: one try), and
    its tries are counted across crashes. What it calls must not wait by itself: that is a `UsageError`.

    Raises `RunFailed` when the last try has failed; the next attempt of the step makes the call anew. `RunRefused`, when that
    was a `NonRetryable`, ends the step. Raises `UsageError` outside a step's body, and `NonRetryable` when arguments or result
    cannot be stored. If cancelled, the call is cancelled and made again by the next run of the body; in a thread it is waited
    for, and keeps its answer.
    """
    label = name or _name_of(function)
    if not label:
        raise UsageError(f"run was given {function!r}, which has no name. Give it one: name=.")
    return await effects().call(function, args, label, retry or _ONCE)


async def continue_as(data: Any) -> NoReturn:
    """End this run of the body, and begin the execution afresh with *data* as its input: the same id, an empty journal.

    For code-first workflows that live long: a body may have 10,000 effects, and reads all of them whenever it wakes. What the
    body has waited for in vain is taken back, and children that it has called are cancelled; events that nobody has consumed
    stay. The journal so far is kept as history. Deadline and tags stay.

    Never returns. Raises `UsageError` outside the body of a ``@durable.workflow``, and while another task of the body is in the
    middle of an effect, and `NonRetryable` when *data* cannot be stored. If cancelled, it may have happened.
    """
    await effects().continue_as(data)


def _name_of(function: Any) -> str | None:
    return getattr(function.func if isinstance(function, functools.partial) else function, "__name__", None)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]


async def wait_for_event(
    name: str,
    *,
    match: Mapping[str, Any] | None = None,
    lookback: timedelta | None = None,
    timeout: timedelta | None = None,
    timeout_value: Any = NOTHING_GIVEN,
    type: Any = UNANNOTATED,
    key: str | None = None,
) -> Any:
    """Wait for the event *name*, and return its payload; see `Client.send_event`. One that was sent before is given at once.

    Each wait consumes one event, the earliest of its name, and its payload is recorded: the body gets the same one whenever it
    runs again. *type* says as what the payload is read (default: its JSON form). *timeout* counts from the first time that the
    body comes here; after it, the wait returns *timeout_value*, or raises `WaitTimeout` if none was given (the step's next
    attempt then waits anew). An event that is there when the time has come beats it. *key* tells apart the waits of several
    tasks of one body for the same event.

    With *match*, it waits for one that is emitted by `Client.emit` and has these texts, numbers and truths directly in its
    payload, from when it is registered, or with *lookback* (at most an hour) from so long before.

    It occupies no slot, see `sleep`. Raises `UsageError` outside a step's body, `AmbiguousEffect`, and `NonRetryable` when the
    payload is not of *type*. If cancelled, the event may have been consumed: the next run of the body gets it.
    """
    _check_names([name])
    if match is None and lookback is None:
        pairs = await _wait(_kind("event", name), key, [name], False, timeout, timeout_value)
    else:
        lenient, seconds = timeout_of(timeout, timeout_value)
        listens = _listening(name, match, lookback)
        kind = f"{MATCH}{json.dumps(name, ensure_ascii=False)}:{listens.match}"
        pairs = await wait(effects(), Wait(kind, key, timeout=seconds, lenient=lenient, listens=listens))
    return timeout_value if pairs is None else _read(name, pairs[0][1], type)


async def wait_for_any(
    names: Sequence[str],
    *,
    timeout: timedelta | None = None,
    timeout_value: Any = NOTHING_GIVEN,
    key: str | None = None,
) -> Any:
    """Wait for one of several events: the name and the payload of the one that was sent first. The others stay for whoever
    waits for them. After *timeout* it returns *timeout_value* as it was given. Otherwise like `wait_for_event`."""
    _check_names(names)
    pairs = await _wait(_kind("any", list(names)), key, names, False, timeout, timeout_value)
    if pairs is None:
        return timeout_value
    name = pairs[0][0].removeprefix(EVENT)
    return name, _read(name, pairs[0][1], UNANNOTATED)


async def wait_for_all(
    names: Sequence[str],
    *,
    timeout: timedelta | None = None,
    timeout_value: Any = NOTHING_GIVEN,
    key: str | None = None,
) -> Any:
    """Wait for an event of each name: their payloads, by name. They are consumed together, once the last is there; none is when
    the *timeout* comes first. Otherwise like `wait_for_event`."""
    _check_names(names)
    pairs = await _wait(_kind("all", list(names)), key, names, True, timeout, timeout_value)
    if pairs is None:
        return timeout_value
    found = {topic.removeprefix(EVENT): payload for topic, payload in pairs}
    return {name: _read(name, found[name], UNANNOTATED) for name in names}


def _kind(word: str, names: Any) -> str:
    """A part of the wait's key: in JSON, so that no two of them are written alike."""
    return f"{word}:{json.dumps(names, ensure_ascii=False)}"


def _listening(name: str, match: Mapping[str, Any] | None, lookback: timedelta | None) -> Listening:
    if match is None:
        raise UsageError("lookback is for waits with a match=. An event that is sent to an execution is kept anyway.")
    for key, value in match.items():
        if len(check_name(key, "a key to match").encode()) > MATCH_KEY_BYTES_MAX:
            raise UsageError(f"{key!r} is too long to match by. Give at most {MATCH_KEY_BYTES_MAX} bytes.")
        if isinstance(value, str):
            check_name(value, "a text to match")
        elif not isinstance(value, bool | int | float):
            raise UsageError(f"match has {value!r} under {key!r}. Give texts, numbers and truths.")
    if lookback is not None and not timedelta(0) <= lookback <= LOOKBACK_MAX:
        raise UsageError(f"lookback is {lookback!r}. Emissions are kept for an hour: give a timedelta up to that.")
    # 20.0 is 20: what is equal is to be found, and to be the same wait.
    plain = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in match.items()
    }
    if len(plain) > MATCH_KEYS_MAX:
        raise UsageError(f"match has {len(plain)} keys. Give at most {MATCH_KEYS_MAX}.")
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, allow_nan=False)
    return Listening(name, text, None if lookback is None else lookback.total_seconds())


async def _wait(
    kind: str, key: str | None, names: Sequence[str], every: bool, timeout: timedelta | None, timeout_value: Any
) -> list[tuple[str, str]] | None:
    lenient, seconds = timeout_of(timeout, timeout_value)
    topics = [f"{EVENT}{name}" for name in names]
    return await wait(effects(), Wait(kind, key, topics, every, seconds, lenient))


def timeout_of(timeout: timedelta | None, timeout_value: Any) -> tuple[bool, float | None]:
    """Whether there is a value for when the time has passed, and the time in seconds. Raises `UsageError`."""
    lenient = timeout_value is not NOTHING_GIVEN
    if lenient and timeout is None:
        raise UsageError("timeout_value is for when the timeout= has passed. Give one.")
    return lenient, None if timeout is None else duration_seconds(timeout, "timeout")


def duration_seconds(duration: Any, what: str) -> float:
    """*duration* in seconds, zero if it is less. Raises `UsageError`."""
    if not isinstance(duration, timedelta) or duration > DURATION_MAX:
        raise UsageError(f"{what} is {duration!r}. Give a timedelta of at most a hundred years: minutes(15), days(7).")
    return max(duration.total_seconds(), 0.0)


def _read(name: str, payload: str, kind: Any) -> Any:
    try:
        return effects().codec.decode(payload, kind)
    except DecodeError as error:
        raise NonRetryable(f"the event {name!r} is not what the body takes: {error}") from error


def _check_names(names: Sequence[str]) -> None:
    given: Any = names
    if not isinstance(given, list | tuple) or not names:  # a set has another order in another process
        raise UsageError(f"the names of events are {names!r}. Give a list of them.")
    for name in names:
        check_name(name, "the name of an event")
    if len(set(names)) < len(names):
        raise UsageError(f"the names of events are {names!r}, and one is there twice. Give each once.")
