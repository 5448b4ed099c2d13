"""The commands that act on one execution: start, send-event, emit, answer."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from durable.app import Durable
from durable.authoring import Workflow
from durable.cli.asking import tags_of
from durable.cli.commands import App, AsJson, Dsn, Id, command, target
from durable.cli.output import UNITS, Exit, Problem, hint, print_json, say
from durable.cli.target import resolve
from durable.errors import DecodeError, ExecutionCancelled, ExecutionFailed
from durable.handle import Handle
from durable.ids import execution_uuid, new_id
from durable.request import check_priority, encode_tags

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

DATA_HELP = "JSON; @file reads it from a file, - from the standard input. What is no JSON is taken as text."


def read_data(given: str | None) -> Any:
    """Data as it was typed. Raises `Problem`."""
    if given is None:
        return None
    text = given
    strict = given == "-" or given.startswith("@")
    try:
        if given == "-":
            text = sys.stdin.read()
        elif given.startswith("@"):
            text = Path(given[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = "the standard input" if given == "-" else given[1:] or "a file without a name"
        raise Problem(f"{what} cannot be read: {error}.", "Text that begins with @ is written as JSON.") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if strict or text.lstrip()[:1] in ("{", "[", '"'):
            raise Problem(f"this is not JSON: {error}.", "Write it in single quotes: '{\"id\": 7}'.") from error
        return text
    except (ValueError, RecursionError) as error:
        raise Problem(
            f"this JSON cannot be read: {error}.", "Write long numbers as text; flatten deep data."
        ) from error


def read_duration(given: str | None) -> timedelta | None:
    """A duration like ``90s``, ``1h30m``. Raises `Problem`."""
    if given is None:
        return None
    parts = _DURATION.findall(given)
    if not parts or "".join(number + unit for number, unit in parts) != given:
        raise Problem(f"{given!r} is no duration.", "Write it like 90s, 15m, 1h30m, 2d.")
    try:
        return sum((UNITS[unit] * float(number) for number, unit in parts), timedelta())
    except OverflowError as error:
        raise Problem(f"{given!r:.80} is longer than can be reckoned with.", "Give at most a hundred years.") from error


@command("start")
async def start(
    workflow: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    data: Annotated[str | None, typer.Argument(help=f"The input. {DATA_HELP}", show_default=False)] = None,
    id: Annotated[str | None, typer.Option("--id", help="Starts once under an id.", show_default=False)] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Default: the workflow's.", show_default=False)
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Higher first.", show_default=False)] = None,
    delay: Annotated[str | None, typer.Option("--delay", help="Put it off: 90s, 1h30m.", show_default=False)] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="key=value; may be repeated.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result, and print it.")] = False,
    timeout: Annotated[str | None, typer.Option("--timeout", help="How long to wait.", show_default=False)] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> Exit:
    """Start an execution. With --app the data is checked; without, any workflow that a worker has registered can be started."""
    value, limit, later = read_data(data), read_duration(timeout), read_duration(delay)
    tags = tags_of(tag)
    async with target(dsn, app).client(starts=True) as client:
        if app is not None:
            known = workflow_of(client, workflow)
            given = typed(client, known, value)
            handle: Handle[Any]
            handle = await client.start(known, given, id=id, queue=queue, priority=priority, delay=later, tags=tags)
            created = handle.created
        else:
            text = client.codec.encode(value)
            created = id is None or not await client.parts().executions.fetch("execution/existing", execution_uuid(id))
            # Not made by PostgreSQL: what is sent again, its reply being lost, is to start nothing else.
            id = str(new_id()) if id is None else id
            seconds = None if later is None else later.total_seconds()
            rows = await client.parts().executions.fetch(
                "execution/start_by_name",
                workflow,
                text,
                id,
                queue,
                None if priority is None else check_priority(priority),
                seconds,
                None if tags is None else encode_tags(tags),
            )
            handle = client.handle(rows[0]["id"])
        if not wait:
            if as_json:
                print_json({"id": handle.id, "created": created})
            else:
                say(handle.id)
                hint("started; see: durable show " + handle.id if created else "this id had been started before")
            return Exit.OK
        return await _result(handle, limit, as_json)


def workflow_of(client: Durable, name: str) -> Workflow[Any, Any]:
    """The newest version of a workflow of the application. Raises `Problem`."""
    found = [workflow for workflow in client.workflows if workflow.name == name]
    if not found:
        names = ", ".join(sorted({workflow.name for workflow in client.workflows})) or "none"
        raise Problem(f"this application has no workflow {name!r}.", f"It has: {names}.", Exit.NOT_FOUND)
    return max(found, key=lambda workflow: workflow.version)


def typed(client: Durable, workflow: Workflow[Any, Any], value: Any) -> Any:
    """Data that was typed, as the workflow takes it. Raises `Problem`."""
    try:
        return client.codec.decode(client.codec.encode(value), workflow.definition.input_type)
    except DecodeError as error:
        raise Problem(f"the data does not fit what {workflow.name!r} takes: {error}") from error


async def _result(handle: Handle[Any], limit: timedelta | None, as_json: bool) -> Exit:
    try:
        result = await handle.result(limit)
    except TimeoutError:
        raise Problem(
            f"{handle.id} has not ended in time; it goes on.", f"durable watch {handle.id}", Exit.NO
        ) from None
    except (ExecutionFailed, ExecutionCancelled) as error:
        raise Problem(str(error), f"durable show {handle.id}", Exit.NO) from None
    print_json({"id": handle.id, "status": "completed", "result": result} if as_json else result)
    return Exit.OK


@command("send-event")
async def send_event(
    id: Id,
    name: Annotated[str, typer.Argument(help="The name of the event.", show_default=False)],
    payload: Annotated[str | None, typer.Argument(help=DATA_HELP, show_default=False)] = None,
    dedupe_key: Annotated[
        str | None, typer.Option("--dedupe-key", help="Under one key it is sent once.", show_default=False)
    ] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Send an event to an execution; it is kept until it is waited for."""
    value = read_data(payload)
    async with target(dsn, app).client() as client:
        found = await resolve(client, id)
        sent = await client.send_event(found, name, value, dedupe_key=dedupe_key)
    if as_json:
        print_json({"id": found, "name": name, "sent": sent})
    else:
        say(f"sent {name} to {found}" if sent else f"{name} was sent to {found} before under this key")


