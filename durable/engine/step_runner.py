"""One attempt of one step: decode the data, call the body under its timeout, encode the result.

Owns what can go wrong inside an attempt and nothing of what follows from it: retries are the interpreter's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
from anyio import CapacityLimiter, to_process

from durable.codec import Codec
from durable.engine.child import in_child
from durable.engine.context import CURRENT, MAKER, WITHIN_CALL, Context
from durable.errors import DecodeError, EncodeError, Interruption, NonRetryable, StepTimeout
from durable.model.definition import UNANNOTATED, Decision, Rule, Signature, Step
from durable.model.results import Goto

if TYPE_CHECKING:
    from durable.engine.journal import Record

Item: TypeAlias = tuple[str, int]
"""An item of a foreach, as JSON text, and its index."""


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


class Reply(msgspec.Struct):
    """What a body has returned: its data as JSON text, None for None, and where to go on, if it returned a `Goto`."""

    value: str | None
    target: str | None = None


class Meter(Protocol):
    """Who counts attempts."""

    def attempted(self, workflow: str, step: str, outcome: str, seconds: float) -> None:
        """An attempt of a step has ended so."""
        ...


class Tracer(Protocol):
    """Who makes spans of attempts and waits."""

    def begin(self, context: Context) -> Any:
        """An attempt begins."""
        ...

    def attach(self, span: Any) -> None:
        """Make a span the current one, in the context variables that this is called in."""
        ...

    def end(self, span: Any, error: BaseException | None) -> None:
        """The attempt has ended."""
        ...

    def recorded(self, execution_id: str, record: Record) -> None:
        """An effect of a body was recorded: a wait has begun, or ended."""
        ...

    def slept(self, execution_id: str, record: Record) -> None:
        """A body goes on after a sleep, which *record* has promised: for the first time, or once more."""
        ...


class StepRunner:
    """Runs step bodies: on the loop, in threads of its own, or in worker processes.

    *threads* and *processes* bound how many plain functions run at once; more wait for their turn.
    """

    def __init__(self, codec: Codec, *, threads: int = 40, processes: int = 2) -> None:
        self.codec = codec
        self.capture = False  # whether what bodies log is kept
        self.meter: Meter | None = None
        self.tracer: Tracer | None = None
        self._threads = threads
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._thread_slots = asyncio.Semaphore(threads)
        self._process_slots = asyncio.Semaphore(processes)

    async def attempt(
        self,
        step: Step | Decision,
        data: str,
        context: Context,
        may_begin: Callable[[], None] = _always,
        item: Item | None = None,
    ) -> Reply:
        """Run the body once on *data*, and *item* within a foreach. *may_begin* is asked once more after a wait for a thread or
        process.

        Raises `NotBegun` when that raises an `Interruption`, whatever the body raises, `StepTimeout`, or `NonRetryable` when
        data or result do not fit their types. If cancelled, the body is cancelled; a body in a thread is told so and waited
        for, a worker process is killed.
        """
        signature = step.signature
        values: tuple[Any, ...] = ()
        if signature.positional:
            try:
                values = self.values(signature, data, item)
            except DecodeError as error:
                raise NonRetryable(f"the data does not fit what step {step.name!r} takes: {error}") from error
        arguments, keywords = signature.arguments(values, context)
        # Each body has a copy of the context variables: one that sets some must not be felt by the next step, which after a
        # crash would not feel it.
        variables = contextvars.copy_context()
        variables.run(CURRENT.set, context)
        if MAKER in variables:  # an execution may have been begun by the body of another one
            variables.run(MAKER.set, None)
        if WITHIN_CALL in variables:
            variables.run(WITHIN_CALL.set, None)
        span = None
        if self.tracer is not None:
            span = self.tracer.begin(context)
            variables.run(self.tracer.attach, span)
        try:
            result = await self._call(step, arguments, keywords, context, variables, may_begin)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | StepTimeout):
                context.mark_cancelled()  # for threads that the body has started
            if self.tracer is not None:
                self.tracer.end(span, error)
            raise
        if self.tracer is not None:
            self.tracer.end(span, None)
        if isinstance(result, Goto) and isinstance(step, Step):
            raise NonRetryable(f"step {step.name!r} returned a Goto. Only a decision may: make it one.")
        try:
            if isinstance(step, Step) and step.whole:
                return Reply(self.codec.encode(result, signature.output_type))
            return self.reply(result, signature.output_type)
        except EncodeError as error:
            raise NonRetryable(f"the result of step {step.name!r} cannot be stored: {error}") from error

    async def decide(self, rule: Rule, *values: Any) -> Any:
        """Call a function that decides about the flow, on the loop. Raises what it raises. If cancelled, it is cancelled."""
        variables = contextvars.copy_context()  # as for a body, see above
        said = variables.run(rule.function, *values[: rule.signature.positional])
        if inspect.iscoroutine(said):
            return await _with_variables(variables, said)
        return await said if inspect.isawaitable(said) else said

    async def call(self, function: Callable[..., Any], args: Sequence[Any], path: str, key: str) -> Any:
        """Call what the body at *path* wants to be called once, as the effect *key*. Raises what it raises. If cancelled, it is
        cancelled; a plain function, which is called in a thread, is waited for."""
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        call = functools.partial(contextvars.copy_context().run, _without_stop_iteration, function, *args)
        async with self._thread_slots:
            result = await self._in_thread(call, CURRENT.get())
        return await result if inspect.isawaitable(result) else result

    def reply(self, result: Any, kind: Any) -> Reply:
        """What a function of the author's has returned, as it is recorded. The data of a `Goto` is for another node, so that
        it need not be of *kind*. Raises `EncodeError`."""
        target = None
        if isinstance(result, Goto):
            target, result, kind = result.target, result.data, UNANNOTATED
        return Reply(None if result is None else self.codec.encode(result, kind), target)

    def values(self, signature: Signature, data: str, item: Item | None) -> tuple[Any, ...]:
        """The data arguments, as many as the function takes. Raises `DecodeError`."""
        value = self.codec.decode(data, signature.input_type)
        if item is None or signature.positional == 1:
            return (value,)
        text, index = item
        return (value, self.codec.decode(text, signature.item_type), index)

    async def _call(
        self,
        step: Step | Decision,
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        context: Context,
        variables: contextvars.Context,
        may_begin: Callable[[], None],
    ) -> Any:
        match step.runs_in:
            case "loop":
                body = _with_variables(variables, step.function(*arguments, **keywords))
                return await (body if step.timeout is None else _within(step, body, context))
            case "thread":
                call = functools.partial(variables.run, _without_stop_iteration, step.function, *arguments, **keywords)
                async with self._thread_slots:  # a step's time begins when it has its slot
                    _begin(may_begin)
                    return await _within(step, self._in_thread(call, context), context)
            case "process":
                call = functools.partial(in_child, step.function, tuple(arguments), keywords, context)
                async with self._process_slots:
                    _begin(may_begin)
                    # A limiter of its own: the slot is held already.
                    running = to_process.run_sync(call, cancellable=True, limiter=CapacityLimiter(1))
                    return await _within(step, running, context)

    async def _in_thread(self, call: Callable[[], Any], context: Context | None) -> Any:
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="durable-step")
        running = self._pool.submit(call)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            if context is not None:
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


async def _within(step: Step | Decision, body: Awaitable[Any], context: Context) -> Any:
    """Await *body* for as long as the step's timeout allows."""
    if step.timeout is None:
        return await body
    limit = asyncio.timeout(step.timeout.total_seconds())
    if context.body is not None:
        context.body.limit = limit
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


def _timed_out(step: Step | Decision) -> StepTimeout:
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
