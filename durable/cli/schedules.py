"""The commands about schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
import typer

from durable.cli.acting import DATA_HELP, read_data, read_duration
from durable.cli.asking import WorkflowOption
from durable.cli.commands import App, AsJson, Cursor, Dsn, PageLimit, Yes, app, command, confirm, target
from durable.cli.operating import By, Reason, who
from durable.cli.output import Exit, Problem, ago, hint, out, print_json, say, short, table
from durable.model.cron import Cron, Every, RuleOf
from durable.scheduled import Schedule

schedules = typer.Typer(help="List schedules, make, pause, resume, trigger and delete them.", no_args_is_help=True)
app.add_typer(schedules, name="schedules")

Name = Annotated[str, typer.Argument(help="The name of the schedule.", show_default=False)]


def shown_rule(rule: RuleOf) -> str:
    """A rule for people."""
    if isinstance(rule, Cron):
        return f"{rule.expression} {rule.timezone}"
    return f"every {rule.interval}" + (f" + {rule.offset}" if rule.offset else "")


def _form(found: Schedule) -> dict[str, Any]:
    """A schedule for programs: durations in seconds."""
    rule = found.rule
    if isinstance(rule, Cron):
        told: dict[str, Any] = {"cron": rule.expression, "timezone": rule.timezone}
    else:
        told = {"every": rule.interval.total_seconds(), "offset": rule.offset.total_seconds()}
    return {**msgspec.structs.asdict(found), "rule": told}


@command("list", schedules)
async def list_schedules(
    workflow: WorkflowOption = None,
    limit: PageLimit = 50,
    cursor: Cursor = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """List the schedules, by name."""
    async with target(dsn, app).client() as client:
        page = await client.list_schedules(workflow=workflow, limit=limit, cursor=cursor)
    if as_json:
        print_json({"items": [_form(item) for item in page.items], "cursor": page.cursor})
        return
    if not page.items:
        hint("There are none.")
        return
    shown = table("SCHEDULE", "WORKFLOW", "RULE", "STATUS", "NEXT", "LAST")
    for item in page.items:
        last = "" if item.last_at is None else ago(item.last_at)
        shown.add_row(item.name, item.workflow, shown_rule(item.rule), item.status, ago(item.next_at), last)
    out.print(shown)
    if page.cursor is not None:
        hint(f"More: --cursor {page.cursor}")


@command("show", schedules)
async def show_schedule(name: Name, dsn: Dsn = None, app: App = None, as_json: AsJson = False) -> None:
    """Show a schedule, and when it fires next."""
    async with target(dsn, app).client() as client:
        found = await client.get_schedule(name)
    if as_json:
        print_json(_form(found))
    else:
        _tell(found)


@command("create", schedules)
async def create_schedule(
    name: Name,
    workflow: Annotated[str, typer.Argument(help="What it starts.", show_default=False)],
    data: Annotated[str | None, typer.Argument(help=f"The input. {DATA_HELP}", show_default=False)] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="Five fields: '0 9 * * 1-5'.", show_default=False)] = None,
    every: Annotated[str | None, typer.Option("--every", help="An interval: 15m.", show_default=False)] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="By whose clocks the cron rule is.")] = "UTC",
    paused: Annotated[bool, typer.Option("--paused", help="It fires when it was resumed.")] = False,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Make a schedule. Needs your code."""
    if (cron is None) == (every is None):
        raise Problem("say when it fires.", "Give --cron or --every.")
    interval = read_duration(every) or timedelta()
    rule = Cron(cron, timezone) if cron is not None else Every(interval)
    async with target(dsn, app).client(with_code=True) as client:
        known = [found for found in client.workflows if found.name == workflow]
        if not known:
            names = ", ".join(sorted({found.name for found in client.workflows})) or "none"
            raise Problem(f"this application has no workflow {workflow!r}.", f"It has: {names}.", Exit.NOT_FOUND)
        newest = max(known, key=lambda found: found.version)
        made = await client.create_schedule(name, newest, rule, read_data(data), paused=paused)
    if as_json:
        print_json(_form(made))
    else:
        _tell(made)


def _tell(found: Schedule) -> None:
    say(f"{found.name}  {found.workflow}  {found.status}", "bold")
    paused = (
        None if found.paused_by is None else f"by {found.paused_by}: {found.paused_reason or 'no reason was given'}"
    )
    for label, value in (
        ("rule", shown_rule(found.rule)),
        ("data", short(found.data, 200)),
        ("overlap", found.overlap),
        ("catch up", found.catch_up),
        ("declared", "in code" if found.declared else "at run time"),
        ("paused", paused),
        ("last", found.last_execution),
        ("next", ", ".join(f"{instant:%Y-%m-%d %H:%M:%S} UTC" for instant in found.next_times(3)) or None),
    ):
        if value is not None:
            say(f"  {label:<10}{value}")


@command("pause", schedules)
async def pause_schedule(
    name: Name, reason: Reason = None, by: By = None, dsn: Dsn = None, app: App = None, as_json: AsJson = False
) -> None:
    """Let a schedule fire no more until it is resumed."""
    async with target(dsn, app).client() as client:
        found = await client.pause_schedule(name, reason, by=who(by))
    if as_json:
        print_json(_form(found))
    else:
        say(f"paused {name}")


@command("resume", schedules)
async def resume_schedule(name: Name, dsn: Dsn = None, app: App = None, as_json: AsJson = False) -> None:
    """Let a schedule fire again, from now on."""
    async with target(dsn, app).client() as client:
        found = await client.resume_schedule(name)
    if as_json:
        print_json(_form(found))
    else:
        say(f"resumed {name}")


@command("trigger", schedules)
async def trigger_schedule(name: Name, dsn: Dsn = None, app: App = None, as_json: AsJson = False) -> None:
    """Start what a schedule starts, now. Needs your code."""
    async with target(dsn, app).client(with_code=True) as client:
        handle = await client.trigger_schedule(name)
    if as_json:
        print_json({"id": handle.id})
    else:
        say(handle.id)


@command("delete", schedules)
async def delete_schedule(
    name: Name, yes: Yes = False, dsn: Dsn = None, app: App = None, as_json: AsJson = False
) -> None:
    """Delete a schedule. What it has started goes on."""
    async with target(dsn, app).client() as client:
        await client.get_schedule(name)
        confirm(f"Delete schedule {name}?", yes)
        await client.delete_schedule(name)
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        say(f"deleted {name}")
