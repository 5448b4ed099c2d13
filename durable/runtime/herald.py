"""Who is told what has happened: this process at once, the others by notifications. All of it is a hint: whoever misses one
finds out by looking."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from durable.runtime.listener import ENDED, QUEUES, READY, SCHEDULES, TIMER, TOLD, Listener, channel_of
from durable.runtime.owned import Ended

if TYPE_CHECKING:
    from durable.runtime.supervisor import Supervisor


class Herald:
    """The news of one process. *on_ended* tells who waits here for a result; `supervisor` is the worker here, if any."""

    def __init__(self, process: UUID, listener: Listener, on_ended: Callable[[UUID, Ended], None]) -> None:
        self._process = process
        self._listener = listener
        self._on_ended = on_ended
        self.supervisor: Supervisor | None = None

    def ready(self, queue: str) -> None:
        """Something became ready in *queue*."""
        if self.supervisor is not None:
            self.supervisor.became_ready(queue)
        else:
            self._listener.send(READY, queue)

    def later(self, delay: float) -> None:
        """Something sleeps for *delay* seconds."""
        if self.supervisor is not None:
            self.supervisor.will_be_due(delay)
        else:
            self._listener.send(READY, TIMER)

    def claim(self, execution_id: UUID) -> None:
        """The claim of an execution may be gone, or it be to be undone, or have mail: its owner is to ask."""
        if self.supervisor is not None:
            self.supervisor.claim_told(execution_id)
        if self.supervisor is None or not self.supervisor.owns(execution_id):
            self._listener.send(TOLD, execution_id.hex)

    def mail(self, execution_id: UUID, queue: str | None, *, sure: bool = True) -> None:
        """A message was delivered: to an execution that it has made ready in *queue*, or to one that does not sleep. Which of
        both, is not *sure* of one that was sent again."""
        if queue is not None:
            self.ready(queue)
        if queue is None or not sure:
            self.claim(execution_id)

    def emitted(self) -> None:
        """Something was emitted."""
        if self.supervisor is not None:
            self.supervisor.deliver_posted()
        else:
            self._listener.send(READY, TIMER)

    def queues_changed(self) -> None:
        """Limits of queues were changed."""
        if self.supervisor is not None:
            self.supervisor.queues_changed()
        self._listener.send(READY, QUEUES)

    def doomed(self) -> None:
        """Something is to be cancelled."""
        if self.supervisor is not None:
            self.supervisor.cancel_doomed()
        else:
            self._listener.send(READY, TIMER)

    def scheduled(self) -> None:
        """A schedule was changed."""
        if self.supervisor is not None:
            self.supervisor.scheduler.look()
        self._listener.send(SCHEDULES, "changed")

    def ended(self, execution_id: UUID, ended: Ended, watchers: Iterable[UUID] | None) -> None:
        """An execution has ended."""
        self._on_ended(execution_id, ended)
        if self.supervisor is not None:
            self.supervisor.scheduler.ended()
        for watcher in watchers or ():
            if watcher != self._process:
                self._listener.send(channel_of(watcher), f"{ENDED}{execution_id.hex}")
