"""One execution, as whoever has started it holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack
from uuid import UUID

from durable.following import LifeEvent
from durable.model.status import Status

if TYPE_CHECKING:
    from durable.client import Client

Out = TypeVar("Out")


class Edited(TypedDict, total=False):
    """What a fork is given in place of what was."""

    data: Any


class Handle(Generic[Out]):
    """One execution, to be asked and acted on. `created` is False when the id had been started before."""

    __slots__ = ("_client", "_type", "created", "execution_id", "id")

    def __init__(self, client: Client, id: str, execution_id: UUID, result_type: Any, created: bool) -> None:
        self.id = id
        self.execution_id = execution_id
        self.created = created
        self._client = client
        self._type = result_type

    async def result(self, timeout: float | timedelta | None = None) -> Out:
        """The result, once the execution has completed.

        *timeout* in seconds; None waits for ever. Raises `ExecutionFailed` with the recorded error, `ExecutionCancelled`,
        or `TimeoutError`. Cancelling it, or its timeout, leaves the execution alone.
        """
        return await self._client.wait_for_result(self.id, self._type, timeout)

    async def status(self) -> Status:
        """Where the execution stands now."""
        return (await self._client.get_execution(self.id)).status

    async def cancel(self, reason: str | None = None, *, compensate: bool = False, by: str | None = None) -> bool:
        """See `Client.cancel`."""
        return await self._client.cancel(self.id, reason, compensate=compensate, by=by)

    async def pause(self, reason: str | None = None, *, by: str | None = None) -> bool:
        """See `Client.pause`."""
        return await self._client.pause(self.id, reason, by=by)

    async def fork(
        self,
        *,
        from_step: str | None = None,
        new_id: str | None = None,
        reason: str | None = None,
        by: str | None = None,
        **data: Unpack[Edited],
    ) -> Handle[Any]:
        """See `Client.fork`."""
        return await self._client.fork(self.id, from_step=from_step, new_id=new_id, reason=reason, by=by, **data)

    async def retry(self, reason: str | None = None, *, by: str | None = None) -> bool:
        """See `Client.retry`."""
        return await self._client.retry(self.id, reason, by=by)

    async def resume(self, reason: str | None = None, *, by: str | None = None) -> bool:
        """See `Client.resume`."""
        return await self._client.resume(self.id, reason, by=by)

    async def send_event(self, name: str, payload: Any = None, *, dedupe_key: str | None = None) -> bool:
        """See `Client.send_event`."""
        return await self._client.send_event(self.id, name, payload, dedupe_key=dedupe_key)

    def events(self, after: str | None = None) -> AsyncIterator[LifeEvent]:
        """See `Client.events`."""
        return self._client.events(self.id, after)

    async def provide_input(
        self, name: str, value: Any = None, *, by: str | None = None, number: int | None = None
    ) -> None:
        """See `Client.provide_input`."""
        await self._client.provide_input(self.id, name, value, by=by, number=number)

    def __repr__(self) -> str:
        return f"<Handle of execution {self.id!r}>"
