"""The commands of operation: cancel, retry, fork, pause, resume, acts, cleanup, queues."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer

from durable.acting import BulkResult, Which
from durable.app import Durable
from durable.cli.acting import DATA_HELP, read_data, read_duration
from durable.cli.asking import WorkflowOption, tags_of
from durable.cli.commands import App, AsJson, Cursor, Dsn, Id, PageLimit, Yes, app, command, confirm, target
from durable.cli.output import Exit, Problem, ago, complain, hint, length, out, print_json, say, short, table
from durable.cli.target import resolve
from durable.doctor import counted

Ids: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(help="Ids, or their beginnings. None: all that fit the filter.", show_default=False),
]
Reason: TypeAlias = Annotated[str | None, typer.Option("--reason", "-r", help="Kept with it.", show_default=False)]
By: TypeAlias = Annotated[str | None, typer.Option("--by", help="Who acts. Default: who you are.", show_default=False)]
StatusOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--status", "-s", help="Only of this status; may be repeated.", show_default=False)
]
TagOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--tag", "-t", help="Only with key=value; may be repeated.", show_default=False)
]
QueueOption: TypeAlias = Annotated[
    str | None, typer.Option("--queue", "-q", help="Only of this queue.", show_default=False)
]
Before: TypeAlias = Annotated[
    str | None,
    typer.Option("--created-before", help="Only older ones: 2d, or an instant with its zone.", show_default=False),
]
After: TypeAlias = Annotated[
    str | None,
    typer.Option("--created-after", help="Only younger ones: 2d, or an instant with its zone.", show_default=False),
]
Limit: TypeAlias = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="At most so many.", show_default=False)
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only tell which.")]


def read_instant(given: str | None) -> datetime | None:
    """An instant, or a duration ago. Raises `Problem`."""
    if given is None:
        return None
    try:
        instant = datetime.fromisoformat(given)
    except ValueError:
        duration = read_duration(given)
        assert duration is not None
        try:
            return datetime.now(UTC) - duration
        except OverflowError as error:
            raise Problem(f"{given!r} ago there was no calendar.", "Give a shorter time, or an instant.") from error
    if instant.tzinfo is None:
        raise Problem(
            f"{given!r} has no time zone.", "Write it like 2026-03-01T00:00:00+01:00, or 2d for two days ago."
        )
    return instant


def who(by: str | None) -> str | None:
    """Who acts: as was said, else the account."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such account: a container
        return None


One: TypeAlias = Callable[[Durable, str, str | None, str | None], Awaitable[bool]]
Many: TypeAlias = Callable[[Durable, Which], Awaitable[BulkResult]]


