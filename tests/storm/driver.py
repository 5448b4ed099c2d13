"""Raises a storm: worker processes on one PostgreSQL, and executions that are started and spoken to while deeds befall them.

Owns: the client and the workers, and the account of what was acknowledged and who has died. Refuses to judge: see `judge`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from durable import (
    Durable,
    Every,
    ExecutionCancelled,
    ExecutionEnded,
    ExecutionFailed,
    Handle,
    NoPendingInput,
    StoreUnavailable,
    seconds,
)
from tests.engine.trees import payload_of
from tests.storm.deeds import Doer
from tests.storm.history import Acked, Frozen
from tests.storm.oracle import Expected, foretell
from tests.storm.program import Program, Start, pulse, queues
from tests.support.crew import Program as Process
from tests.support.postgres import DurableCluster
from tests.support.proxy import Proxy

T = TypeVar("T")

POSTS = 3
STARTING_SECONDS = 60  # for a post to build its workflows, on a busy machine
TERM_AGAIN = 3  # seconds until a worker that has not ended is told to once more
END_SECONDS = 90  # for all to end, when the storm is over
SPREAD = 1.5  # seconds over which is sent what an execution waits for
ASK_AGAIN = (0.1, 0.4)  # seconds until it is seen again whether a question was asked


@dataclass
class Post:
    """A place for a worker of one version of the code, which is filled again whenever that was killed."""

    number: int
    is_new: bool
    pid: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)  # its first worker is
    leaves: asyncio.Event = field(default_factory=asyncio.Event)  # it is to be given up


LEVELS = ("DEBUG:", "INFO:", "WARNING:", "ERROR:", "CRITICAL:")  # how a line begins that is logged


@dataclass
class Storm:
    """One storm. `problems` are faults that were seen at once: calls that raise what they may not, processes that end."""

    cluster: DurableCluster
    dsn: str  # of the database, past the proxy
    program: Program
    folder: Path
    in_flight: int
    figures: Counter[str] = field(default_factory=Counter[str])
    acked: list[Acked] = field(default_factory=list[Acked])
    frozen: list[Frozen] = field(default_factory=list[Frozen])
    frozen_at: list[tuple[int, float, float]] = field(default_factory=list[tuple[int, float, float]])
    deaths: dict[int, float] = field(default_factory=dict[int, float])
    starts: list[Start] = field(default_factory=list[Start])
    expected: dict[str, Expected] = field(default_factory=dict[str, Expected])
    problems: list[str] = field(default_factory=list[str])
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    end_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.workflows = self.program.workflows()
        self.posts: list[Post] = []
        self.proxies: list[Proxy] = []  # one for each post but the first, whose is the client's

    @property
    def bodies(self) -> Path:
        """Where workers note the bodies that begin and end."""
        return self.folder / f"bodies-{self.program.seed}"

    async def rage(self, duration: float) -> None:
        """Storm for so many seconds, then let all end."""
        self.bodies.touch()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(POSTS):
                self.proxies.append(await stack.enter_async_context(Proxy(self.dsn, own_thread=True)))
            workflows = [*self.program.others, *self.workflows]
            async with Durable(self.proxies[0].dsn, workflows=workflows, queues=queues(), worker=False) as self.client:
                schedule = await self.client.create_schedule(
                    "pulse", pulse, Every(seconds(1)), overlap="allow", catch_up="all"
                )
                async with asyncio.TaskGroup() as self._group:
                    self.posts += [self._open(number, is_new=False) for number in range(POSTS)]
                    for post in self.posts:
                        await asyncio.wait_for(post.ready.wait(), STARTING_SECONDS)
                    streams = [self._group.create_task(self._stream()) for _ in range(self.in_flight)]
                    await Doer(self).befall(duration)
                    self.over.set()
                    await self._let_it_fire()
                    await self._insist("pause_schedule", lambda: self.client.pause_schedule(schedule.name))
                    await self._end(streams)

    async def _end(self, streams: list[asyncio.Task[None]]) -> None:
        calm = time.monotonic()
        _, left = await asyncio.wait(streams, timeout=END_SECONDS)
        self.end_seconds = time.monotonic() - calm
        if left:
            self.problems += (f"a call hangs: {where}" for task in asyncio.all_tasks() if (where := _where(task)))
        for stream in left:  # the judge will say what has not ended
            stream.cancel()
        await self._let_pulses_end()
        self.ended.set()

    async def _let_it_fire(self) -> None:
        """A short storm may leave the schedule no time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS), self.direct() as connection:
                fired = "select exists (select from durable.execution where tags ? 'durable.scheduled_for')"
                while not await connection.fetchval(fired):  # noqa: ASYNC110 - another process does it
                    await asyncio.sleep(0.1)

    async def _let_pulses_end(self) -> None:
        """Nobody waits for what the schedule and other executions have started."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS), self.direct() as connection:
                left = "select exists (select from durable.execution where ended_at is null)"
                while await connection.fetchval(left):  # noqa: ASYNC110 - other processes end them
                    await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def direct(self) -> AsyncGenerator[asyncpg.Connection[Any]]:
        """A connection of ours, past the proxy."""
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    # --- Executions -----------------------------------------------------------------------------------------------

    async def _stream(self) -> None:
        while not self.over.is_set():
            number = len(self.starts)
            start = self.program.start(number)
            self.starts.append(start)
            try:
                await self._execution(start, random.Random(start.id))
            except Exception as error:
                self.problems.append(f"a call about {start.id} raised {error!r}")

    async def _execution(self, start: Start, rng: random.Random) -> None:
        workflow = self.workflows[start.index]
        expected = self.expected[start.id] = foretell(workflow, start.data, start.id)
        handle: Handle[Any] = await self._insist(
            "start", lambda: self.client.start(workflow, start.data, id=start.id, queue=start.queue)
        )
        self.acked.append(Acked("start", start.id, ""))
        deliver: dict[str, Callable[..., Awaitable[None]]]
        deliver = {"event": self._send, "input": self._answer, "emission": self._emit}
        async with asyncio.TaskGroup() as group:
            for kind, name in expected.awaited:
                later = self._later(rng.uniform(0, SPREAD), deliver[kind], start.id, name, rng)
                group.create_task(later, name=f"{kind} {name!r} to {start.id}")
            if start.cancel_after is not None:
                group.create_task(self._cancel(start, start.cancel_after), name=f"cancel to {start.id}")
            if start.pause_after is not None:
                group.create_task(self._pause(start, start.pause_after), name=f"pause of {start.id}")
            with contextlib.suppress(ExecutionFailed, ExecutionCancelled):
                await self._insist("result", handle.result)

    async def _insist(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call again *what* says that PostgreSQL was away for too long."""
        while True:
            try:
                return await call()
            except StoreUnavailable:
                self.figures[f"{what} told that PostgreSQL is away"] += 1

    async def _later(
        self, pause: float, deliver: Callable[..., Awaitable[None]], id: str, name: str, rng: random.Random
    ) -> None:
        await asyncio.sleep(pause)
        with contextlib.suppress(ExecutionEnded):  # chance has left out who was to wait for it
            await deliver(id, name, rng)

    async def _send(self, id: str, name: str, rng: random.Random) -> None:
        for _ in range(rng.choice((1, 1, 1, 2))):
            await self._insist(
                "send_event", lambda: self.client.send_event(id, name, payload_of(name), dedupe_key="once")
            )
        self.acked.append(Acked("event", id, name))

    async def _answer(self, id: str, name: str, rng: random.Random) -> None:
        while True:
            try:
                await self._insist(
                    "provide_input", lambda: self.client.provide_input(id, name, str(payload_of(name)), by="storm")
                )
            except NoPendingInput:
                await asyncio.sleep(rng.uniform(*ASK_AGAIN))
                if not await self._may_ask(id, name):
                    return
            else:
                self.acked.append(Acked("input", id, name))
                return

    async def _may_ask(self, id: str, name: str) -> bool:
        """Whether a question may still come, or be open. An answer whose reply was lost is taken for one that nobody gave."""
        execution = await self._insist("get_execution", lambda: self.client.get_execution(id, include_steps=True))
        asked = [question.status for question in execution.inputs if question.name == name]
        return not execution.status.ended and "answered" not in asked

    async def _cancel(self, start: Start, pause: float) -> None:
        await asyncio.sleep(pause)
        if await self._insist("cancel", lambda: self.client.cancel(start.id, "storm", compensate=start.undo)):
            self.acked.append(Acked("cancel", start.id, ""))
            self.figures["cancelled"] += 1

    async def _pause(self, start: Start, pause: float) -> None:
        await asyncio.sleep(pause)
        if await self._insist("pause", lambda: self.client.pause(start.id, by="storm")):
            self.figures["paused"] += 1
        await asyncio.sleep(start.pause_seconds)
        # Whatever it has said: the first try, whose reply was lost, may have paused it.
        await self._insist("resume", lambda: self.client.resume(start.id, by="storm"))

    async def _emit(self, id: str, name: str, rng: random.Random) -> None:
        await self._insist("emit", lambda: self.client.emit("emitted", {"who": name, "n": payload_of(name)}))
        self.acked.append(Acked("emission", id, name))

    # --- Workers --------------------------------------------------------------------------------------------------

    async def renew(self, number: int) -> None:
        """A post with the new code joins, and the one with the old leaves."""
        new = self._open(number, is_new=True)
        await asyncio.wait_for(new.ready.wait(), STARTING_SECONDS)
        self.posts[number].leaves.set()
        self.posts[number] = new
        self.figures["rolled"] += 1

    def _open(self, number: int, *, is_new: bool) -> Post:
        post = Post(number, is_new)
        self._group.create_task(self._keep(post))
        return post

    async def _keep(self, post: Post) -> None:
        options = {
            "dsn": self.proxies[post.number].dsn if post.number else self.dsn,
            "direct": self.dsn,
            "bodies": str(self.bodies),
            "seed": self.program.seed,
            "size": self.program.size,
            "post": post.number,
            "postscript": post.is_new,
        }
        async with await Process.start("tests.storm.worker", json.dumps(options)) as process:
            await self._fill(post, process)

    async def _fill(self, post: Post, process: Process) -> None:
        """Let workers live and die there, until it is to be given up or all is over."""
        while True:
            pid = (await process.message("born", STARTING_SECONDS))["pid"]
            post.pid = pid
            self.figures["workers"] += 1
            if not post.ready.is_set():
                await process.message("ready", STARTING_SECONDS, pid=pid)
                post.ready.set()
            end = asyncio.create_task(self._end_in_order(post, pid))
            try:
                died = await process.message("died", 1_000_000, pid=pid)
            finally:
                end.cancel()
                post.pid = 0
            self.deaths[pid] = time.monotonic()
            self._note_errors(process)
            if died["status"] != -signal.SIGKILL:
                if died["status"] not in (0, -signal.SIGTERM):
                    self.problems.append(f"a worker ended with status {died['status']}:\n{process.output[-3000:]}")
                return
            if self.ended.is_set() or post.leaves.is_set():
                return

    async def _end_in_order(self, post: Post, pid: int) -> None:
        """SIGTERM, when all is over or the post is given up; again and again: one that opens and fails in that forgets it."""
        waits = [asyncio.create_task(event.wait()) for event in (self.ended, post.leaves)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, signal.SIGTERM)
                await asyncio.sleep(TERM_AGAIN)

    def _note_errors(self, process: Process) -> None:
        self.problems += _errors(process.output)


def _where(task: asyncio.Task[Any]) -> str:
    """What a task of ours that delivers something has come to; empty for others."""
    if not task.get_name().startswith(("event ", "input ", "emission ", "cancel ")):
        return ""
    waits, places = task.get_coro(), list[str]()
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        waits = waits.cr_await  # type: ignore[union-attr]
    return f"{task.get_name()}, in {' > '.join(places)}, waits for {waits!r}"


def _errors(output: str) -> Iterator[str]:
    """What a process has logged as an error, each with its traceback: the lines up to the next that is logged."""
    error: list[str] = []
    for line in (line.removeprefix("err| ") for line in output.splitlines() if line.startswith("err| ")):
        if line.startswith(LEVELS):
            yield from filter(None, ["\n".join(error)])
            error = [line] if line.startswith("ERROR:") else []
        elif error:
            error.append(line)
    yield from filter(None, ["\n".join(error)])
