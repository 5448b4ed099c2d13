"""The engine of the running loop, and the module functions that use it: ``durable.start`` is ``engine.start``."""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from durable.client import Client
from durable.engine.context import CURRENT
from durable.errors import EngineNotRunning, SeveralEngines

P = ParamSpec("P")
T = TypeVar("T")

_running: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[Client]] = weakref.WeakKeyDictionary()


def enter(engine: Client) -> None:
    """*engine* runs in this loop from now on."""
    _running.setdefault(asyncio.get_running_loop(), []).append(engine)


def leave(engine: Client) -> None:
    """*engine* does not run in this loop any more."""
    engines = _running.get(asyncio.get_running_loop(), [])
    if engine in engines:
        engines.remove(engine)


def engine() -> Client:
    """The engine of the step that is running, else the one engine of this event loop.

    Raises `EngineNotRunning` when there is none, `SeveralEngines` when it is not clear which.
    """
    context = CURRENT.get()
    if context is not None and isinstance(context.engine, Client):
        return context.engine
    engines = _running.get(asyncio.get_running_loop(), [])
    if not engines:
        raise EngineNotRunning(
            "no durable engine runs in this event loop. Enter one first: `async with Durable(...)`, or "
            "FastAPI(lifespan=engine.lifespan). In a plain `def` handler use anyio.from_thread.run(durable.start, ...)."
        )
    if len(engines) > 1:
        raise SeveralEngines(f"{len(engines)} engines run in this event loop. Call the method on the one you mean.")
    return engines[0]


def _on_the_engine(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def function(*args: P.args, **kwargs: P.kwargs) -> T:
        return await method(engine(), *args, **kwargs)

    return function


start = _on_the_engine(Client.start)
start_many = _on_the_engine(Client.start_many)
get_execution = _on_the_engine(Client.get_execution)
list_executions = _on_the_engine(Client.list_executions)
cancel = _on_the_engine(Client.cancel)
send_event = _on_the_engine(Client.send_event)
emit = _on_the_engine(Client.emit)
provide_input = _on_the_engine(Client.provide_input)
list_children = _on_the_engine(Client.list_children)
cleanup = _on_the_engine(Client.cleanup)
fork = _on_the_engine(Client.fork)
retry = _on_the_engine(Client.retry)
pause = _on_the_engine(Client.pause)
resume = _on_the_engine(Client.resume)
list_acts = _on_the_engine(Client.list_acts)
list_queues = _on_the_engine(Client.list_queues)
list_workers = _on_the_engine(Client.list_workers)
pause_queue = _on_the_engine(Client.pause_queue)
resume_queue = _on_the_engine(Client.resume_queue)
list_pending_inputs = _on_the_engine(Client.list_pending_inputs)
create_schedule = _on_the_engine(Client.create_schedule)
delete_schedule = _on_the_engine(Client.delete_schedule)
get_schedule = _on_the_engine(Client.get_schedule)
list_schedules = _on_the_engine(Client.list_schedules)
pause_schedule = _on_the_engine(Client.pause_schedule)
resume_schedule = _on_the_engine(Client.resume_schedule)
trigger_schedule = _on_the_engine(Client.trigger_schedule)
update_schedule = _on_the_engine(Client.update_schedule)
