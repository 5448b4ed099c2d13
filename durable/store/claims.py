"""Claims as rows: what a worker takes, writes under its token, and gives back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict
from uuid import UUID

import msgspec

from durable.store.connection import Link, Named, Row
from durable.store.group_commit import Kind
from durable.store.queries import load

PAGE_ROWS = 2_000  # journal rows read at once: bounded memory for one reply
MESSAGES = 100  # the same for messages: many of them are as big as they may be
NOWHERE = UUID(int=0)


def recording(worker_id: UUID) -> Kind:
    """The write that appends to a journal."""
    return Kind(load("journal/record"), worker_id)


def recording_plainly(record: Kind) -> Kind:
    """The same for records that have nothing but a value, if anything, of executions without a crash since their last one."""
    return record.plain(load("journal/record_plain"), record.constants, otherwise=True)


def compacting(worker_id: UUID) -> Kind:
    """The write that appends to a journal and takes away what it makes superfluous."""
    return Kind(load("journal/compact"), worker_id)


def answering(worker_id: UUID) -> Kind:
    """The write that appends to a journal what waits were given, and consumes the messages that it came in."""
    return Kind(load("journal/answer"), worker_id)


def asking(worker_id: UUID) -> Kind:
    """The write that appends to a journal that people are asked, and puts the questions before them."""
    return Kind(load("input/ask"), worker_id)


def closing(worker_id: UUID) -> Kind:
    """The write that appends to a journal that nobody has answered in time."""
    return Kind(load("input/expire"), worker_id)


def bearing(worker_id: UUID) -> Kind:
    """The write that appends to a journal that a child is begun, and begins it."""
    return Kind(load("child/bear"), worker_id)


def giving_up(worker_id: UUID) -> Kind:
    """The write that appends to a journal that a child did not end in time, and dooms it."""
    return Kind(load("child/expire"), worker_id)


def continuing(worker_id: UUID) -> Kind:
    """The write that begins executions afresh."""
    return Kind(load("journal/continue"), worker_id)


def streaming() -> Kind:
    """The write that appends what bodies tell."""
    return Kind(load("stream/send"))


def subscribing(worker_id: UUID) -> Kind:
    """The write that appends to a journal that what is in events is waited for."""
    return Kind(load("emission/subscribe"), worker_id)


def unsubscribing(worker_id: UUID) -> Kind:
    """The write that appends to a journal that nothing of that was emitted in time."""
    return Kind(load("emission/expire"), worker_id)


def finishing(worker_id: UUID, sources: list[str]) -> Kind:
    """The write that ends executions which stand in one of *sources*."""
    return Kind(load("execution/finish"), worker_id, sources)


def finishing_plainly(finish: Kind) -> Kind:
    """The same for those that have completed, and leave nothing behind."""
    return finish.plain(load("execution/finish_plain"), finish.constants)


def suspending(worker_id: UUID, sources: list[str], status: str) -> Kind:
    """The write that puts executions to sleep which stand in one of *sources*; *status* is what they are called then."""
    return Kind(load("execution/suspend"), worker_id, sources, status)


def beginning_to_end(worker_id: UUID, sources: list[str]) -> Kind:
    """The write after which nothing is done any more but to end an execution that has failed."""
    return Kind(load("execution/begin_ending"), worker_id, sources)


def adopting() -> Kind:
    """The write that puts executions under the shape of changed code."""
    return Kind(load("execution/adopt"))


def holding() -> Kind:
    """The write that gives claims back for others than us."""
    return Kind(load("claim/hold"))


def releasing() -> Kind:
    """The write that gives claims back."""
    return Kind(load("claim/release"))


@dataclass(frozen=True, slots=True)
class Claimable:
    """The shapes that a worker may claim: those it can go on with, whatever was done already (`known`), all it may be able to
    go on with (`shapes`), and those of its own definitions (`own`)."""

    shapes: Sequence[int]
    known: Sequence[int]
    own: Sequence[int]


@dataclass(frozen=True, slots=True)
class Want:
    """How many executions of a queue are wanted, and whether among them may be such as are held."""

    count: int
    held: bool


async def find_taken(link: Link, owner: UUID, token: UUID) -> list[Row]:
    """What an earlier call with this token took, whose reply was lost."""
    return await link.fetch(load("claim/find_taken"), owner, token)


@dataclass(frozen=True, slots=True)
class PlainTake:
    """What was taken by the plain statement: `rows`; whether there is something `special`, which is to be had by `take`; and
    whether one of the queues is `limited`, so that nothing of it was taken."""

    rows: list[Row]
    special: bool
    limited: bool


async def take_plain(
    link: Link, owner: UUID, token: UUID, wants: Mapping[str, Want], claimable: Claimable, suspects: int
) -> PlainTake:
    """Claim what is ready in queues without limits, and in no way special."""
    rows = await link.fetch(
        load("claim/take_plain"),
        owner,
        token,
        list(wants),
        [want.count for want in wants.values()],
        claimable.shapes,
        suspects > 0,
    )
    first = rows[0]
    if first["execution_id"] is None:  # the one row that says that there is nothing
        return PlainTake([], first["suspects"], first["limited"])
    taken = [row for row in rows if not row["parked"]]
    return PlainTake(taken, first["suspects"] or len(taken) < len(rows), first["limited"])


async def take(
    link: Link, owner: UUID, token: UUID, wants: Mapping[str, Want], claimable: Claimable, suspects: int
) -> list[Row]:
    """Claim ready executions."""
    return await link.fetch(
        load("claim/take"),
        owner,
        token,
        list(wants),
        [want.count for want in wants.values()],
        claimable.shapes,
        suspects,
        claimable.known,
        claimable.own,
        [want.held for want in wants.values()],
    )


class _Recorded(TypedDict):
    seq: int
    path: str
    kind: str
    attempt: int
    target: str | None
    data_seq: int | None
    key: str | None
    value: str | None
    error: str | None
    run_in: float | None
    seconds: float
    recorded_at: datetime
    run_at: datetime | None


class _Sent(TypedDict):
    number: int
    topic: str
    payload: str


_recorded = msgspec.json.Decoder(list[_Recorded])
_sent = msgspec.json.Decoder(list[_Sent])


@dataclass(frozen=True, slots=True)
class Past:
    """What an execution that is claimed brings along: rows of ``journal/read`` and of ``message/read``."""

    journal: Sequence[Named] = ()
    messages: Sequence[Named] = ()


async def read_pasts(link: Link, rows: Sequence[Row]) -> dict[UUID, Past]:
    """The past of each that was taken with one of *rows*, if it has any. Most bring it along; what is long is read."""
    rows = [row for row in rows if row["begun"] or row["mail"]]
    long = [row["execution_id"] for row in rows if row["begun"] and row["journal"] is None]
    many = [row["execution_id"] for row in rows if row["mail"] and row["messages"] is None]
    journals = await read_journals(link, long)
    messages = await read_messages(link, many)
    pasts: dict[UUID, Past] = {}
    for row in rows:
        id, journal, sent = row["execution_id"], row["journal"], row["messages"]
        pasts[id] = Past(
            journals.get(id, ()) if journal is None else _recorded.decode(journal),
            messages.get(id, ()) if sent is None else _sent.decode(sent),
        )
    return pasts


async def read_journals(link: Link, execution_ids: Iterable[UUID]) -> dict[UUID, list[Row]]:
    """The journals of several executions, each in order."""
    return await _read_pages(link, "journal/read", execution_ids, "seq", PAGE_ROWS)


async def read_messages(link: Link, execution_ids: Iterable[UUID], after: int = 0) -> dict[UUID, list[Row]]:
    """The messages of several executions that nobody has consumed, each in order; of one, those *after* a number."""
    return await _read_pages(link, "message/read", execution_ids, "number", MESSAGES, after)


async def _read_pages(
    link: Link, name: str, execution_ids: Iterable[UUID], order: str, limit: int, after: int = 0
) -> dict[UUID, list[Row]]:
    ids = sorted(execution_ids)
    found: dict[UUID, list[Row]] = {execution_id: [] for execution_id in ids}
    place, number = (ids[0], after) if after else (NOWHERE, 0)
    while ids:
        page = await link.fetch_surely(load(name), ids, place, number, limit)
        for row in page:
            found[row["execution_id"]].append(row)
        if len(page) < limit:
            break
        place, number = page[-1]["execution_id"], page[-1][order]
    return found
