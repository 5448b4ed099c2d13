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
from durable.errors import IdConflict, NotRetryable, UnknownExecution, UnknownWorkflow, UsageError
from durable.handle import Handle
from durable.ids import execution_uuid, given_name, new_token, shown_id
from durable.ids import new_id as new_execution_id
from durable.model.definition import UNANNOTATED, Definition
from durable.model.names import check_name, storable
from durable.model.status import LIVE, Change, Status, stored_sources
from durable.paging import PAGE_MAX, check_limit, read_cursor, write_cursor
from durable.parts import Calls, unknown
from durable.request import encode_tags, encoded
from durable.store.connection import Row

AT_ONCE = 4  # acts under way of one bulk call: as many as there are connections for them
SHOWN_MAX = 1_000
UNDONE = (Status.COMPENSATING, Status.COMPENSATED, Status.COMPENSATION_FAILED)
NOT_GIVEN: Any = object()
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


class Cleanup(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted: executions, children among them, and ids of such as were deleted long ago."""

    deleted: int
    ids_forgotten: int


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
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"limit is {limit!r}. Give a whole number from 1 up, or None for all.")
        found: list[str] = []
        matched = changed = 0

        async def one(id: str) -> None:
            nonlocal changed
            async with turn:
                try:
                    did = await act(id, reason, by=by)
                except UnknownExecution:  # deleted since it was found
                    did = False
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

    async def retry(self, id: str, reason: str | None = None, *, by: str | None = None) -> bool:
        """Have an execution that has failed go on from where it failed, with a new round of attempts, and a new deadline.
        What is recorded as completed is not done again; what was waited for and did not come is waited for anew. Its result
        is that of the new end, for whoever asks from then on. Retry when the cause is mended: code, data elsewhere, a service
        that is back.

        True when this call did it, False when it has not failed, or goes on already. Raises `NotRetryable` for one that was
        undone (fork it), and for a child that was called: its parent was told of the failure, so retry that one. Otherwise
        like `pause`.
        """
        check_who(by, reason)
        parts = self.parts()
        try:
            row = await parts.executions.retry(
                execution_uuid(id), new_token(), by, reason, stored_sources(Change.RETRY)
            )
        except asyncpg.DataError as error:
            raise UsageError(f"this reason cannot be stored: {error}") from error
        if row is None:
            raise unknown(id)
        if row["changed"]:
            parts.herald.ready(row["queue"])
        elif row["status"] in UNDONE:
            raise NotRetryable(
                f"execution {id!r} is {row['status']}: what it had done was undone. Start another by fork()."
            )
        elif row["called"] and row["status"] == Status.FAILED:
            raise NotRetryable(f"the parent of execution {id!r} was told that it has failed. Retry that one.")
        return bool(row["changed"])

    async def retry_many(self, **which: Unpack[Which]) -> BulkResult:
        """Retry all executions that fit and have failed, see `Which` and `retry`. Children that were called are left to their
        parents."""
        return await self._each(self._retry_one, (Status.FAILED,), which)

    async def _retry_one(self, id: str, reason: str | None, *, by: str | None) -> bool:
        try:
            return await self.retry(id, reason, by=by)
        except NotRetryable:
            return False

    async def fork(
        self,
        id: str,
        *,
        from_step: str | None = None,
        data: Any = NOT_GIVEN,
        new_id: str | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> Handle[Any]:
        """Start a new execution of the same workflow with the records that *id* has of all that came before a top-level node,
        *from_step*: a name, or the path of a later visit (``"check#2"``). Without one it begins at the beginning. *data* is
        what the node is given; by default what it was given then. Events, questions and children are not copied; tags are,
        with ``durable.forked_from``.

        *new_id* is as for `Client.start`. Raises `UnknownExecution`; `UnknownWorkflow` when this engine was not given its
        workflow; `UsageError` for a node that there is not, or that was not reached; `IdConflict`, `EncodeError`,
        `PayloadTooLarge`, `StoreUnavailable`. If cancelled, it may have been started.
        """
        check_who(by, reason)
        parts = self.parts()
        original, operation = execution_uuid(id), new_token()
        rows = await parts.executions.fetch("execution/get", original)
        if not rows:
            raise unknown(id)
        definition = parts.definitions.get((rows[0]["workflow"], rows[0]["version"]))
        if definition is None:
            raise UnknownWorkflow(
                f"execution {id!r} is one of {rows[0]['workflow']!r} version {rows[0]['version']}, which this engine "
                "was not given."
            )
        if from_step is not None:
            check_reached(id, definition, from_step, await parts.executions.fetch("journal/paths", original))
        kind = definition.input_type if from_step is None else UNANNOTATED
        text = None if data is NOT_GIVEN else encoded(data, parts.codec, parts.payload_bytes_max, kind)
        fork_id = new_execution_id() if new_id is None else execution_uuid(new_id)
        name = None if new_id is None else given_name(new_id)
        origin = shown_id(original, rows[0]["name"])
        made = await parts.executions.fetch(
            "act/fork", original, operation, fork_id, name, from_step, text, by, reason, origin
        )
        if not made:
            raise unknown(id)
        if not made[0]["created"]:
            raise IdConflict(f"execution {new_id!r} exists already.")
        parts.herald.ready(made[0]["queue"])
        return self.handle_of(shown_id(fork_id, name), fork_id, definition.output_type, True)

    async def _hold(self, kind: Literal["pause", "resume"], id: str, reason: str | None, by: str | None) -> Row:
        check_who(by, reason)
        try:
            row = await self.parts().executions.hold(kind, execution_uuid(id), new_token(), by, reason)
        except asyncpg.DataError as error:
            raise UsageError(f"this reason cannot be stored: {error}") from error
        if row is None:
            raise unknown(id)
        return row

    async def cleanup(self, *, dry_run: bool = False) -> Cleanup:
        """Delete now what was kept for long enough, as workers do by themselves now and then: executions of the workflows of
        this engine that have ended, with all their children. With *dry_run* nothing is deleted, and `deleted` is how many
        would be.

        While PostgreSQL is away it waits. If cancelled, some may be deleted.
        """
        deleted, forgotten = await self.parts().janitor.tidy(dry_run=dry_run)
        return Cleanup(deleted=deleted, ids_forgotten=forgotten)

    async def list_acts(self, id: str | None = None, *, limit: int = 50, cursor: str | None = None) -> ActPage:
        """Who did what, when and why, the latest first: to one execution, or to all.

        *limit* is 1 to 1,000; *cursor* is the `cursor` of the page before. Raises `UsageError`, `StoreUnavailable`.
        """
        check_limit(limit)
        before: tuple[datetime | None, UUID | None, UUID | None] = (None, None, None)
        if cursor is not None:
            at, execution_id, operation = read_cursor(cursor, "list_acts", datetime.fromisoformat, UUID, UUID)
            before = (at, execution_id, operation)
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
        return ActPage(items, write_cursor("list_acts", last["acted_at"], last["execution_id"], last["operation"]))


def check_reached(id: str, definition: Definition, from_step: str, recorded: Sequence[Row]) -> None:
    """Raise `UsageError` for a node from which nothing can be forked."""
    names = [node.name for node in definition.body.nodes]
    name = from_step.partition("#")[0]
    if name not in names:
        raise UsageError(f"{definition.name!r} has no top-level node {name!r}. It has: {', '.join(names)}.")
    recorded = [row for row in recorded if row["path"].partition("#")[0] in names]  # others are of on_failure
    tops = [row["path"] for row in recorded]
    if from_step in tops:
        return
    # The next one may have begun, and not be recorded yet.
    last = max((names.index(top.partition("#")[0]) for top in tops), default=-1)
    over = not recorded or recorded[-1]["completed"]
    if "#" in from_step or names.index(name) != last + 1 or not over:
        raise UsageError(f"execution {id!r} was not at {from_step!r} yet. It was at: {', '.join(tops) or 'nothing'}.")


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
    """Raise `UsageError` for a name or a reason that cannot be kept."""
    if by is not None:
        check_name(by, "the name of who acts")
    if reason is not None and (not isinstance(reason, str) or len(reason) > 10_000 or not storable(reason)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError("a reason is a text of at most 10,000 characters, without NUL and surrogates.")