@command("emit")
async def emit(
    name: Annotated[str, typer.Argument(help="The name of the event.", show_default=False)],
    payload: Annotated[str | None, typer.Argument(help=DATA_HELP, show_default=False)] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Emit an event to whoever waits for what is in it."""
    value = read_data(payload)
    async with target(dsn, app).client() as client:
        await client.emit(name, value)
    if as_json:
        print_json({"name": name, "emitted": True})
    else:
        say(f"emitted {name}")


@command("answer")
async def answer(
    id: Id,
    name: Annotated[str, typer.Argument(help="The name of what is asked.", show_default=False)],
    value: Annotated[str, typer.Argument(help=f"The answer. {DATA_HELP}", show_default=False)],
    by: Annotated[str | None, typer.Option("--by", help="Who answers.", show_default=False)] = None,
    number: Annotated[
        int | None, typer.Option("--number", help="Which one, of several of that name.", show_default=False)
    ] = None,
    dsn: Dsn = None,
    app: App = None,
    as_json: AsJson = False,
) -> None:
    """Answer what an execution asks: approved, rejected, a choice, a text, or an object for a form."""
    async with target(dsn, app).client() as client:
        found = await resolve(client, id)
        asked = (await client.get_execution(found, include_steps=True)).inputs or []
        kinds = {item.type for item in asked if item.name == name and item.status == "pending"}
        given = value if kinds == {"text"} and value[:1] not in ("@", '"') and value != "-" else read_data(value)
        await client.provide_input(found, name, given, by=by, number=number)
    if as_json:
        print_json({"id": found, "name": name, "answered": True})
    else:
        say(f"answered {name} of {found}")
