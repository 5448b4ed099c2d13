"""Several worker programs of one test."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from tests.support.processes import Message, Program, ProgramEnded

NO_POLLING = {
    f"durable.{module}.POLL_{kind}": 3600.0 for module in ("runtime.supervisor", "app") for kind in ("HEALTHY", "DEAF")
}
"""For the worker's option `patch`: whatever happens then was pushed, not found by polling."""


class Crew:
    """Starts worker programs on *dsn* and ends them with the test. Use as an async context manager."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self, *, dsn: str | None = None, **options: Any) -> Program:
        """A worker that is ready; *options* are the program's."""
        program = await Program.start("tests.support.programs.worker", dsn or self.dsn, json.dumps(options))
        await self._stack.enter_async_context(program)
        await program.message("ready")
        return program

    async def start_two(self, **options: Any) -> tuple[Program, Program]:
        """Two workers that are ready."""
        first, second = await asyncio.gather(self.start(**options), self.start(**options))
        return first, second

    async def run_program(self, module: str, *args: object, **environment: str) -> Program:
        """Another program, which says `ready`."""
        program = await Program.start(module, *args, env=environment)
        await self._stack.enter_async_context(program)
        await program.message("ready")
        return program


async def first_to_say(programs: Sequence[Program], kind: str, timeout: float = 30, **fields: object) -> Program:
    """The program that says it first. Raises like `Program.message`."""
    waits = {asyncio.create_task(program.message(kind, timeout, **fields)): program for program in programs}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        heard = [wait for wait in done if wait.exception() is None]
        said = (heard or list(done))[0]
        said.result()
        return waits[said]
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


__all__ = ["NO_POLLING", "Crew", "Message", "Program", "ProgramEnded", "first_to_say"]
