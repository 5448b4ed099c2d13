"""What people do to executions that run, and the account that is kept of it."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, Unpack
from uuid import UUID

import anyio
import asyncpg
import msgspec

from durable.authoring import Workflow
from durable.errors import UsageError
from durable.ids import execution_uuid, new_token, shown_id
from durable.model.names import check_name
from durable.model.status import LIVE, Status
from durable.paging import PAGE_MAX, check_limit, read_cursor, write_cursor
from durable.parts import Calls, unknown
from durable.request import encode_tags
from durable.store.connection import Row

AT_ONCE = 4  # acts under way of one bulk call: as many as there are connections for them
SHOWN_MAX = 1_000
LAST = UUID(int=(1 << 128) - 1)  # comes after all that was created at the same instant

Kind: TypeAlias = Literal["pause", "resume", "cancel", "compensate", "retry", "fork"]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did to an execution. `by` is who, as the call said; `details` is what else belongs to it."""

    execution: str
    workflow: str
    kind: Kind
    at: datetime
    by: str | None
    reason: str | None
    details: dict[str, Any] | None


class ActPage(msgspec.Struct, frozen=True):
    """Some of a list of acts, and the `cursor` of the next page, if there is one."""

    items: list[Act]
    cursor: str | None


class BulkResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a bulk call did: how many executions it has found, how many it has changed (others did it meanwhile, or they
    ended), and the ids of the first thousand that were found."""

    matched: int
    changed: int
    ids: list[str]


class Which(TypedDict, total=False):
    """Which executions a bulk call means, at least one of: *workflow* (or its name), *status* (one or several, among those
    that the act is for), *tags* (all must be there), *queue*, *created_before* and *created_after* (aware). *limit* is how
    many at most, the newest first. With *dry_run* they are only found. *reason* and *by* are kept with each act."""

    workflow: Workflow[Any, Any] | str | None
    status: Status | str | Sequence[Status | str] | None
    tags: Mapping[str, Any] | None
    queue: str | None
    created_before: datetime | None
    created_after: datetime | None
    limit: int | None
    dry_run: bool
    reason: str | None
    by: str | None


class Acting(Calls):
    """Pauses executions, resumes them, and tells who did what."""

    async def pause(self, id: str, reason: str | None = None, *, by: str | None = None) -> bool:
        """Have nothing new of an execution begin, from some milliseconds after this call on. Attempts that run come to their
        end, and are recorded; then it lets go of its slot. What is sent to it is kept. Its deadline goes on, and ends it
        within some seconds of its time. Its ending (compensations, ``on_failure``) is not paused, nor are its children.

        *by* says who acts; both are kept, see `list_acts`. True when this call paused it, False when it was paused, has ended
        or is being ended. Raises `UnknownExecution`, `UsageError`, and `StoreUnavailable` when PostgreSQL does not answer for
        about eight seconds. If cancelled, it may have happened.
        """
        row = await self._hold("pause", id, reason, by)
        if row["changed"] and row["claimed"]:
            self.parts().herald.claim(execution_uuid(id))
        return bool(row["changed"])

    async def resume(self, id: str, reason: str | None = None, *, by: str | None = None) -> bool:
        """Let an execution go on that is paused. True when this call did it, False when it was not paused. Otherwise like
        `pause`."""
        row = await self._hold("resume", id, reason, by)
        if row["changed"]:
            if row["claimed"]:
                self.parts().herald.claim(execution_uuid(id))
            self.parts().herald.ready(row["queue"])
        return bool(row["changed"])

    async def pause_many(self, **which: Unpack[Which]) -> BulkResult:
        """Pause all executions that fit, see `Which` and `pause`."""
        return await self._each(self.pause, LIVE, which)

    async def resume_many(self, **which: Unpack[Which]) -> BulkResult:
        """Let all executions go on that fit and are paused, see `Which` and `resume`."""
        return await self._each(self.resume, LIVE, which)

    async def cancel_many(self, *, compensate: bool = False, **which: Unpack[Which]) -> BulkResult:
        """Cancel all executions that fit, see `Which` and `Client.cancel`."""
        return await self._each(functools.partial(self.cancel, compensate=compensate), LIVE, which)

    async def cancel(
        self, id: str, reason: str | None = None, *, compensate: bool = False, by: str | None = None
    ) -> bool:
        """See `Client.cancel`."""
        raise NotImplementedError

    async def _each(self, act: Callable[..., Awaitable[bool]], statuses: Iterable[Status], which: Which) -> BulkResult:
        """Act on each execution that fits, some at a time. One that meets an error stops it; what was done stands."""
        dry_run, limit = which.get("dry_run", False), which.get("limit")
        reason, by = which.get("reason"), which.get("by")
        check_who(by, reason)
        found: list[str] = []
        matched = changed = 0

        async def one(id: str) -> None:
            nonlocal changed
            async with turn:
                did = await act(id, reason, by=by)
            changed += did

        turn = anyio.Semaphore(AT_ONCE)
        async for ids in self._fitting(statuses, which):
            ids = ids if limit is None else ids[: limit - matched]
            matched += len(ids)
            found += ids[: SHOWN_MAX - len(found)]
            if not dry_run:
                async with asyncio.TaskGroup() as group:
                    for id in ids:
                        group.create_task(one(id))
            if limit is not None and matched >= limit:
                break
        return BulkResult(matched=matched, changed=changed, ids=found)

    async def _fitting(self, statuses: Iterable[Status], which: Which) -> AsyncIterator[list[str]]:
        """The ids of what fits, the newest first, in pages."""
        if unknown_ones := which.keys() - Which.__annotations__.keys():
            raise UsageError(f"executions cannot be chosen by {', '.join(sorted(unknown_ones))}. See Which.")
        if not which.keys() & {"workflow", "status", "tags", "queue", "created_before", "created_after"}:
            raise UsageError("say which executions are meant: by workflow, status, tags, queue or time of creation.")
        before, after = which.get("created_before"), which.get("created_after")
        for when in (before, after):
            if when is not None and when.tzinfo is None:
                raise UsageError(f"{when!r} has no time zone. Give an aware datetime.")
        workflow, tags, queue = which.get("workflow"), which.get("tags"), which.get("queue")
        wanted = stored_names(which.get("status"), statuses)
        place = (before, LAST)
        while True:
            arguments = (workflow.name if isinstance(workflow, Workflow) else workflow, wanted, *place, PAGE_MAX)
            name = ("execution/list_tagged", encode_tags(tags)) if tags else ("execution/list",)
            rows = await self.parts().executions.fetch(name[0], *arguments, *name[1:])
            recent = [row for row in rows if after is None or row["created_at"] >= after]
            yield [
                shown_id(row["execution_id"], row["name"]) for row in recent if queue is None or row["queue"] == queue
            ]
            if len(recent) < PAGE_MAX:
                return
            place = (rows[-1]["created_at"], rows[-1]["execution_id"])

    async def _hold(self, kind: Literal["pause", "resume"], id: str, reason: str | None, by: str | None) -> Row:
        check_who(by, reason)
        try:
            row = await self.parts().executions.hold(kind, execution_uuid(id), new_token(), by, reason)
        except asyncpg.DataError as error:
            raise UsageError(f"this reason cannot be stored: {error}") from error
        if row is None:
            raise unknown(id)
        return row

    async def list_acts(self, id: str | None = None, *, limit: int = 50, cursor: str | None = None) -> ActPage:
        """Who did what, when and why, the latest first: to one execution, or to all.

        *limit* is 1 to 1,000; *cursor* is the `cursor` of the page before. Raises `UsageError`, `StoreUnavailable`.
        """
        check_limit(limit)
        before: tuple[datetime | None, UUID | None, UUID | None] = (None, None, None)
        if cursor is not None:
            at, execution_id, operation = read_cursor(cursor, "list_acts", 3)
            before = (datetime.fromisoformat(at), UUID(execution_id), UUID(operation))
        of = None if id is None else execution_uuid(id)
        rows = await self.parts().executions.fetch("act/list", of, *before, limit)
        items = [
            Act(
                execution=shown_id(row["execution_id"], row["name"]),
                workflow=row["workflow"],
                kind=row["kind"],
                at=row["acted_at"],
                by=row["acted_by"],
                reason=row["reason"],
                details=None if row["details"] is None else json.loads(row["details"]),
            )
            for row in rows
        ]
        if len(rows) < limit:
            return ActPage(items, None)
        last = rows[-1]
        return ActPage(items, write_cursor(last["acted_at"].isoformat(), last["execution_id"], last["operation"]))


def stored_names(status: Status | str | Sequence[Status | str] | None, allowed: Iterable[Status]) -> list[str]:
    """The statuses that are meant, as they are stored. Raises `UsageError`."""
    names = sorted(one.value for one in allowed)
    if status is None:
        return names
    given = [str(one) for one in ([status] if isinstance(status, str) else status)]
    if wrong := [one for one in given if one not in names]:
        raise UsageError(f"this act is not for executions that are {', '.join(wrong)}. It is for: {', '.join(names)}.")
    return given


def check_who(by: str | None, reason: str | None) -> None:
    """Raise `UsageError` for a name that cannot be kept."""
    if by is not None:
        check_name(by, "the name of who acts")
    if reason is not None and (not isinstance(reason, str) or len(reason) > 10_000):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError("a reason is a text of at most 10,000 characters.")