class Bulk:
    """One of the acts: what it is called, on one and on many."""

    def __init__(self, verb: str, done: str, one: One, many: Many, *, asks: bool = False) -> None:
        self.verb, self.done, self.one, self.many, self.asks = verb, done, one, many, asks

    async def act(
        self,
        ids: list[str] | None,
        *,
        reason: str | None,
        by: str | None,
        yes: bool,
        dry_run: bool,
        dsn: str | None,
        app: str | None,
        as_json: bool,
        **filters: Any,
    ) -> Exit:
        """Do it to *ids*, or to all that fit the *filters*."""
        by = who(by)
        which = self._which(filters, reason, by)
        if bool(ids) == bool(which.keys() - {"reason", "by", "limit"}):
            raise Problem(
                f"say which executions to {self.verb}.",
                "Give ids, or a filter (--workflow, --status, --tag, --queue, --created-before, --created-after), not both.",
            )
        async with target(dsn, app).client() as client:
            if ids:
                return await self._few(client, ids, reason, by, yes=yes, dry_run=dry_run, as_json=as_json)
            return await self._all(client, which, yes=yes, dry_run=dry_run, as_json=as_json)

    def _which(self, given: dict[str, Any], reason: str | None, by: str | None) -> Which:
        which: Which = {
            "workflow": given["workflow"],
            "status": given["status"] or None,
            "tags": tags_of(given["tag"]),
            "queue": given["queue"],
            "created_before": read_instant(given["created_before"]),
            "created_after": read_instant(given["created_after"]),
            "limit": given["limit"],
            "reason": reason,
            "by": by,
        }
        return Which(**{name: value for name, value in which.items() if value is not None})  # type: ignore[typeddict-item]

    async def _few(
        self,
        client: Durable,
        ids: list[str],
        reason: str | None,
        by: str | None,
        *,
        yes: bool,
        dry_run: bool,
        as_json: bool,
    ) -> Exit:
        found = [await resolve(client, id) for id in ids]
        if dry_run:
            self._tell(BulkResult(matched=len(found), changed=0, ids=found), as_json, dry_run=True)
            return Exit.OK
        if self.asks:
            confirm(f"{self.verb.capitalize()} {', '.join(found)}?", yes)
        done = {id: await self.one(client, id, reason, by) for id in found}
        if as_json:
            print_json([{"id": id, self.done: changed} for id, changed in done.items()])
        else:
            for id, changed in done.items():
                if changed:
                    say(f"{self.done} {id}")
                else:
                    complain(Problem(f"{id} could not be {self.done} as it stands now.", f"durable show {id}"))
        return Exit.OK if any(done.values()) else Exit.REFUSED

    async def _all(self, client: Durable, which: Which, *, yes: bool, dry_run: bool, as_json: bool) -> Exit:
        if not dry_run and not yes:
            would = await self.many(client, {**which, "dry_run": True})
            if not would.matched:
                self._tell(would, as_json, dry_run=False)
                return Exit.OK
            confirm(f"{self.verb.capitalize()} {counted(would.matched)}?", yes)
        self._tell(await self.many(client, {**which, "dry_run": dry_run}), as_json, dry_run=dry_run)
        return Exit.OK

    def _tell(self, result: BulkResult, as_json: bool, *, dry_run: bool) -> None:
        if as_json:
            print_json(result)
        elif dry_run:
            for id in result.ids:
                say(id)
            more = "" if len(result.ids) == result.matched else ", the first of them above"
            hint(f"{counted(result.matched)} would be {self.done}{more}")
        elif not result.matched:
            hint("there are none like that")
        else:
            say(f"{self.done} {counted(result.changed)}")
            if result.changed < result.matched:
                hint(f"of {result.matched} that fitted: the others could not be, or somebody was quicker")


def _cancelling(compensate: bool) -> Bulk:
    return Bulk(
        "cancel",
        "cancelled",
        lambda client, id, reason, by: client.cancel(id, reason, compensate=compensate, by=by),
        lambda client, which: client.cancel_many(compensate=compensate, **which),
        asks=True,
    )


PAUSING = Bulk(
    "pause",
    "paused",
    lambda client, id, reason, by: client.pause(id, reason, by=by),
    lambda client, which: client.pause_many(**which),
)
RESUMING = Bulk(
    "resume",
    "resumed",
    lambda client, id, reason, by: client.resume(id, reason, by=by),
    lambda client, which: client.resume_many(**which),
)
RETRYING = Bulk(
    "retry",
    "retried",
    lambda client, id, reason, by: client.retry(id, reason, by=by),
    lambda client, which: client.retry_many(**which),
)


