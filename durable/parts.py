"""What a running engine lends to the calls that an application makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.authoring import Workflow
from durable.codec import Codec
from durable.errors import ExecutionEnded, UnknownExecution, UnknownWorkflow, UsageError
from durable.model.definition import Definition
from durable.queues import Queue
from durable.request import key_of
from durable.runtime.canceller import Canceller
from durable.runtime.followers import Followers
from durable.runtime.herald import Herald
from durable.runtime.janitor import Janitor
from durable.runtime.listener import Listener
from durable.runtime.supervisor import Supervisor
from durable.runtime.waiter import Waiter
from durable.store.connection import Row
from durable.store.executions import Births, Executions, NewExecution
from durable.store.group_commit import GroupCommit
from durable.telemetry.figures import Figures
from durable.telemetry.meter import Meter
from durable.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from durable.handle import Handle


@dataclass(slots=True)
class Parts:
    """What a running engine lends its client."""

    process: UUID
    definitions: Mapping[tuple[str, int], Definition]
    queues: Mapping[str, Queue]
    janitor: Janitor
    meter: Meter
    figures: Figures
    tracing: Tracing | None
    codec: Codec
    commit: GroupCommit
    births: Births
    executions: Executions
    listener: Listener
    followers: Followers
    herald: Herald
    canceller: Canceller
    waiter: Waiter
    supervisor: Supervisor | None
    payload_bytes_max: int

    def write_start(self, new: NewExecution, births: Births) -> asyncio.Future[Row | None]:
        """Have it written, by one of *births*."""
        queue = self.queues.get(new.queue)
        kind = births.of(new, plain=queue is None or queue.plain)
        return self.commit.write(kind, new.execution_id, new.row(), len(new.input))


class Calls:
    """What all calls have in common. Each noun has a module with its calls; `Client` is all of them."""

    def parts(self) -> Parts:
        """The running engine's parts. Raises `EngineNotRunning`."""
        raise NotImplementedError

    def handle_of(self, id: str, execution_id: UUID, result_type: Any, created: bool) -> Handle[Any]:
        """A handle of this client."""
        raise NotImplementedError

    @property
    def payload_bytes_max(self) -> int:
        """How big encoded input may be."""
        return self.parts().payload_bytes_max

    def result_type(self, workflow: str, version: int) -> Any:
        """What the executions of a workflow give; None when the engine does not know it."""
        definition = self.parts().definitions.get((workflow, version))
        return None if definition is None else definition.output_type

    def turn_of(self, queue: str, data: Any, key: str | int | UUID | None) -> str | None:
        """With whom a child takes turns in its queue, as far as this worker knows that queue. Raises `UsageError`."""
        parts = self.parts()
        found = key_of(queue, data, key, parts.queues)
        keyed = parts.supervisor is not None and queue in parts.supervisor.keyed
        if found is None and keyed:
            raise UsageError(
                f"what is in queue {queue!r} takes turns by key. Give this engine the Queue(key=...) too, or the call a turn=."
            )
        if key is not None and not keyed:
            raise UsageError(f"queue {queue!r} has no keys, so that turn={key!r} would change nothing.")
        return found

    def definition_of(self, workflow: Workflow[Any, Any]) -> Definition:
        """What the engine knows *workflow* as. Raises `UnknownWorkflow`."""
        definition = workflow.definition
        if self.parts().definitions.get((definition.name, definition.version)) is not definition:
            raise UnknownWorkflow(
                f"this engine was not given workflow {definition.name!r} version {definition.version} ({definition.source}). "
                "Add it: Durable(..., workflows=[...])."
            )
        return definition


def unknown(id: str) -> UnknownExecution:
    """What a call raises about an id that nothing was started under."""
    return UnknownExecution(f"there is no execution {id!r}")


def ended(id: str) -> ExecutionEnded:
    """What a call raises that came too late."""
    return ExecutionEnded(f"execution {id!r} has ended: nobody in it would read what is sent to it")
