"""The commands about schedules."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, get_args

import msgspec
import typer

from durable.cli.acting import DATA_HELP, read_data, read_duration, typed, workflow_of
from durable.cli.asking import WorkflowOption, tags_of
from durable.cli.commands import App, AsJson, Cursor, Dsn, PageLimit, Yes, app, command, confirm, target
from durable.cli.operating import By, Reason, who
from durable.cli.output import Problem, ago, hint, length, out, print_json, say, short, table
from durable.model.cron import Cron, Every, RuleOf, UnreadableRule
from durable.model.firing import CatchUp, Overlap
from durable.scheduled import Schedule

schedules = typer.Typer(
    help="List schedules, make, change, pause, resume, trigger and delete them.", no_args_is_help=True
)
app.add_typer(schedules, name="schedules")

# --- Options ----------------------------------------------------------------------------------------------------------


def _option(*names: str, help: str, choices: object = None) -> Any:
    metavar = None if choices is None else "|".join(get_args(choices))
    return typer.Option(*names, help=help, show_default=False, metavar=metavar)


Text: TypeAlias = str | None
Name: TypeAlias = Annotated[str, typer.Argument(help="The name of the schedule.", show_default=False)]
CronOption: TypeAlias = Annotated[Text, _option("--cron", help="Five fields: '0 9 * * 1-5'.")]
TimezoneOption: TypeAlias = Annotated[
    Text, _option("--timezone", help="By whose clocks the cron rule is: Europe/Paris. New schedules: UTC.")
]
EveryOption: TypeAlias = Annotated[Text, _option("--every", help="An interval: 15m.")]
OffsetOption: TypeAlias = Annotated[Text, _option("--offset", help="How long after each full interval: 5m.")]
OverlapOption: TypeAlias = Annotated[
    Text,
    _option(
        "--overlap",
        choices=Overlap,
        help="What to do while the execution of the firing before goes on. New schedules: skip.",
    ),
]
CatchUpOption: TypeAlias = Annotated[
    Text,
    _option(
        "--catch-up",
        choices=CatchUp,
        help="Which firings to make up for that no worker was there for. New schedules: latest.",
    ),
]
WindowOption: TypeAlias = Annotated[
    Text, _option("--catch-up-window", help="How old a firing may be that is caught up: 6h.")
]
JitterOption: TypeAlias = Annotated[Text, _option("--jitter", help="Each firing is late by its own share of it: 5m.")]
ScheduleQueue: TypeAlias = Annotated[
    Text, _option("--queue", "-q", help="The queue of what it starts. New schedules: the workflow's.")
]
SchedulePriority: TypeAlias = Annotated[
    int | None, _option("--priority", help="Higher first. New schedules: the workflow's.")
]
ScheduleTags: TypeAlias = Annotated[
    list[str] | None, _option("--tag", "-t", help="key=value, of what it starts; may be repeated.")
]

RESETTABLE = {
    "catch-up-window": "catch_up_window",
    "jitter": "jitter",
    "queue": "queue",
    "priority": "priority",
    "tag": "tags",
}


def _rule(
    cron: Text, timezone: Text, every: Text, offset: Text, now: RuleOf | UnreadableRule | None = None
) -> RuleOf | None:
    """The rule that the options say, what they leave out being as in the one of *now*; None when they say nothing. Raises
    `Problem`."""
    if cron is not None and every is not None:
        raise Problem("there are two rules.", "Give --cron or --every.")
    if cron is None and every is None and timezone is None and offset is None:
        return None
    if every is not None or (cron is None and isinstance(now, Every)):
        if timezone is not None:
            raise Problem("an interval has no time zone.", "Leave out --timezone, or give --cron.")
        given = {"interval": read_duration(every), "offset": read_duration(offset)}
        changed: Any = {name: value for name, value in given.items() if value is not None}
        return replace(now, **changed) if isinstance(now, Every) else Every(**changed)
    if cron is None and not isinstance(now, Cron):
        raise Problem("say when it fires.", "Give --cron or --every.")
    if offset is not None:
        raise Problem("a cron rule has no offset.", "Leave out --offset, or give --every.")
    changed = {name: value for name, value in {"expression": cron, "timezone": timezone}.items() if value is not None}
    return replace(now, **changed) if isinstance(now, Cron) else Cron(**changed)


def _given(
    overlap: Text,
    catch_up: Text,
    catch_up_window: Text,
    jitter: Text,
    queue: Text,
    priority: int | None,
    tag: list[str] | None,
) -> dict[str, Any]:
    """The options that were given, as the library takes them. Raises `Problem`."""
    options = {
        "overlap": overlap,
        "catch_up": catch_up,
        "catch_up_window": read_duration(catch_up_window),
        "jitter": read_duration(jitter),
        "queue": queue,
        "priority": priority,
        "tags": tags_of(tag),
    }
    return {name: value for name, value in options.items() if value is not None}


# --- The commands -----------------------------------------------------------------------------------------------------


def shown_rule(rule: RuleOf | UnreadableRule) -> str:
    """A rule for people."""
    if isinstance(rule, UnreadableRule):
        return rule.text
    if isinstance(rule, Cron):
        return f"{rule.expression} {rule.timezone}"
    return f"every {length(rule.interval)}" + (f" + {length(rule.offset)}" if rule.offset else "")


def _form(found: Schedule) -> dict[str, Any]:
    """A schedule for programs: durations in seconds."""
    rule = found.rule
    if isinstance(rule, UnreadableRule):
        told: dict[str, Any] = {"unreadable": json.loads(rule.text), "problem": rule.problem}
    elif isinstance(rule, Cron):
        told = {"cron": rule.expression, "timezone": rule.timezone}
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
    _told(found, as_json)


@command("create", schedules)
async def create_schedule(
    name: Name,
    workflow: Annotated[str, typer.Argument(help="What it starts.", show_default=False)],
    data: Annotated[str | None, typer.Argument(help=f"The input. {DATA_HELP}", show_default=False)] = None,
    cron: CronOption = None,
    timezone: TimezoneOption = None,
    every: EveryOption = None,
    offset: OffsetOption = None,
    overlap: OverlapOption = None,
    catch_up: CatchUpOption = None,
    catch_up_window: WindowOption = None,
    jitter: JitterOption = None,
    queue: ScheduleQueue = None,
    priority: SchedulePriority = None,
    tag: ScheduleTags = None,
    paused: Annotated[bool, typer.Option("--paused", help="It fires when it was resumed.")] = False,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Make a schedule. Needs your code."""
    rule = _rule(cron, timezone, every, offset)
    if rule is None:
        raise Problem("say when it fires.", "Give --cron or --every.")
    options = _given(overlap, catch_up, catch_up_window, jitter, queue, priority, tag)
    value = read_data(data)
    async with target(dsn, app).client(with_code=True) as client:
        newest = workflow_of(client, workflow)
        made = await client.create_schedule(name, newest, rule, typed(client, newest, value), paused=paused, **options)
    _told(made, as_json)


