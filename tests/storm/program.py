"""What a storm runs: workflows drawn from a seed, the same in every process, and the executions that are started of them."""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durable import Queue, Rate, Workflow, seconds
from tests.engine.trees import CHILDREN, EMITTED, INPUT, Data, Log, Tell, function, tree

FAR = timedelta(seconds=0.4)  # long enough to give up the slot
TENANTS = 3
GLOBALLY, PER_KEY, RATE, RATE_SECONDS = 3, 1, 15, 1.0
CANCELLED = 0.1  # the share of executions that are cancelled, or would be if they had not ended
PAUSED = 0.15  # the share of executions that are paused, likewise
PAUSE_SECONDS = 3.0  # at most
CANCEL_WITHIN = 2.0  # seconds
QUEUES = ("default", "default", "default", "default", "narrow", "rated", "keyed")

pulse = Workflow[Any, Any]("pulse")


@pulse.step
async def beat() -> None:
    """What a schedule starts every second."""


def queues() -> Mapping[str, int | Queue]:
    """One without limits, and one for each kind of limit."""
    return {
        "default": 40,
        "narrow": Queue(concurrency=10, global_concurrency=GLOBALLY),
        "rated": Queue(concurrency=10, rate=Rate(RATE, per=seconds(RATE_SECONDS))),
        "keyed": Queue(concurrency=10, key=operator.itemgetter("tenant"), per_key=PER_KEY),
    }


@dataclass(frozen=True)
class Start:
    """One execution: the number of its workflow, how it is started, and when it is cancelled, in seconds after that, if it
    still runs, and whether it is to be undone then; when it is paused, and for how long."""

    id: str
    index: int
    data: Data
    queue: str
    cancel_after: float | None = None
    undo: bool = False
    pause_after: float | None = None
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Program:
    """So many workflows of a seed. One in four is code-first, and of the trees two in three wait."""

    seed: int
    size: int

    def workflows(
        self, *, postscript: bool = False, log: Log | None = None, slept: Tell | None = None
    ) -> list[Workflow[Any, Any]]:
        """Those that are drawn. With *postscript*, the trees are in a new version of the code; see `tree`."""
        rng = random.Random(f"program {self.seed}")
        drawn: list[Workflow[Any, Any]] = []
        for index in range(self.size):
            seed = rng.randrange(2**31)
            if index % 4 == 3:
                drawn.append(function(seed, far=FAR, log=log, effects=EMITTED, slept=slept))
            else:
                waits = index % 4 > 0
                drawn.append(
                    tree(
                        seed,
                        far=FAR,
                        log=log,
                        waits=waits,
                        effects=EMITTED,
                        slept=slept,
                        postscript=postscript,
                        pays=True,
                    )
                )
        return drawn

    @property
    def others(self) -> list[Workflow[Any, Any]]:
        """What they call, and what the schedule starts."""
        return [*CHILDREN, pulse]

    def start(self, number: int) -> Start:
        """The execution of this *number*."""
        rng = random.Random(f"start {self.seed} {number}")
        data = {**INPUT, "tenant": f"tenant {rng.randrange(TENANTS)}"}
        queue = rng.choice(QUEUES)
        cancel_after = rng.uniform(0, CANCEL_WITHIN) if rng.random() < CANCELLED else None
        undo = rng.random() < 0.5
        pause_after = rng.uniform(0, CANCEL_WITHIN) if rng.random() < PAUSED else None
        pause = pause_after, rng.uniform(0, PAUSE_SECONDS)
        return Start(f"{self.seed}-{number}", number % self.size, data, queue, cancel_after, undo, *pause)
