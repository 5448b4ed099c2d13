"""What the file of a peer shares with the harness: roles, messages, and the loops that are timed.

The harness runs `python -m benchmarks.peers.NAME ROLE --dsn ...` in the environment of the peer; the role says its result in
one line of JSON. Owns: everything that is timed the same way for all. Imports the standard library only, because the
environments of the peers have nothing else in common.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.process import resident
from tests.support.report import say

PAUSE = 0.02  # seconds before each sample of a latency: whatever the last one set in motion has come to rest
WARM_UP = 10  # samples that are not counted
SETTLING = 1.0  # seconds before memory is weighed
FAN = 1_000  # steps of one execution that fans out


@dataclass(frozen=True, slots=True)
class Options:
    """What a role is told."""

    dsn: str
    count: int
    """How many executions, starts, samples."""
    steps: int
    """How many steps each execution has."""
    starters: int
    """How many starts are under way at the same time."""
    gate: str
    """A file: a worker begins when it is there."""
    idle: bool
    """Whether a worker has to be quick on an idle system; else it has to empty a full queue."""


Role = Callable[[Options], Any]


def main(roles: Mapping[str, Role], run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run) -> None:
    """Do the role that the command line names, and say its result. *run* runs the roles that are coroutines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=roles)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--starters", type=int, default=1)
    parser.add_argument("--gate", default="")
    parser.add_argument("--idle", action="store_true")
    given = vars(parser.parse_args())
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    result = roles[given.pop("role")](Options(**given))
    if asyncio.iscoroutine(result):
        result = run(result)
    say("result", value=result)


def _end_with(harness: int) -> None:
    """End this process once the harness is gone, however it went: a worker left behind would disturb whoever measures next."""
    while os.getppid() == harness:
        time.sleep(1)
    os._exit(1)


# --- Workers ----------------------------------------------------------------------------------------------------------


def await_gate(options: Options) -> None:
    """Say that everything is imported, and wait until all others are as far."""
    say("ready")
    while options.gate and not os.path.exists(options.gate):
        time.sleep(0.001)


def at_work() -> None:
    """Say that the worker waits for work."""
    say("working")


class Meter:
    """Counts in a worker, and tells the harness: when the first body began, and how many last steps were called.

    A thread tells it every ten milliseconds, which is the same price for everybody.
    """

    def __init__(self, count: int) -> None:
        self.began = 0.0
        self.count = 0
        self._expected = count
        self._news = threading.Event()
        self._start, self._lock = threading.Lock(), threading.Lock()

    def first(self) -> None:
        """A first step begins."""
        if not self.began and self._start.acquire(blocking=False):
            self.began = time.perf_counter()
            threading.Thread(target=self._tell, daemon=True).start()

    def last(self) -> None:
        """A last step begins."""
        with self._lock:  # a peer's bodies may run in threads
            self.count += 1
        if self.count >= self._expected:
            self._news.set()

    def _tell(self) -> None:
        told = 0
        while True:
            self._news.wait(0.01)
            if self.count != told:
                told = self.count
                say("called", count=told, began=self.began)
            elif self._news.is_set():
                time.sleep(0.01)


def body_began(number: int) -> None:
    """Say when the body of the execution *number* began, for the latency of the start alone."""
    say("body", number=number, at=time.perf_counter())


# --- Clients ----------------------------------------------------------------------------------------------------------


async def rate(options: Options, act: Callable[[], Awaitable[object]]) -> float:
    """Acts a second, `starters` of them at a time, after one of each starter that is not counted."""

    async def starter(count: int) -> None:
        for _ in range(count):
            await act()

    await asyncio.gather(*(starter(1) for _ in range(options.starters)))
    began = time.perf_counter()
    await asyncio.gather(*(starter(options.count // options.starters) for _ in range(options.starters)))
    return options.count // options.starters * options.starters / (time.perf_counter() - began)


def rate_in_threads(options: Options, act: Callable[[], object]) -> float:
    """The same of calls that block, in a thread for each starter."""

    def starter(count: int) -> None:
        for _ in range(count):
            act()

    with ThreadPoolExecutor(options.starters) as threads:
        list(threads.map(starter, [1] * options.starters))
        began = time.perf_counter()
        list(threads.map(starter, [options.count // options.starters] * options.starters))
        return options.count // options.starters * options.starters / (time.perf_counter() - began)


async def latencies(act: Callable[[int], Awaitable[object]], count: int) -> dict[str, list[float]]:
    """What `act(number)` takes, one at a time on an idle system, in seconds, and when each of them began."""
    samples: list[float] = []
    starts: list[float] = []
    for number in range(count + WARM_UP):
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        await act(number)
        samples.append(time.perf_counter() - began)
        starts.append(began)
    return {"samples": samples[WARM_UP:], "starts": starts}


def latencies_of_calls(act: Callable[[int], object], count: int) -> dict[str, list[float]]:
    """The same of calls that block; an idle event loop of its own costs them nothing."""

    async def call(number: int) -> None:
        act(number)

    return asyncio.run(latencies(call, count))


async def wakings(options: Options, sample: Callable[[int], Awaitable[float]]) -> list[float]:
    """What `sample(number)` returns, over and over: the seconds from an event to the next line of who waited for it."""
    return [await sample(number) for number in range(options.count + WARM_UP)][WARM_UP:]


async def grown(options: Options, sleep: Callable[[int], Awaitable[object]]) -> float:
    """By how many bytes this process grows for each of *count* executions that have gone to sleep.

    `sleep(total)` puts *count* more of them to sleep, and returns when all *total* are asleep. As many others went to sleep
    before, so that buffers and free lists have their size.
    """
    weights: list[int] = []
    for total in (options.count, 2 * options.count):
        await sleep(total)
        await asyncio.sleep(SETTLING)
        gc.collect()
        weights.append(resident())
    return (weights[1] - weights[0]) / options.count
