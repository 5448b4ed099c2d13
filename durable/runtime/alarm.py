"""When a loop of ours is to look again: at an instant, which may be brought forward while it sleeps."""

from __future__ import annotations

import asyncio


class Alarm:
    """Sleeps until the earliest instant that it was set to. One task sleeps; others bring it forward."""

    def __init__(self) -> None:
        self._forward = asyncio.Event()
        self._at = 0.0  # on the loop's clock

    def consider(self, delay: float) -> None:
        """There is something to do in *delay* seconds."""
        at = asyncio.get_running_loop().time() + delay
        if at < self._at:
            self._at = at
            self._forward.set()

    def set(self, delay: float) -> None:
        """There is nothing to do for *delay* seconds, as far as is known: what is considered from now on may be sooner."""
        self._forward.clear()
        self._at = asyncio.get_running_loop().time() + delay

    async def sleep(self) -> None:
        """Return when the time has come."""
        loop = asyncio.get_running_loop()
        while (remaining := self._at - loop.time()) > 0:
            self._forward.clear()
            try:
                async with asyncio.timeout(remaining):
                    await self._forward.wait()
            except TimeoutError:
                break
