"""Claims as rows: what a worker takes, writes under its token, and gives back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from durable.store.connection import Link, Row
from durable.store.group_commit import Kind
from durable.store.queries import load

PAGE_ROWS = 2_000  # journal rows read at once: bounded memory for one message
NOWHERE = UUID(int=0)


def recording(worker_id: UUID) -> Kind:
    """The write that appends to a journal."""
    return Kind(load("journal/record"), worker_id)


def finishing(worker_id: UUID, sources: list[str]) -> Kind:
    """The write that ends executions."""
    return Kind(load("execution/finish"), worker_id, sources)


def suspending(worker_id: UUID, sources: list[str]) -> Kind:
    """The write that puts executions to sleep."""
    return Kind(load("execution/suspend"), worker_id, sources)


def releasing() -> Kind:
    """The write that gives claims back."""
    return Kind(load("claim/release"))


async def take(
    link: Link, owner: UUID, token: UUID, wants: dict[str, int], shapes: Sequence[int], suspects: int, *, again: bool
) -> list[Row]:
    """Claim ready executions. *again* asks first what an earlier call with this token took, whose reply was lost."""
    if again:
        found = await link.fetch(load("claim/find_taken"), owner, token)
        if found:
            return found
    return await link.fetch(load("claim/take"), owner, token, list(wants), list(wants.values()), shapes, suspects)


async def read_journals(link: Link, execution_ids: Iterable[UUID]) -> dict[UUID, list[Row]]:
    """The journals of several executions, each in order."""
    ids = sorted(execution_ids)
    journals: dict[UUID, list[Row]] = {execution_id: [] for execution_id in ids}
    after, seq = NOWHERE, 0
    while True:
        page = await link.fetch_surely(load("journal/read"), ids, after, seq, PAGE_ROWS)
        for row in page:
            journals[row["execution_id"]].append(row)
        if len(page) < PAGE_ROWS:
            return journals
        after, seq = page[-1]["execution_id"], page[-1]["seq"]
