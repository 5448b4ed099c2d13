"""A crew of worker processes: started, watched, started again when they crash, and drained together.

Owns the processes that it has started and no others. A worker ends by itself when whoever has started it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from durable.cli.output import Exit

BACKOFF_MIN = 1.0  # seconds
BACKOFF_MAX = 30.0
HEALTHY_SECONDS = 60.0  # after so long, a crash is the first one again
_GIVE_UP = (Exit.USAGE, Exit.NOT_FOUND)  # it would end in the same way however often it is started


@dataclass(slots=True)
class Post:
    """A place in the crew, and who stands there. `crashes` is how often in a row he has fallen."""

    number: int
    process: asyncio.subprocess.Process | None = None
    crashes: int = 0
    task: asyncio.Task[None] | None = None


@dataclass
class Crew:
    """Worker processes for *app*. *say* is told what happens to them. *queues* are served instead of the engine's own."""

    app: str
    count: int
    say: Callable[[str], None]
    queues: Mapping[str, int] | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    posts: list[Post] = field(default_factory=list[Post])
    given_up: Exit | None = None

    def __post_init__(self) -> None:
        self._stopping = False
        self._over = asyncio.Event()

    async def start(self) -> None:
        """Fill every post."""
        self._stopping, self.given_up = False, None
        self._over.clear()
        self.posts = [Post(number + 1) for number in range(self.count)]
        for post in self.posts:
            post.task = asyncio.create_task(self._keep(post))

    async def wait(self) -> None:
        """Wait until it is over: drained, or given up."""
        await self._over.wait()

    async def drain(self) -> None:
        """Ask all to drain, and wait until they have. Called again, or cancelled, they are killed."""
        again, self._stopping = self._stopping, True
        for post in self.posts:
            self._signal(post, signal.SIGKILL if again else signal.SIGTERM)
            if post.task is not None and post.process is None:
                post.task.cancel()  # it only waits to start somebody
        if again:
            return
        try:
            await asyncio.gather(*(post.task for post in self.posts if post.task is not None), return_exceptions=True)
        except asyncio.CancelledError:
            for post in self.posts:
                self._signal(post, signal.SIGKILL)
            raise
        self._over.set()

    def _signal(self, post: Post, number: signal.Signals) -> None:
        if post.process is not None and post.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                post.process.send_signal(number)

    async def _keep(self, post: Post) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            status = await self._run(post)
            post.process = None
            if self._stopping:
                return
            if status in _GIVE_UP:
                self.given_up = Exit(status)
                self._over.set()
                return
            post.crashes = 1 if loop.time() - began > HEALTHY_SECONDS else post.crashes + 1
            pause = min(BACKOFF_MIN * 2 ** (post.crashes - 1), BACKOFF_MAX)
            self.say(f"worker {post.number} {_ended(status)}; it is started again in {pause:.0f} s")
            await asyncio.sleep(pause)

    async def _run(self, post: Post) -> int:
        options = json.dumps({"app": self.app, "queues": self.queues, "number": post.number})
        post.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "durable.cli.member",
            options,
            stdin=asyncio.subprocess.PIPE,  # it ends when this pipe does
            env={**os.environ, **self.environment},
            start_new_session=True,  # a Ctrl-C in the terminal is for us, who ask it to drain
        )
        if self._stopping:
            self._signal(post, signal.SIGTERM)
        return await process.wait()


def _ended(status: int) -> str:
    if status >= 0:
        return f"has ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
