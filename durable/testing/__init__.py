"""For tests of workflows: run them in memory, in virtual time, with mocks, and crash them at every record.

The fixtures for pytest, which have a real engine, are in `durable.testing.plugin`.
"""

from durable.testing.crash import crash_at, crash_everywhere
from durable.testing.memory import MemoryJournal, Run, run
from durable.testing.mocks import Mocks
from durable.testing.report import CrashReport, Point, Repeat

__all__ = ["CrashReport", "MemoryJournal", "Mocks", "Point", "Repeat", "Run", "crash_at", "crash_everywhere", "run"]
