"""The commands that ask and change nothing: list, show, watch, events, pending, workers, graph."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from durable.app import Durable
from durable.cli import drawing
from durable.cli.commands import App, AsJson, Cursor, Dsn, Id, PageLimit, command, target
from durable.cli.output import (
    COLOURS,
    Exit,
    Problem,
    ago,
    hint,
    out,
    print_json,
    print_json_line,
    print_line,
    raw,
    short,
    status_text,
    table,
    took,
)
from durable.cli.target import resolve
from durable.cli.tree import MARKS, effect_name, head_of, tree_of
from durable.following import LifeEvent
from durable.model.failure import Failure
from durable.store.executions import Executions
from durable.view import Execution

REDRAW_SECONDS = 0.1
EFFECTS = ("waiting", "answered", "expired", "ran", "tried")

WorkflowOption = Annotated[
    str | None, typer.Option("--workflow", "-w", help="Only of this workflow.", show_default=False)
]


def tags_of(given: list[str] | None) -> dict[str, Any] | None:
    """``key=value`` as tags; a value that is JSON is taken as that. Raises `Problem`."""
    if not given:
        return None
    from durable.cli.acting import read_data  # only here: the two would import each other

    tags: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Problem(f"--tag {pair!r} has no value.", "Write it as key=value.")
        tags[key] = read_data(value)
    return tags


@command("list")
async def list_(
    workflow: WorkflowOption = None,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", help="Only of this status; may be repeated.", show_default=False),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="Only with key=value; may be repeated.", show_default=False)
    ] = None,
    limit: PageLimit = 20,
    cursor: Cursor = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """List executions, the newest first."""
    async with target(dsn, app).client() as client:
        page = await client.list_executions(
            workflow=workflow, status=status or None, tags=tags_of(tag), limit=limit, cursor=cursor
        )
    if as_json:
        print_json(page)
        return
    if not page.items:
        hint("There are none." if not (workflow or status or tag) else "There are none like that.")
        return
    shown = table("ID", "WORKFLOW", "STATUS", "QUEUE", "CREATED", "TOOK", right=["TOOK"])
    for item in page.items:
        shown.add_row(
            item.id,
            item.workflow + ("" if item.version == 1 else f" v{item.version}"),
            status_text(item.status.value),
            item.queue,
            ago(item.created_at),
            took(item.created_at, item.ended_at),
        )
    out.print(shown)
    if page.cursor is not None:
        hint(f"More: --cursor {page.cursor}")


@command("show")
async def show(
    id: Id,
    logs: Annotated[bool, typer.Option("--logs", help="With what the steps have logged.")] = False,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Show an execution: the tree of its steps with attempts, times, waits and errors."""
    async with target(dsn, app).client() as client:
        execution, children = await _whole(client, await resolve(client, id), logs=logs)
    if as_json:
        print_json(execution)
        return
    out.print(head_of(execution), soft_wrap=True)
    out.print(tree_of(execution, children))
    if execution.error is not None and execution.error.traceback:
        out.print(Text(f"\n{execution.error.traceback.rstrip()}", style="dim"))
    if any(asked.status == "pending" for asked in execution.inputs or ()):
        hint(f"Answer: durable answer {execution.id} NAME VALUE")


async def _whole(client: Durable, id: str, *, logs: bool = False) -> tuple[Execution, list[Execution]]:
    execution = await client.get_execution(id, include_steps=True, include_logs=logs)
    return execution, (await client.list_children(id)).items


