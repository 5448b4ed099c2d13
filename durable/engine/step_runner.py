"""One attempt of one step: decode the data, call the body under its timeout, encode the result.

Owns what can go wrong inside an attempt and nothing of what follows from it: retries are the interpreter's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any

from anyio import CapacityLimiter, to_process

from durable.codec import Codec
from durable.engine.child import in_child
from durable.engine.context import CURRENT, Context
from durable.errors import DecodeError, EncodeError, Interruption, NonRetryable, StepTimeout
from durable.model.definition import Step


def _always() -> None:
    """Nothing keeps it from beginning."""


def _begin(may_begin: Callable[[], None]) -> None:
    try:
        may_begin()
    except Interruption as reason:
        raise NotBegun(reason) from reason


class NotBegun(Exception):
    """The body was not called, because by the time it had its thread or process it might not begin any more."""

    def __init__(self, reason: Interruption) -> None:
        super().__init__(reason)
        self.reason = reason


class StepRunner:
    """Runs step bodies: on the loop, in threads of its own, or in worker processes.

    *threads* and *processes* bound how many plain functions run at once; more wait for their turn.
    """

    def __init__(self, codec: Codec, *, threads: int = 40, processes: int = 2) -> None:
        self.codec = codec
        self._threads = threads
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._thread_slots = asyncio.Semaphore(threads)
        self._process_slots = asyncio.Semaphore(processes)

    async def attempt(
        self, step: Step, data: str, context: Context, may_begin: Callable[[], None] = _always
    ) -> str | None:
        """Run the body once on *data*; returns the encoded result, None for None. *may_begin* is asked once more after a
        wait for a thread or process.

        Raises `NotBegun` when that raises an `Interruption`, whatever the body raises, `StepTimeout`, or `NonRetryable` when
        data or result do not fit their types. If cancelled, the body is cancelled; a body in a thread is told so and waited
        for, a worker process is killed.
        """
        signature = step.signature
        values: tuple[Any, ...] = ()
        if signature.positional:
            try:
                values = (self.codec.decode(data, signature.input_type),)
            except DecodeError as error:
                raise NonRetryable(f"the data does not fit what step {step.name!r} takes: {error}") from error
        arguments, keywords = signature.arguments(values, context)
        # Each body has a copy of the context variables: one that sets some must not be felt by the next step, which after a
        # crash would not feel it.
        variables = contextvars.copy_context()
        variables.run(CURRENT.set, context)
        try:
            result = await self._call(step, arguments, keywords, context, variables, may_begin)
        except (asyncio.CancelledError, StepTimeout):
            context.mark_cancelled()  # for threads that the body has started
            raise
        if result is None:
            return None
        try:
            return self.codec.encode(result, signature.output_type)
        except EncodeError as error:
            raise NonRetryable(f"the result of step {step.name!r} cannot be stored: {error}") from error

    async def _call(
        self,
        step: Step,
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        context: Context,
        variables: contextvars.Context,
        may_begin: Callable[[], None],
    ) -> Any:
        match step.runs_in:
            case "loop":
                body = _with_variables(variables, step.function(*arguments, **keywords))
                return await (body if step.timeout is None else _within(step, body))
            case "thread":
                call = functools.partial(variables.run, _without_stop_iteration, step.function, *arguments, **keywords)
                async with self._thread_slots:  # a step's time begins when it has its slot
                    _begin(may_begin)
                    return await _within(step, self._in_thread(call, context))
            case "process":
                call = functools.partial(in_child, step.function, tuple(arguments), keywords, context)
                async with self._process_slots:
                    _begin(may_begin)
                    # A limiter of its own: the slot is held already.
                    running = to_process.run_sync(call, cancellable=True, limiter=CapacityLimiter(1))
                    return await _within(step, running)

    async def _in_thread(self, call: Callable[[], Any], context: Context) -> Any:
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="durable-step")
        running = self._pool.submit(call)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            context.mark_cancelled()
            if running.cancel():
                raise
            # The thread cannot be stopped. Its slot, and the step, stay occupied until it returns, so that the body never
            # overlaps its own next attempt. What it has done all the same is not thrown away; an error is, for it may come
            # of being told to stop.
            await _outlast(running)
            if running.exception() is not None:
                raise
            return running.result()

    def close(self) -> None:
        """Let the threads go. One that still runs ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


async def _within(step: Step, body: Awaitable[Any]) -> Any:
    """Await *body* for as long as the step's timeout allows."""
    if step.timeout is None:
        return await body
    limit = asyncio.timeout(step.timeout.total_seconds())
    result = None
    try:
        async with limit:
            result = await body
    except Exception as error:
        if not limit.expired():
            raise  # the body's own, TimeoutError included
        raise _timed_out(step) from error
    if limit.expired():  # the body swallowed its cancellation: what it returned came too late all the same
        raise _timed_out(step)
    return result


def _timed_out(step: Step) -> StepTimeout:
    return StepTimeout(f"step {step.name!r} ran longer than its timeout of {step.timeout}")


@types.coroutine
def _with_variables(variables: contextvars.Context, body: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await *body* in the task that awaits it, but with context variables of its own: a task for each step costs more."""
    resume: Callable[[Any], Any] = body.send
    argument: Any = None
    while True:
        try:
            awaited = variables.run(resume, argument)
        except StopIteration as returned:
            return returned.value
        try:
            argument = yield awaited
            resume = body.send
        except BaseException as error:
            resume, argument = body.throw, error


def _without_stop_iteration(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    try:
        return function(*arguments, **keywords)
    except StopIteration as error:  # a future refuses it, and whoever awaits that one would wait for ever
        raise RuntimeError("the body raised StopIteration") from error


async def _outlast(running: concurrent.futures.Future[Any]) -> None:
    """Wait until a thread returns, however often this task is cancelled meanwhile."""
    returned = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(returned.set)

    running.add_done_callback(wake)
    while not returned.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await returned.wait()
