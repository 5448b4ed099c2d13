"""Faults planted on purpose, by name: what proves that the simulation would see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from durable.runtime.auditor import Auditor
from durable.runtime.supervisor import Supervisor
from durable.store.group_commit import Write
from durable.store.queries import load
from tests.simulation.store import STATEMENTS, Claim, Store

Plant = Callable[[ExitStack], None]


def _no_fence(stack: ExitStack) -> None:
    def held(self: Store, execution_id: Any, token: Any) -> Claim | None:
        return self.tables.claims.get(execution_id)

    stack.enter_context(mock.patch.object(Store, "held", held))


def _no_audit(stack: ExitStack) -> None:
    async def audit(self: Auditor) -> None:
        pass

    stack.enter_context(mock.patch.object(Auditor, "_audit", audit))


def _lapse_unseen(stack: ExitStack) -> None:
    stack.enter_context(mock.patch.object(Supervisor, "_stop_everything"))
    stack.enter_context(mock.patch.object(Supervisor, "may_begin"))


def _no_polls(stack: ExitStack) -> None:
    stack.enter_context(mock.patch.object(Supervisor, "_poll_seconds", return_value=1e9))
    stack.enter_context(mock.patch.object(Supervisor, "look_everywhere"))


def _early_timers(stack: ExitStack) -> None:
    read = STATEMENTS["journal/read"]
    place = [name for name, _ in load("journal/read").columns].index("run_in")

    def early(store: Store, *arguments: Any) -> list[Any]:
        rows = read(store, *arguments)
        return [(*r[:place], r[place] and r[place] - 0.1, *r[place + 1 :]) for r in rows]

    fire = STATEMENTS["wake/fire"]

    def earlier(store: Store, *arguments: Any) -> list[Any]:
        for wake in store.tables.wakes.values():
            wake.due_at -= 0.05 if wake.due_at < math.inf else 0.0
        return fire(store, *arguments)

    stack.enter_context(mock.patch.dict(STATEMENTS, {"journal/read": early, "wake/fire": earlier}))


def _resolve_before_commit(stack: ExitStack) -> None:
    made = Write.__init__

    def resolved(self: Write, *arguments: Any) -> None:
        made(self, *arguments)
        if len(self.row) == 13:  # a plain record
            self.done.set_result([1])  # type: ignore[arg-type]

    stack.enter_context(mock.patch.object(Write, "__init__", resolved))


def _slots_lost(stack: ExitStack) -> None:
    unreserve = Supervisor.unreserve

    def lossy(self: Supervisor, queue: str) -> None:
        if self._loop.time() % 1 > 0.1:
            unreserve(self, queue)

    stack.enter_context(mock.patch.object(Supervisor, "unreserve", lossy))


PLANTS: dict[str, Plant] = {
    "no fence": _no_fence,
    "no audit": _no_audit,
    "a lapse that nobody sees": _lapse_unseen,
    "no polls": _no_polls,
    "early timers": _early_timers,
    "acknowledged before the commit": _resolve_before_commit,
    "slots lost": _slots_lost,
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """While inside, the fault of this *name* is there."""
    with ExitStack() as stack:
        if name is not None:
            PLANTS[name](stack)
        yield
