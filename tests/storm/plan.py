"""What befalls a storm, and when: drawn from a seed, before anything begins."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

LEASE = 2.0  # seconds; what is to be taken for dead is silent for longer
KINDS = {
    "kill": 5,  # SIGKILL
    "freeze": 3,  # SIGSTOP for longer than the lease, then SIGCONT
    "restart": 1,  # PostgreSQL is stopped at once, and started again
    "terminate": 2,  # some of its backends are ended
    "sever": 2,  # connections through the proxy are cut
    "half-open": 2,  # they are open, and nothing arrives, until the network heals
    "partition": 4,  # that, and no new ones are let in, for longer than the lease; then all that was sent arrives
    "late": 3,  # the same, at the moment when a record was sent: it arrives when all is over
    "refuse": 1,  # they are cut, and no new ones are let in for a while
    "lose": 4,  # replies to COMMIT are lost after it
    "cut": 2,  # connections are cut instead of sending a COMMIT
    "slow": 1,  # every statement takes its time
    "deaf": 1,  # notifications are dropped
}
SECONDS = {
    "freeze": (1.3 * LEASE, 2 * LEASE),
    "restart": (0.0, 1.5),
    "half-open": (0.5, 2 * LEASE),
    "partition": (1.3 * LEASE, 2.5 * LEASE),
    "late": (1.3 * LEASE, 2.5 * LEASE),
    "refuse": (0.2, 2.0),
    "slow": (1.0, 3.0),
    "deaf": (1.0, 3.0),
}
PAUSE = 0.8  # seconds between two deeds, on average
SKEWS = (-7 * 3600, 0, 5 * 3600)  # seconds by which the clock of a worker process is wrong
ROLL = (0.35, 0.5, 0.65)  # when posts get the new code, as shares of the storm


@dataclass(frozen=True)
class Deed:
    """What is done `at` seconds after the beginning, to the worker of a `post` where it is one, for so many `seconds`; `share`
    is of backends, or of three strikes."""

    at: float
    kind: str
    post: int
    seconds: float
    share: float


def deeds(seed: int, seconds: float, posts: int) -> Iterator[Deed]:
    """The deeds of a storm of so many *seconds*, in order."""
    rng = random.Random(f"deeds {seed}")
    at = rng.expovariate(1 / PAUSE)
    while at < seconds:
        kind = rng.choices([*KINDS], [*KINDS.values()])[0]
        least, most = SECONDS.get(kind, (0.0, 0.0))
        yield Deed(at, kind, rng.randrange(posts), rng.uniform(least, most), rng.random())
        at += rng.expovariate(1 / PAUSE)


def skew(seed: int, post: int, life: int) -> int:
    """By how many seconds the clock is wrong of the worker that is the *life*-th of its *post*."""
    return random.Random(f"skew {seed} {post} {life}").choice(SKEWS)
