"""Python's cyclic garbage collector, in a process that is a worker and nothing else.

An execution in flight is some fifty objects that live until it has ended. By default the collector looks through the young
ones after every 700 new ones, finds nearly all of them alive, and takes a fifth of the processor for it.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator

YOUNG_OBJECTS = 20_000  # of a few hundred bytes: some megabytes may wait to be collected


@contextlib.contextmanager
def patient_collector() -> Generator[None]:
    """Let it look less often, and not at all at what is there by now (code, modules). A process that has set it to look even
    more seldom, or not to, keeps that."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    if 0 < before[0] < YOUNG_OBJECTS:
        gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
