"""Says what its tests need to hear: see `main`. Used by the tests of `Program`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from tests.support.report import say


def main(deed: str, *args: str) -> None:
    """Do one deed: `wait` for a signal, `fail`, `crowd` (many threads speak), or `parent` (a child that stays)."""
    match deed:
        case "wait":
            # Blocked and waited for: a handler would miss a signal that comes just before `signal.pause()`.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            say("warming")
            print("some output that is no message")
            say("ready", args=args, cwd=os.getcwd(), colour=os.environ.get("PARROT_COLOUR"))
            say("terminated", signal=signal.sigwait({signal.SIGTERM}))
            raise SystemExit(7)
        case "fail":
            say("ready")
            raise RuntimeError("the parrot is dead")
        case "crowd":
            speakers = [threading.Thread(target=_speak, args=(n, int(args[0]))) for n in range(4)]
            for speaker in speakers:
                speaker.start()
            for speaker in speakers:
                speaker.join()
        case "parent":
            child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            say("ready", child=child.pid)
            time.sleep(3600)
        case _:
            raise SystemExit(f"no such deed: {deed}")


def _speak(speaker: int, times: int) -> None:
    for number in range(times):
        say("word", speaker=speaker, number=number, text="x" * 2000)


if __name__ == "__main__":
    main(*sys.argv[1:])