@command("events")
async def events(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", help="The position of the last one that was seen.", show_default=False)
    ] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Print the life of an execution, an event a line."""
    async with target(dsn, app).client() as client:
        async for event in client.events(await resolve(client, id), after, follow=follow):
            if as_json:
                print_json_line(event)
            else:
                print_line(_line(event))


@command("watch")
async def watch(id: Id, dsn: Dsn = None, app: App = None, as_json: AsJson = False) -> Exit:
    """Watch an execution live until it has ended. Exit status 1 if it has not completed."""
    async with target(dsn, app).client() as client:
        found = await resolve(client, id)
        life = client.events(found)
        if as_json or not out.is_terminal:
            status = ""
            async for event in life:
                if as_json:
                    print_json_line(event)
                else:
                    print_line(_line(event))
                status = event.message or "" if event.kind == "ended" else status
        else:
            status = await _draw(client, found, life)
    return Exit.OK if status == "completed" else Exit.NO


async def _draw(client: Durable, id: str, life: AsyncIterator[LifeEvent]) -> str:
    """The tree, drawn anew after each event; many that come at once are one."""
    news, status = asyncio.Event(), ""
    news.set()

    async def listen() -> None:
        nonlocal status
        async for event in life:
            status = event.message or "" if event.kind == "ended" else status
            news.set()

    listening = asyncio.create_task(listen())
    try:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                over = listening.done()
                news.clear()
                execution, children = await _whole(client, id)
                live.update(Group(head_of(execution), tree_of(execution, children)), refresh=True)
                if over:
                    listening.result()
                    return status
                waiting = asyncio.create_task(news.wait())
                await asyncio.wait({listening, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                await asyncio.sleep(REDRAW_SECONDS)
    finally:
        listening.cancel()


def _line(event: LifeEvent) -> Text:
    style = COLOURS.get(event.kind, "")
    text = Text.assemble(
        (f"{event.at:%H:%M:%S.%f}"[:-3], "dim"),
        "  ",
        (f"{MARKS.get(event.kind, '•')} {event.kind:<10}", style),
        "  ",
        event.path,
    )
    if event.attempt > 1:
        text.append(f"  attempt {event.attempt}")
    if event.message:
        told = effect_name(event.message) if event.kind in EFFECTS else event.message
        text.append(f"  {told}", "" if event.kind != "ended" else COLOURS.get(told, ""))
    if event.value is not None:
        text.append(f"  {short(event.value)}", "dim")
    if isinstance(event.error, Failure):
        text.append(f"  {short(str(event.error), 200)}", "red")
    return text


@command("pending")
async def pending(
    workflow: WorkflowOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Only of this name.", show_default=False)] = None,
    limit: PageLimit = 20,
    cursor: Cursor = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """List what executions ask people, the oldest first."""
    async with target(dsn, app).client() as client:
        page = await client.list_pending_inputs(workflow=workflow, name=name, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    if not page.items:
        hint("Nobody is asked anything.")
        return
    shown = table("ID", "NAME", "TYPE", "PROMPT", "ASKED", "UNTIL")
    for asked in page.items:
        choices = ", ".join(str(choice.value) for choice in asked.choices)
        shown.add_row(
            asked.id,
            asked.name,
            asked.type + (f": {choices}" if choices and asked.type == "choice" else ""),
            Text(short(asked.prompt or "", 60)),
            ago(asked.requested_at),
            ago(asked.due_at),
        )
    out.print(shown)
    if page.cursor is not None:
        hint(f"More: --cursor {page.cursor}")


@command("workers")
async def workers(dsn: Dsn = None, app: App = None, as_json: AsJson = False) -> None:
    """List the workers that are known, and what they run."""
    async with target(dsn, app).client() as client:
        executions: Executions = client.parts().executions
        rows = [dict(row) for row in await executions.fetch("worker/list")]
    if as_json:
        print_json(rows)
        return
    if not rows:
        hint("No worker is known: nothing runs. Start one: durable worker --app module:engine")
        return
    shown = table("WORKER", "HOST", "PID", "STARTED", "RUNNING", "STATE", right=["PID", "RUNNING"])
    for row in rows:
        state = (
            "dead" if row["dead"] else "leaves" if row["signed_off"] else "silent" if row["lease_in"] < 0 else "well"
        )
        style = {"well": "green", "leaves": "yellow"}.get(state, "red")
        shown.add_row(
            str(row["worker_id"]),
            row["host"],
            str(row["pid"]),
            ago(row["started_at"]),
            str(row["running"]),
            Text(state, style=style),
        )
    out.print(shown)


@command("graph")
async def graph(
    workflow: Annotated[
        str | None, typer.Argument(help="Its name; may be left out if there is one.", show_default=False)
    ] = None,
    version: Annotated[int | None, typer.Option("--version", help="Default: the latest.", show_default=False)] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As Mermaid, to be pasted into Markdown.")] = False,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Draw a workflow: as a tree, or as Mermaid."""
    engine = target(None, app).engine()
    known = {(w.name, w.version): w for w in engine.workflows}
    names = sorted({name for name, _ in known})
    if workflow is None and len(names) == 1:
        workflow = names[0]
    versions = [v for name, v in known if name == workflow and version in (None, v)]
    if workflow is None or not versions:
        what = (
            "there are several workflows."
            if workflow is None
            else f"there is no workflow {workflow!r}" + ("." if version is None else f" version {version}.")
        )
        raise Problem(what, f"Name one of: {', '.join(names) or 'none, the engine has no workflows'}.", Exit.NOT_FOUND)
    found = known[workflow, max(versions)]
    if mermaid:
        raw(found.graph().mermaid())
    elif as_json:
        print_json(found.graph())
    else:
        out.print(drawing.tree_of(found.definition))
