"""Strands: what runs at the same time within one execution, and what it means when nothing of it can go on.

A strand is a sequence of nodes in a task of its own. While another one is busy, a strand that has to wait sleeps where it
is; when all of them wait, the execution lets go of its slot, and all end with `Blocked`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from durable.engine.journal import Record
from durable.errors import ClaimLost, Interruption, StoreUnavailable
from durable.model.failure import Failure

IN_PLACE = 0.25  # seconds; for so short a pause it is not worth giving up the slot and claiming it again

_NOT_OURS = (ClaimLost, StoreUnavailable)  # nothing can be written any more, so nothing needs to be waited for


class NodeFailed(Exception):
    """A node has failed for good. `records` say so, the innermost first, and are not durable yet."""

    def __init__(self, failure: Failure, *records: Record) -> None:
        super().__init__(failure)
        self.failure = failure
        self.records = list(records)


class Strand:
    """What runs in sequence. `item` is what the steps of a foreach get besides the data. `pending` are records that go out with
    the next write. `silent` tells whether the last node returned nothing. `closed`: a sibling has failed for all."""

    __slots__ = ("closed", "item", "parent", "pending", "silent", "task")

    def __init__(self, parent: Strand | None = None, item: tuple[str, int] | None = None) -> None:
        self.parent = parent
        self.item = item
        self.task: asyncio.Task[Any] | None = None
        self.pending: list[Record] = []
        self.silent = True
        self.closed = False

    @property
    def over(self) -> bool:
        """Whether what this strand does is not wanted any more."""
        strand: Strand | None = self
        while strand is not None:
            if strand.closed:
                return True
            strand = strand.parent
        return False


class Activity:
    """How many strands of an execution are busy, and how those are told to end that only wait."""

    __slots__ = ("_busy", "_waiting")

    def __init__(self) -> None:
        self._busy = 1
        self._waiting: dict[Callable[[], None], None] = {}  # in the order in which they began to wait

    def rest(self, let_go: Callable[[], None] | None = None) -> None:
        """A strand is busy no more. If it only waits, *let_go* tells it to end once all others do so, too, or have ended."""
        if let_go is not None:
            self._waiting[let_go] = None
        self._busy -= 1
        if not self._busy:
            waiting, self._waiting = self._waiting, {}
            for end in waiting:
                self._busy += 1
                end()

    def wake(self, let_go: Callable[[], None]) -> None:
        """A strand that waits is busy again, unless it was told to end: then it is already."""
        if let_go in self._waiting:
            del self._waiting[let_go]
            self._busy += 1

    async def sleep(self, pause: Coroutine[Any, Any, None], seconds: float) -> float | None:
        """Sleep until *pause* is over; then None. What is left of *seconds*, when all the others wait or have ended."""
        began = time.monotonic()
        awake: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def let_go() -> None:
            if not awake.done():
                awake.set_result(False)

        def rested(_: object) -> None:
            self.wake(let_go)
            if not awake.done():
                awake.set_result(True)

        timer = asyncio.ensure_future(pause)
        timer.add_done_callback(rested)
        self.rest(let_go)
        try:
            return None if await awake else max(seconds - (time.monotonic() - began), 0.0)
        except asyncio.CancelledError:
            self.wake(let_go)  # the strand is about to end, and counts itself out
            raise
        finally:
            timer.cancel()

    async def run(
        self,
        parent: Strand,
        count: int,
        work: Callable[[int, Strand], Awaitable[None]],
        stopping: Callable[[], bool],
    ) -> None:
        """Run *work* in *count* strands, by number, until all have ended.

        Raises `NodeFailed` when one failed for all: the others are cancelled. Any `Interruption` lets those that are busy
        come to the end of what they do first.
        """
        group = Strand(parent)
        halted: list[Interruption] = []
        errors: list[BaseException] = []
        rested = 0
        stopped = False  # a strand was cancelled from outside, which the parent may have heard of before
        self._busy += count - 1  # the parent sleeps meanwhile, and its place is taken by the last one that ends

        def close(error: BaseException) -> None:
            errors.append(error)
            group.closed = True  # before the others are cancelled: they are to know why
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()

        async def strand(number: int) -> None:
            nonlocal rested, stopped
            child = Strand(group, parent.item)
            child.task = asyncio.current_task()
            try:
                await work(number, child)
            except Interruption as stop:
                if isinstance(stop, _NOT_OURS):
                    close(stop)
                else:
                    halted.append(stop)
            except asyncio.CancelledError as cancelled:
                if not child.over:
                    if stopping():
                        stopped = True
                    else:
                        close(cancelled)
            except BaseException as error:
                close(error)
                if not isinstance(error, Exception):
                    raise
            finally:
                # In a closed group all are about to end: that the rest sleeps must not make others let go.
                if not group.closed and rested < count - 1:
                    rested += 1
                    self.rest()

        tasks: list[asyncio.Task[None]] = []
        # No strand raises into the group, unless the process ends: what a failure means is decided here.
        async with asyncio.TaskGroup() as together:
            tasks.extend(together.create_task(strand(number)) for number in range(count))
            cancelled = await _ended(tasks)
        self._busy -= count - 1 - rested
        if cancelled or stopped or parent.over:
            raise asyncio.CancelledError
        if errors:
            raise _worst(errors) from None
        if halted:
            raise halted[0]


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> bool:
    """Wait until all have ended. Whether that was cancelled: they are cancelled then, and waited for all the same.

    Each time anew, which a TaskGroup does only once: who was ended by a sibling and is still writing has to hear of it when the
    execution is stopped.
    """
    cancelled, left = False, set(tasks)
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError:
            cancelled = True
            for task in left:
                task.cancel()
    return cancelled


def _worst(errors: list[BaseException]) -> BaseException:
    """What several strands raised, as one: what is not the author's doing goes first, else the first failure, which takes
    along what the others have to record."""
    failures = [error for error in errors if isinstance(error, NodeFailed)]
    others = [error for error in errors if not isinstance(error, NodeFailed)]
    if others:
        return next((error for error in others if isinstance(error, _NOT_OURS)), others[0])
    first = failures[0]
    for failure in failures[1:]:
        first.records[:0] = failure.records
    return first