def _bulk(
    ids: Ids = None,
    workflow: WorkflowOption = None,
    status: StatusOption = None,
    tag: TagOption = None,
    queue: QueueOption = None,
    created_before: Before = None,
    created_after: After = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    by: By = None,
    yes: Yes = False,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """What the acts on one or many executions take."""


@command("cancel", shared=_bulk)
async def cancel(
    compensate: Annotated[bool, typer.Option("--compensate", help="Undo what was done.")] = False, **given: Any
) -> Exit:
    """Cancel executions, and their children. Nothing is undone without --compensate."""
    return await _cancelling(compensate).act(**given)


@command("retry", shared=_bulk)
async def retry(**given: Any) -> Exit:
    """Retry executions that have failed, in place, from the step that failed."""
    return await RETRYING.act(**given)


@command("pause", shared=_bulk)
async def pause(**given: Any) -> Exit:
    """Pause executions: running attempts finish, nothing new begins, what is sent is kept."""
    return await PAUSING.act(**given)


@command("resume", shared=_bulk)
async def resume(**given: Any) -> Exit:
    """Let executions go on that were paused."""
    return await RESUMING.act(**given)


@command("fork")
async def fork(
    id: Id,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from-step",
            help="A step at the top; what came before is copied. Default: the beginning.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help=f"What that step is given. {DATA_HELP}", show_default=False)
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", help="The id of the new one.", show_default=False)] = None,
    reason: Reason = None,
    by: By = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Start a new execution from a step of another one, if need be with other data. Needs your code."""
    more = {} if data is None else {"data": read_data(data)}
    async with target(dsn, app).client(with_code=True) as client:
        found = await resolve(client, id)
        handle = await client.fork(found, from_step=from_step, new_id=new_id, reason=reason, by=who(by), **more)
    if as_json:
        print_json({"id": handle.id, "forked_from": found})
    else:
        say(handle.id)
        hint(f"forked from {found}; see: durable show {handle.id}")


@command("acts")
async def acts(
    id: Annotated[str | None, typer.Argument(help="Of this execution. Default: of all.", show_default=False)] = None,
    limit: PageLimit = 20,
    cursor: Cursor = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """List who did what to executions, when and why, the latest first."""
    async with target(dsn, app).client() as client:
        found = None if id is None else await resolve(client, id)
        page = await client.list_acts(found, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    if not page.items:
        hint("Nobody has done anything.")
        return
    shown = table("WHEN", "WHO", "DID", "TO", "WORKFLOW", "WHY")
    for act in page.items:
        more = f" ({short(act.details, 60)})" if act.details else ""
        shown.add_row(ago(act.at), act.by or "", act.kind, act.execution, act.workflow, (act.reason or "") + more)
    out.print(shown)
    if page.cursor is not None:
        hint(f"More: --cursor {page.cursor}")


@command("cleanup")
async def cleanup(
    dry_run: DryRun = False, yes: Yes = False, dsn: Dsn = None, app: App = None, as_json: AsJson = False
) -> None:
    """Delete now what was kept for long enough, as workers do by themselves. Needs your code, which says how long."""
    async with target(dsn, app).client(with_code=True) as client:
        if not dry_run:
            confirm("Delete what has ended and was kept for long enough?", yes)
        done = await client.cleanup(dry_run=dry_run)
    if as_json:
        print_json(done)
    else:
        say(f"{counted(done.deleted)} {'would be ' if dry_run else ''}deleted, {done.ids_forgotten} ids forgotten")


# --- Queues -----------------------------------------------------------------------------------------------------------

queues = typer.Typer(help="List queues, pause and resume them.", no_args_is_help=True)
app.add_typer(queues, name="queues")


@command("list", queues)
async def list_queues(dsn: Dsn = None, app: App = None, as_json: AsJson = False) -> None:
    """List the queues: what is in them, and their limits."""
    async with target(dsn, app).client() as client:
        found = await client.list_queues()
    if as_json:
        print_json(found)
        return
    if not found:
        hint("There are none: nothing was ever started.")
        return
    right = ["READY", "RUNNING", "HELD"]
    shown = table("QUEUE", "READY", "RUNNING", "HELD", "OLDEST", "LIMITS", "STATE", right=right)
    for queue in found:
        limits = [
            f"{queue.global_concurrency} at once" if queue.global_concurrency is not None else "",
            f"{queue.rate.count} in {length(queue.rate.per)}" if queue.rate is not None else "",
            f"{queue.per_key} for each key" if queue.per_key is not None else "",
            f"{queue.max_depth} ready" if queue.max_depth is not None else "",
        ]
        why = ": ".join(part for part in ("paused", queue.pause_reason) if part) if queue.paused else "open"
        numbers = (str(queue.ready), str(queue.running), str(queue.held), ago(queue.oldest_ready_at))
        shown.add_row(queue.name, *numbers, ", ".join(filter(None, limits)), why)
    out.print(shown)


@command("pause", queues)
async def pause_queue(
    name: Annotated[str, typer.Argument(help="The queue.", show_default=False)],
    reason: Reason = None,
    by: By = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Have nothing of a queue taken up any more; what runs goes on."""
    async with target(dsn, app).client() as client:
        known = any(queue.name == name for queue in await client.list_queues())
        changed = await client.pause_queue(name, reason, by=who(by))
    _tell_queue(name, "paused", changed, as_json)
    if not known:
        hint(f"nothing was ever started in {name}, and no engine has declared it: is that its name?")


@command("resume", queues)
async def resume_queue(
    name: Annotated[str, typer.Argument(help="The queue.", show_default=False)],
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Have a queue that was paused go on."""
    async with target(dsn, app).client() as client:
        changed = await client.resume_queue(name)
    _tell_queue(name, "resumed", changed, as_json)


def _tell_queue(name: str, done: str, changed: bool, as_json: bool) -> None:
    if as_json:
        print_json({"queue": name, done: changed})
    else:
        say(f"{done} {name}" if changed else f"{name} was {'paused' if done == 'paused' else 'not paused'} before")