@command("update", schedules)
async def update_schedule(
    name: Name,
    data: Annotated[Text, _option("--data", help=f"The input; needs your code. {DATA_HELP}")] = None,
    cron: CronOption = None,
    timezone: TimezoneOption = None,
    every: EveryOption = None,
    offset: OffsetOption = None,
    overlap: OverlapOption = None,
    catch_up: CatchUpOption = None,
    catch_up_window: WindowOption = None,
    jitter: JitterOption = None,
    queue: ScheduleQueue = None,
    priority: SchedulePriority = None,
    tag: ScheduleTags = None,
    reset: Annotated[
        list[str] | None,
        _option("--reset", help=f"Back to what it is of new schedules: {', '.join(RESETTABLE)}; may be repeated."),
    ] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a schedule, and leave the rest. Another rule counts from now on. Tags are replaced."""
    given = _given(overlap, catch_up, catch_up_window, jitter, queue, priority, tag)
    for option in reset or ():
        if option not in RESETTABLE:
            raise Problem(f"--reset {option!r} is none of its options.", f"It may be {', '.join(RESETTABLE)}.")
        if given.setdefault(RESETTABLE[option], None) is not None:
            raise Problem(f"--{option} and --reset {option} contradict each other.", "Give one of them.")
    new_rule = (cron, timezone, every, offset)
    if data is None and not given and all(part is None for part in new_rule):
        raise Problem("say what to change.", "`durable schedules update --help` lists it.")
    async with target(dsn, app).client(with_code=data is not None) as client:
        found = await client.get_schedule(name)
        if (rule := _rule(*new_rule, now=found.rule)) is not None:
            given["rule"] = rule
        if data is not None:
            given["data"] = typed(client, workflow_of(client, found.workflow), read_data(data))
        changed = await client.update_schedule(name, **given)
    _told(changed, as_json)


def _told(schedule: Schedule, as_json: bool) -> None:
    if as_json:
        print_json(_form(schedule))
    else:
        _tell(schedule)


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _tell(found: Schedule) -> None:
    say(f"{found.name}  {found.workflow}  {found.status}", "bold")
    paused = (
        None if found.paused_by is None else f"by {found.paused_by}: {found.paused_reason or 'no reason was given'}"
    )
    for label, value in (
        ("rule", shown_rule(found.rule)),
        ("problem", found.rule.problem if isinstance(found.rule, UnreadableRule) else None),
        ("data", short(found.data, 200)),
        ("overlap", found.overlap),
        (
            "catch up",
            found.catch_up + (f", {length(found.catch_up_window)} old at most" if found.catch_up_window else ""),
        ),
        ("jitter", found.jitter and length(found.jitter)),
        ("queue", found.queue),
        ("priority", found.priority),
        ("tags", short(found.tags, 200) if found.tags else None),
        ("declared", "in code" if found.declared else "at run time"),
        ("paused", paused),
        ("last", found.last_execution),
        ("left out", found.skipped or None),
        ("queued", ", ".join(map(_instant, found.queued)) or None),
        ("next", ", ".join(map(_instant, found.next_times(3))) or None),
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
    async with target(dsn, app).client(with_code=True, starts=True) as client:
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
