"""What a caller wants started, checked and made into a row. Refuses what cannot be kept, before anything is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from durable.codec import Codec
from durable.errors import EncodeError, PayloadTooLarge, UsageError
from durable.ids import execution_uuid, given_name, new_id, new_token
from durable.model.definition import UNANNOTATED, Definition
from durable.model.names import check_name, storable
from durable.queues import Queue, checked_key
from durable.runtime.listener import HELD, QUEUES, TIMER
from durable.store.executions import NewExecution
from durable.timing import DURATION_MAX, instant

PRIORITY_MAX = 32_767


@dataclass(frozen=True, slots=True)
class Options:
    """How executions are to be started, where it differs from what the workflow says; see `Client.start`."""

    queue: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    scheduled_at: datetime | None = None
    tags: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What all executions that one call starts have in common, checked."""

    definition: Definition
    queue: str
    priority: int
    tags: str | None
    scheduled_at: datetime | None
    delay: float | None
    timeout: float | None

    @property
    def put_off(self) -> bool:
        """Whether they begin later."""
        return self.delay is not None or self.scheduled_at is not None

    def execution(self, text: str, id: str | None, turn: str | None) -> NewExecution:
        """The row of one that is to be started, of JSON *text*, when it is known whose *turn* it takes in its queue. Raises
        `UsageError`."""
        execution_id = new_id() if id is None else execution_uuid(id)
        return NewExecution(
            execution_id=execution_id,
            name=None if id is None else given_name(id),
            operation=execution_id if id is None else new_token(),  # nobody else starts what has a generated id
            shape_id=self.definition.shape,
            workflow=self.definition.name,
            version=self.definition.version,
            queue=self.queue,
            priority=self.priority,
            tags=self.tags,
            input=text,
            scheduled_at=self.scheduled_at,
            delay=self.delay,
            timeout=self.timeout,
            chosen_id=id is not None,
            key=turn,
        )


def draft_of(definition: Definition, options: Options) -> Draft:
    """What is common to executions that are started so. Raises `EncodeError` and `UsageError`."""
    _check_times(options.delay, options.scheduled_at)
    scheduled_at = None if options.scheduled_at is None else instant(options.scheduled_at, "scheduled_at")
    return Draft(
        definition,
        check_queue_name(definition.queue if options.queue is None else options.queue),
        check_priority(definition.priority if options.priority is None else options.priority),
        encode_tags(options.tags) if options.tags else None,
        scheduled_at,
        None if options.delay is None else options.delay.total_seconds(),
        None if definition.timeout is None else definition.timeout.total_seconds(),
    )


def key_of(queue: str, data: Any, key: str | int | UUID | None, queues: Mapping[str, Queue]) -> str | None:
    """Whose turn an execution takes: *key*, or what its queue says of *data*. Raises `UsageError`."""
    if key is not None:
        return checked_key(key)
    return queues[queue].key_of(queue, data) if queue in queues else None


def encoded(data: Any, codec: Codec, payload_bytes_max: int | None, kind: Any = UNANNOTATED) -> str:
    """What comes from outside, as JSON text. Raises `EncodeError` and `PayloadTooLarge`."""
    text = codec.encode(data, kind)
    size = len(text.encode())
    if payload_bytes_max is not None and size > payload_bytes_max:
        raise PayloadTooLarge(
            f"the data has {size:,} bytes; {payload_bytes_max:,} are allowed. "
            "Keep big data elsewhere and pass a reference, or raise max_payload."
        )
    return text


def matchable(payload: Any, codec: Codec) -> str:
    """What of a payload waits can match, as a JSON object: as in ``durable.keys_of``, but of what the codec may have hidden."""
    plain = codec.decode(codec.encode(payload))
    if not isinstance(plain, dict):
        return "{}"
    pairs = cast("dict[str, Any]", plain).items()
    return json.dumps(
        {k: v for k, v in pairs if isinstance(v, str | int | float) and "\0" not in f"{k}{v}"}, allow_nan=False
    )


def once_of(name: str, dedupe_key: str | None) -> str:
    """What keeps an event from being sent twice: the sender's key, under its name, else this very call. As in the function
    ``durable.once_of``. Raises `UsageError`."""
    if dedupe_key is None:
        return f"o:{new_token()}"
    return f"k:{len(name)}:{name}:{check_name(dedupe_key, 'a dedupe_key')}"


def _check_times(delay: timedelta | None, scheduled_at: datetime | None) -> None:
    if delay is not None and scheduled_at is not None:
        raise UsageError("both delay and scheduled_at were given. Choose one.")
    if delay is not None and not timedelta(0) <= delay <= DURATION_MAX:
        raise UsageError(f"delay is {delay!r}. Give a timedelta from zero to a hundred years.")


def check_priority(priority: int) -> int:
    """Return *priority*, or raise `UsageError`."""
    if type(priority) is not int or not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise UsageError(f"priority is {priority!r}. Give a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}.")
    return priority


def check_queue_name(queue: str) -> str:
    """Return *queue*, or raise `UsageError`: names travel in notifications, joined by commas."""
    if not queue or len(queue) > 200 or "," in queue or not storable(queue) or queue in (TIMER, HELD, QUEUES):
        raise UsageError(
            f"{queue!r} cannot be the name of a queue. Give 1 to 200 characters without comma, NUL and surrogates, "
            f"not {TIMER!r}, {HELD!r} or {QUEUES!r}."
        )
    return queue


def encode_tags(tags: Mapping[str, Any]) -> str:
    """Tags as JSON text. Raises `EncodeError`."""
    try:
        text = json.dumps(dict(tags), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"tags cannot be written as JSON: {error}") from error
    if "\\u0000" in text:
        raise EncodeError("tags cannot hold NUL: PostgreSQL stores them to search in.")
    return text
