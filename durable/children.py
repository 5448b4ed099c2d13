"""What the body of a step may begin: other workflows, as its children. See `durable.body` for how a body waits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from durable.errors import DecodeError, NonRetryable, UsageError
from durable.ids import execution_uuid
from durable.model.answers import CHILD, child_end
from durable.model.definition import UNANNOTATED, Definition
from durable.model.names import check_name
from durable.queues import checked_key
from durable.request import check_priority, check_queue_name, encode_tags, encoded

In = TypeVar("In")
Out = TypeVar("Out")


class Bearing(TypedDict, total=False):
    """How a child may be begun; see `call_workflow`."""

    ref: str | None
    queue: str | None
    priority: int | None
    tags: Mapping[str, Any] | None
    turn: str | int | UUID | None


@dataclass(frozen=True, slots=True)
class Child(Generic[Out]):
    """An execution that a body has begun by `start_workflow`. `id` is as for any execution. It is data, for later steps too."""

    id: str
    workflow: str
    version: int

    async def result(
        self, *, timeout: timedelta | None = None, timeout_value: Any = NOTHING_GIVEN, key: str | None = None
    ) -> Out:
        """Wait for its end, in any body of the execution that has begun it, as often as you like, and return its result.

        After *timeout*, the child goes on. *key* tells apart the waits of several tasks of one body. Otherwise like
        `call_workflow`.
        """
        lenient, seconds = timeout_of(timeout, timeout_value)
        waiting = Wait(f"result:{json.dumps(self.id)}", key, timeout=seconds, lenient=lenient, started=UUID(self.id))
        return _result(await wait(effects(), waiting), self.workflow, self._type(), timeout_value)

    def _type(self) -> Any:
        engine = context().engine
        found = engine.result_type(self.workflow, self.version) if isinstance(engine, Client) else None
        return _BEGUN.get((self.workflow, self.version), UNANNOTATED) if found is None else found


_BEGUN: dict[tuple[str, int], Any] = {}  # where there is no engine to ask: the types of results


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
    workflow's name; calls of one *ref* in several tasks of one body need different ones). *queue*, *priority* and *tags* are
    as for `Client.start`; *turn* is what is called *key* there. After *timeout*, counted from its beginning, it is cancelled,
    with compensation, and the call returns *timeout_value*, or raises `WaitTimeout` if none was given. It is cancelled, too,
    when this execution ends and nobody waits for it any more.

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
    _BEGUN[definition.name, definition.version] = definition.output_type
    return Child(str(child), definition.name, definition.version)


def _known(workflow: Workflow[Any, Any]) -> Definition:
    engine = context().engine
    return engine.definition_of(workflow) if isinstance(engine, Client) else workflow.definition


def _births(definition: Definition, data: Any, bearing: Bearing) -> Callable[[str, int], Birth]:
    """What makes the child for the key of an effect, and how often that has failed."""
    here, codec = context(), effects().codec
    if unknown := bearing.keys() - Bearing.__annotations__.keys():
        raise UsageError(f"a child cannot be begun with {', '.join(sorted(unknown))}. See call_workflow().")
    limit = here.engine.payload_bytes_max if isinstance(here.engine, Client) else None
    tags = bearing.get("tags")
    priority = bearing.get("priority")
    queue = check_queue_name(bearing.get("queue") or definition.queue)
    turn = bearing.get("turn")
    if isinstance(here.engine, Client):
        turn = here.engine.turn_of(queue, data, turn)
    elif turn is not None:
        turn = checked_key(turn)

    tracing = here.engine.parts().tracing if isinstance(here.engine, Client) else None
    traced: Callable[[str | None], str | None] = (lambda text: text) if tracing is None else tracing.tagged

    def birth(key: str, failed: int) -> Birth:
        return Birth(
            _id_of(execution_uuid(here.execution_id), here.path, here.life, key, failed),
            definition,
            encoded(data, codec, limit, definition.input_type),
            queue,
            check_priority(definition.priority if priority is None else priority),
            traced(encode_tags(tags) if tags else None),
            turn,
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
