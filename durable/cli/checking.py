"""The commands for operation: migrate, check, doctor."""

from __future__ import annotations

from typing import Annotated

import asyncpg
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from durable.cli.commands import App, AsJson, Dsn, command, target
from durable.cli.output import COLOURS, Exit, Problem, err, hint, out, print_json, print_json_line, raw, say, table
from durable.cli.target import check_schema, load_engine, schema_version, unreachable
from durable.doctor import Finding, counted, examine, mend
from durable.forecast import Forecast, Group, forecast
from durable.store.connection import LOST
from durable.store.migrate import Migration, grant, migrate, migrations, script


@command("migrate")
async def migrate_(
    check: Annotated[bool, typer.Option("--check", help="Only tell: exit status 1 when something is missing.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL of what is missing, and change nothing.")] = False,
    grant_to: Annotated[
        str | None,
        typer.Option("--grant", help="Give this role what an engine needs, and nothing else.", show_default=False),
    ] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> Exit:
    """Bring the schema up to what this program knows."""
    if grant_to is not None and (check or sql):
        raise Problem("--check and --sql change nothing, and --grant does.", "Give --grant alone.")
    async with target(dsn, app).database(may_create=not (check or sql)) as found:
        version, newest = await schema_version(found), migrations()[-1].version
        missing = [migration for migration in migrations() if migration.version > version]
        if version > newest:
            await check_schema(found)
        if sql:
            if missing:
                raw(script(missing))
            else:
                hint(f"nothing is missing: the schema is at version {version}")
            return Exit.OK
        if check:
            _tell(version, missing, as_json, applied=False)
            return Exit.NO if missing else Exit.OK
        applied = await migrate(found)
        granted = [] if grant_to is None else await grant(found, grant_to)
        _tell(newest, applied, as_json, applied=True, granted=granted)
        if grant_to is not None and not as_json:
            say(f"granted to {grant_to}: rows of the schema durable, and nothing else")
    return Exit.OK


def _tell(
    version: int, changed: list[Migration], as_json: bool, *, applied: bool, granted: list[str] | None = None
) -> None:
    if as_json:
        names = [{"version": migration.version, "name": migration.name} for migration in changed]
        print_json({"version": version, ("applied" if applied else "missing"): names, "granted": granted or []})
        return
    for migration in changed:
        say(f"{'applied' if applied else 'missing'} {migration.version:04} {migration.name}")
    if applied or not changed:
        say(f"the schema is at version {version}" + ("" if changed else ", as it should be"))
    else:
        hint("Apply them: durable migrate    Or read them: durable migrate --sql")


@command("check")
async def check(
    application: Annotated[
        str | None, typer.Argument(help="Your engine, as module:engine. Default: --app.", show_default=False)
    ] = None,
    elsewhere: Annotated[
        list[str] | None,
        typer.Option("--elsewhere", help="A workflow that another program runs; may be repeated.", show_default=False),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", min=0, help="How many executions to name of each group.")] = 5,
    each: Annotated[
        bool, typer.Option("--each", help="Print a line for every execution that would not resume.")
    ] = False,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> Exit:
    """Compare your code with every execution in flight: what would a deploy do?

    Exit status 1 if something would be held, would fail, or could not be undone.
    """
    engine = load_engine(application) if application else target(dsn, app).engine()
    async with target(dsn or engine.dsn).database() as found:
        await check_schema(found)
        with Progress(
            TextColumn("judging executions"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        ) as progress:
            task = progress.add_task("judging", total=None)
            told = await forecast(
                found,
                engine.workflows,
                codec=engine.codec,
                elsewhere=elsewhere or (),
                examples=examples,
                progress=lambda done, whole: progress.update(task, completed=done, total=whole),
                each=(lambda verdict: print_json_line(verdict) if verdict.outcome != "resumes" else None)
                if each
                else None,
            )
    if as_json:
        if not each:
            print_json(told)
    else:
        _tell_forecast(told)
    return Exit.OK if told.ok else Exit.NO


def _tell_forecast(told: Forecast) -> None:
    if not told.in_flight:
        say("nothing is in flight: a deploy holds nothing up", "green")
        return
    shown = table("WORKFLOW", "IN FLIGHT", "RESUME", "HELD", "FAIL", right=["IN FLIGHT", "RESUME", "HELD", "FAIL"])
    for w in told.workflows:
        held, fail = Text(f"{w.held:,}", "red" if w.held else "dim"), Text(f"{w.fail:,}", "red" if w.fail else "dim")
        name = w.workflow if w.version == 1 else f"{w.workflow} v{w.version}"
        shown.add_row(name, f"{w.in_flight:,}", f"{w.resume:,}", held, fail)
    out.print(shown)
    for w in told.workflows:
        for group in w.holds:
            _tell_group(w.workflow, "would be held", group, "red")
        for group in w.unreadable:
            what = "could not be undone, if they have to be" if group.later else "would fail"
            _tell_group(w.workflow, what, group, "yellow" if group.later else "red")
        if w.released:
            say(f"{w.workflow}: {w.released:,} are held now and would go on", "green")
    if told.ok:
        say("every execution in flight resumes", "green")
    else:
        hint(
            "Held executions wait, unharmed, for code that can go on with them. Keep what they expect, or give the workflow "
            "a new version and keep the old one until its executions have ended."
        )


def _tell_group(workflow: str, what: str, group: Group, style: str) -> None:
    count = counted(group.executions)
    out.print()
    out.print(Text.assemble((f"{workflow}: {count} {what}", style), f" at {group.at}"))
    out.print(Text(f"  {group.reason}"))
    if group.ids:
        more = group.executions - len(group.ids)
        out.print(Text(f"  {', '.join(group.ids)}" + (f" and {more:,} more" if more else ""), style="dim"))


@command("doctor")
async def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend.")] = False,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> Exit:
    """Look for what is wrong: broken laws, stuck and held executions, dead workers, bloat, and more.

    Exit status 1 if it finds faults.
    """
    async with target(dsn, app).database() as found:
        checks, findings = await _examine(found)
        done = await mend(found, findings) if fix else []
        if done:
            _, findings = await _examine(found)
    faults = [finding for finding in findings if finding.severity != "note"]
    if as_json:
        print_json({"ok": not faults, "checks": checks, "fixed": done, "findings": findings})
        return Exit.NO if faults else Exit.OK
    for line in done:
        say(f"fixed: {line}", "green")
    for finding in findings:
        style = COLOURS[finding.severity]
        out.print(Text.assemble((f"{finding.severity:<8}", style), (f"{finding.check}: ", "bold"), finding.what))
        out.print(Text(f"        {finding.cure}", style="dim"))
    if faults:
        fixable = sum(finding.fixable for finding in findings)
        say(
            f"{len(faults)} finding{'' if len(faults) == 1 else 's'}"
            + (f", {fixable} of which --fix mends" if fixable else "")
        )
    else:
        say(f"all is well: {len(checks)} checks found no fault", "green")
    return Exit.NO if faults else Exit.OK


async def _examine(dsn: str) -> tuple[list[str], list[Finding]]:
    checks: list[str] = []
    findings: list[Finding] = []
    try:
        async for name, found in examine(dsn):
            checks.append(name)
            findings += found
    except (*LOST, OSError, asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError) as error:
        raise unreachable(dsn, error) from error
    return checks, findings
