"""A post for workers: it forks one and, whenever that is killed, the next. To build and check many workflows takes longer than
the life of many workers, and is done once here.

It says `born` with the worker's pid, and `died` with its pid and status. When one ends otherwise than by SIGKILL, so does it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable

from tests.support.report import say


def hold(work: Callable[[int], None]) -> None:
    """Call *work* in one process after the other, with the number of the life, from 0."""
    for life in itertools.count():
        pid = os.fork()
        if pid == 0:
            work(life)
            return
        say("born", pid=pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        say("died", pid=pid, status=status)
        if status != -signal.SIGKILL:
            sys.exit(status)
