"""For tests of workflows: run them in memory, in virtual time, and crash them at every record."""

from durable.testing.crash import CrashReport, Repeat, crash_everywhere
from durable.testing.memory import MemoryJournal, Run, run

__all__ = ["CrashReport", "MemoryJournal", "Repeat", "Run", "crash_everywhere", "run"]
