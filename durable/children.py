"""What the body of a step may begin: other workflows, as its children. See `durable.body` for how a body waits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from uuid import UUID

import msgspec

from durable.authoring import Workflow
from durable.body import NOTHING_GIVEN, timeout_of
from durable.client import Client
from durable.engine.context import context
from durable.engine.effects import effects
from durable.engine.journal import Birth
from durable.engine.waits import Wait, wait
from durable.errors import DecodeError, NonRetryable
from durable.ids import execution_uuid
from durable.model.answers import CHILD, child_end, topic_of_child
from durable.model.definition import Definition
from durable.model.names import check_name
from durable.request import check_priority, check_queue_name, encode_tags

In = TypeVar("In")
Out = TypeVar("Out")


class Bearing(TypedDict, total=False):
    """How a child may be begun; see `call_workflow`."""

    ref: str | None
    queue: str | None
    priority: int | None
    tags: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Child(Generic[Out]):
    """An execution that a body has begun by `start_workflow`, and maybe waits for. `id` is as for any execution."""

    id: str
    workflow: str
    _type: Any = field(repr=False)

    @property
    def execution_id(self) -> UUID:
        """Its id as a UUID."""
        return UUID(self.id)

    async def result(self, *, timeout: timedelta | None = None, timeout_value: Any = NOTHING_GIVEN) -> Out:
        """Wait for its end, in the body that has begun it or in a later one of this execution, and return its result.

        Several waits in different bodies share what comes: wait in one of them. Otherwise like `call_workflow`, but that the
        child goes on after a *timeout*.
        """
        kind = f"result:{json.dumps(self.id)}"
        lenient, seconds = timeout_of(timeout, timeout_value)
        waiting = Wait(kind, topics=[topic_of_child(self.execution_id)], timeout=seconds, lenient=lenient, again=True)
        return _result(await wait(effects(), waiting), self.workflow, self._type, timeout_value)


async def call_workflow(
    workflow: Workflow[In, Out],
    data: In,
    *,
    timeout: timedelta | None = None,
    timeout_value: Any = NOTHING_GIVEN,
    **bearing: Unpack[Bearing],
) -> Out:
    """Begin an execution of *workflow* on *data* as a child of this one, and wait for its result.

    However often the body runs, it is begun once: its id derives from this execution, the step's path and *ref* (default: the
    workflow's name; calls of one *ref* in several tasks of one body need different ones). *queue*, *priority* and *tags* are as
    for `Client.start`. After *timeout*, counted from its beginning, it is cancelled, with compensation, and the call returns
    *timeout_value*, or raises `WaitTimeout` if none was given. It is cancelled, too, when this execution ends and nobody waits
    for it any more.

    Raises `ChildFailed` when it has not completed. The step's next attempt calls another one. Raises `UnknownWorkflow`,
    `EncodeError`, and `UsageError` outside a step's body. It occupies no slot meanwhile, see `sleep`. If cancelled, the child
    goes on, and the next run of the body gets its result.
    """
    definition = _known(workflow)
    lenient, seconds = timeout_of(timeout, timeout_value)
    ref = check_name(bearing.get("ref") or definition.name, "a ref")
    waiting = Wait(
        f"{CHILD}{json.dumps(ref, ensure_ascii=False)}",
        timeout=seconds,
        lenient=lenient,
        bears=_births(definition, data, bearing),
    )
    return _result(await wait(effects(), waiting), definition.name, definition.output_type, timeout_value)


async def start_workflow(workflow: Workflow[In, Out], data: In, **bearing: Unpack[Bearing]) -> Child[Out]:
    """Begin an execution of *workflow* on *data* as a child of this one, and go on at once. See `call_workflow`.

    It is cancelled when this execution is cancelled, and else goes on when this one has ended. Wait for it by `Child.result`.
    """
    definition = _known(workflow)
    ref = check_name(bearing.get("ref") or definition.name, "a ref")
    kind = f"start:{json.dumps(ref, ensure_ascii=False)}"
    child = await effects().bear(kind, None, _births(definition, data, bearing))
    return Child(str(child), definition.name, definition.output_type)


def _known(workflow: Workflow[Any, Any]) -> Definition:
    engine = context().engine
    return engine.definition_of(workflow) if isinstance(engine, Client) else workflow.definition


def _births(definition: Definition, data: Any, bearing: Bearing) -> Callable[[str, int], Birth]:
    """What makes the child for the key of an effect, and how often that has failed."""
    here, codec = context(), effects().codec
    tags = bearing.get("tags")
    queue, priority = bearing.get("queue"), bearing.get("priority")

    def birth(key: str, failed: int) -> Birth:
        return Birth(
            _id_of(execution_uuid(here.execution_id), here.path, here.life, key, failed),
            definition,
            codec.encode(data, definition.input_type),
            check_queue_name(definition.queue if queue is None else queue),
            check_priority(definition.priority if priority is None else priority),
            encode_tags(tags) if tags else None,
        )

    return birth


def _id_of(parent: UUID, path: str, life: int, key: str, failed: int) -> UUID:
    """The same for every run of the body; another one for the next try of a child that has failed."""
    text = msgspec.json.encode([str(parent), path, life, key, failed])
    return UUID(bytes=hashlib.sha256(text).digest()[:16])


def _result(answer: list[tuple[str, str]] | None, workflow: str, kind: Any, timeout_value: Any) -> Any:
    if answer is None:
        return timeout_value
    result = bytes(child_end(answer[0][1]).result).decode()
    try:
        return effects().codec.decode(result, kind)
    except DecodeError as error:
        raise NonRetryable(f"the result of a child of {workflow!r} is not what its workflow says: {error}") from error
