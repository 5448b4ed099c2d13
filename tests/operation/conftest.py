"""Fixtures of the fault tests, for tests of whole installations."""

from tests.faults.conftest import client, crew, invariants, ledger

__all__ = ["client", "crew", "invariants", "ledger"]
