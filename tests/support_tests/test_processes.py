"""Programs as child processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Program, ProgramEnded

PARROT = "tests.support.programs.parrot"


async def test_a_program_runs_in_the_repository_with_its_arguments_and_environment() -> None:
    async with await Program.start(PARROT, "wait", 1, Path("/x"), env={"PARROT_COLOUR": "green"}) as program:
        message = await program.message("ready")
    assert message == {"kind": "ready", "args": ["1", "/x"], "cwd": str(ROOT), "colour": "green"}


async def test_a_program_told_to_terminate_says_so_and_its_status_is_returned() -> None:
    async with await Program.start(PARROT, "wait") as program:
        await program.message("ready")
        program.terminate()
        assert (await program.message("terminated"))["signal"] == signal.SIGTERM
        assert await program.wait() == 7


async def test_a_killed_program_says_nothing_more() -> None:
    async with await Program.start(PARROT, "wait") as program:
        await program.message("ready")
        program.kill()
        assert await program.wait() == -signal.SIGKILL
        with pytest.raises(ProgramEnded, match="exit status -9"):
            await program.message("terminated")


async def test_a_stopped_program_stands_still_until_it_may_go_on() -> None:
    async with await Program.start(PARROT, "wait") as program:
        await program.message("ready")
        program.stop()
        assert _state(program.pid) == "T"
        program.terminate()
        assert _state(program.pid) == "T"
        program.cont()
        await program.message("terminated")


async def test_a_stopped_program_does_not_outlive_its_test() -> None:
    async with await Program.start(PARROT, "wait") as program:
        await program.message("ready")
        program.stop()
    assert await program.wait() == -signal.SIGKILL


async def test_a_wait_that_times_out_shows_the_output_and_takes_nothing() -> None:
    async with await Program.start(PARROT, "wait") as program:
        await program.message("ready")
        with pytest.raises(TimeoutError, match=r"(?s)did not say \{'kind': 'news'\}.*some output that is no message"):
            await program.message("news", timeout=0.05)
        with pytest.raises(TimeoutError, match="still running"):
            await program.wait(timeout=0.05)
        assert await program.message("warming", timeout=0)


async def test_a_program_that_fails_is_reported_with_its_traceback() -> None:
    async with await Program.start(PARROT, "fail") as program:
        with pytest.raises(ProgramEnded) as failure:
            await program.message("never")
        assert await program.wait() == 1
        assert "ended without saying {'kind': 'never'}; exit status 1" in str(failure.value)
        assert "RuntimeError: the parrot is dead" in program.output


async def test_a_signal_to_a_program_that_has_ended_is_an_error_not_a_silence() -> None:
    async with await Program.start(PARROT, "fail") as program:
        await program.wait()
        for send in (program.kill, program.terminate, program.stop, program.cont):
            with pytest.raises(ProgramEnded, match="the parrot is dead"):
                send()


async def test_messages_of_many_threads_arrive_whole_and_are_taken_by_their_fields() -> None:
    async with await Program.start(PARROT, "crowd", 50) as program:
        for number in range(50):
            for speaker in (3, 1, 2, 0):
                message = await program.message("word", speaker=speaker)
                assert (message["number"], len(message["text"])) == (number, 2000)
        assert await program.wait() == 0


async def test_children_of_a_killed_program_do_not_outlive_the_test() -> None:
    async with await Program.start(PARROT, "parent") as program:
        child = (await program.message("ready"))["child"]
        program.kill()
        assert await program.wait() == -signal.SIGKILL
        assert _state(child) == "S"
    async with asyncio.timeout(30):
        while _state(child) not in ("gone", "Z"):  # noqa: ASYNC110 -- no signal tells of a grandchild's end
            await asyncio.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


if not os.path.exists("/proc/self/stat"):
    pytest.skip("these tests read the state of processes from /proc", allow_module_level=True)
