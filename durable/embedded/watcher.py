"""The process between the application and the server. Run as a script, never imported; standard library only.

Owns: starting the server and stopping it when the application ends. It is its own process because a `kill -9`
gives the application no chance to do so, because the Linux parent-death signal fires when the starting *thread*
ends, and because code between fork and exec is safe only in a process with one thread.
Refuses: signalling anything but the child it started and has not yet reaped.

Standard input: end of file means stop (fast); the byte `q` means stop at once, without a checkpoint.
Standard output: nothing; every process of the server holds it, so its end of file tells that all of them are gone.
Standard error: the log of the server.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_PATIENCE = 30.0  # seconds that a fast shutdown may take before it becomes an immediate one


def main() -> int:
    plan: dict[str, Any] = json.loads(sys.argv[1])
    plan["alive"] = os.dup(1)
    wake, waker = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)
    if plan["initdb"]:
        if _run(plan["initdb"], plan, wake) != 0:
            return 1
        # The name `data` appears only when everything below it is complete and on disk.
        os.rename(*plan["rename"])
        folder = os.open(os.path.dirname(plan["rename"][1]), os.O_RDONLY)
        os.fsync(folder)
    return _run(plan["postgres"], plan, wake)


_asked: list[int] = []


def _note(number: int, frame: object) -> None:
    if number != signal.SIGCHLD:
        _asked.append(number)


def _run(command: list[str], plan: dict[str, Any], wake: int) -> int:
    """Run one program to its end, or until a stop is asked for."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        cwd="/",
        pass_fds=[plan["lock"], plan["alive"]],
        preexec_fn=_die_with_parent(),
        **plan["account"],
    )
    stopping: float | None = None
    while child.poll() is None:
        inputs = [wake] if stopping is not None else [wake, 0]
        ready = select.select(inputs, [], [], None if stopping is None else 1.0)[0]
        if wake in ready:
            os.read(wake, 1024)
        if stopping is None and (0 in ready or _asked):
            stopping = time.monotonic()
            at_once = 0 in ready and os.read(0, 1) == b"q"
            child.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        elif stopping is not None and time.monotonic() - stopping > _PATIENCE:
            stopping = time.monotonic()
            child.send_signal(signal.SIGQUIT)
    return 1 if stopping is not None else child.returncode


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux: what makes the kernel stop the server when this process is killed. Runs after the change of user,
    which would undo it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes
    except ImportError:
        return None
    library = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        library.prctl(1, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


if __name__ == "__main__":
    sys.exit(main())
