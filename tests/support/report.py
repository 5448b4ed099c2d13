"""The child's side of `processes`: a program under test tells its test what it has reached.

Owns: the form of a message, one line "@" + JSON on standard output. Imports nothing of ours, so that a program may
speak before `durable` is imported.
"""

from __future__ import annotations

import json
import os
import sys
import threading

_lock = threading.Lock()


def say(kind: str, **fields: object) -> None:
    """Send the test a message of this *kind*; it has left the process when the call returns.

    *fields* must be JSON. Any thread may call it. A message of up to 4,096 bytes is never torn, not even by
    SIGKILL; a longer one that is torn counts as output. Raises TypeError or ValueError for what JSON cannot say.
    """
    line = f"@{json.dumps({'kind': kind, **fields}, allow_nan=False)}\n".encode()
    with _lock:
        sys.stdout.flush()
        while line:
            line = line[os.write(1, line) :]
