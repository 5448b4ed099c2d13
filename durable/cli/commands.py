"""All commands together, and what they have in common: options, and how errors end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Annotated, Any, TypeAlias

import asyncpg
import typer

from durable.cli.output import Declined, Exit, Problem, complain, err, hint
from durable.cli.target import Target
from durable.errors import (
    DefinitionError,
    DurableError,
    ExecutionEnded,
    IdConflict,
    InputRejected,
    NoPendingInput,
    NotRetryable,
    QueueFull,
    SchemaTooNew,
    StoreUnavailable,
    UnknownExecution,
    UnknownSchedule,
    UnknownWorkflow,
)
from durable.paging import PAGE_MAX

app = typer.Typer(
    name="durable",
    help="Durable workflows for asyncio, kept in PostgreSQL: run them, look at them, act on them.",
    epilog="The database: --dsn, or DURABLE_DATABASE_URL, or that of the engine, or the embedded one in .durable/. "
    "The code: --app module:engine, or DURABLE_APP. Exit statuses: 0 done, 1 the answer is no, 2 wrong usage, "
    "3 not found, 4 refused, 5 database.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"durable {version('durable')}\n")
        raise typer.Exit


@app.callback()
def _of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


Dsn: TypeAlias = Annotated[
    str | None, typer.Option("--dsn", help="The database. Default: DURABLE_DATABASE_URL.", show_default=False)
]
App: TypeAlias = Annotated[
    str | None,
    typer.Option("--app", envvar="DURABLE_APP", help="Your engine, as module:engine.", show_default=False),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PageLimit: TypeAlias = Annotated[int, typer.Option("--limit", "-n", min=1, max=PAGE_MAX, help="How many.")]
Cursor: TypeAlias = Annotated[
    str | None, typer.Option("--cursor", help="Where the page before ended.", show_default=False)
]
Id: TypeAlias = Annotated[str, typer.Argument(help="An id, or its beginning.", show_default=False)]

_STATUSES: list[tuple[type[Exception], Exit]] = [
    (UnknownExecution, Exit.NOT_FOUND),
    (UnknownWorkflow, Exit.NOT_FOUND),
    (UnknownSchedule, Exit.NOT_FOUND),
    (NoPendingInput, Exit.NOT_FOUND),
    (ExecutionEnded, Exit.REFUSED),
    (InputRejected, Exit.REFUSED),
    (IdConflict, Exit.REFUSED),
    (NotRetryable, Exit.REFUSED),
    (QueueFull, Exit.REFUSED),
    (SchemaTooNew, Exit.DATABASE),
    (StoreUnavailable, Exit.DATABASE),
]
_CURES: dict[type[Exception], str] = {
    NoPendingInput: "`durable pending` lists what is asked.",
    UnknownSchedule: "`durable schedules list` lists them.",
    UnknownExecution: "`durable list` shows the latest.",
    ExecutionEnded: "`durable show` says how.",
}

Work: TypeAlias = Callable[..., Coroutine[Any, Any, Exit | None]]


def command(
    name: str, group: typer.Typer = app, *, shared: Callable[..., None] | None = None, **options: Any
) -> Callable[[Work], Work]:
    """Make a coroutine function the command *name*. What it returns, or raises, becomes the exit status. It takes the
    parameters of *shared*, too, as keywords: what several commands have in common is declared once."""

    def declare(work: Work) -> Work:
        @functools.wraps(work)
        def wrapped(**given: Any) -> None:
            raise typer.Exit(finish(lambda: work(**given)))

        wrapped.__signature__ = _signature(work, shared)  # type: ignore[attr-defined]
        group.command(name, **options)(wrapped)
        return work

    return declare


def _signature(work: Work, shared: Callable[..., None] | None) -> inspect.Signature:
    own = inspect.signature(work, eval_str=True)
    if shared is None:
        return own
    common = inspect.signature(shared, eval_str=True).parameters.values()
    named = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    return own.replace(parameters=[*named, *common])


def finish(work: Callable[[], Coroutine[Any, Any, Exit | None]]) -> Exit:
    """Run it, and turn what the user can mend into a message and a status."""
    try:
        return asyncio.run(work()) or Exit.OK
    except Problem as problem:
        complain(problem)
        return problem.status
    except Declined as declined:
        hint("nothing was changed")
        return declined.status
    except (KeyboardInterrupt, asyncio.CancelledError):
        err.print("interrupted", style="dim")
        return Exit.INTERRUPTED
    except DefinitionError as error:
        complain(Problem(str(error)))
        return Exit.USAGE
    except DurableError as error:
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), Exit.USAGE)
        complain(Problem(str(error), _CURES.get(type(error), "")))
        return status
    except BrokenPipeError:
        return Exit.OK  # whoever reads has read enough: `| head`
    except asyncpg.InsufficientPrivilegeError as error:
        complain(Problem(f"PostgreSQL: {error}.", "Use a role that may do this, or `durable migrate --grant ROLE`."))
        return Exit.DATABASE
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        if (ours := _said_by_sql(error)) is not None:
            complain(ours)
            return ours.status
        if isinstance(error, asyncpg.DataError):
            complain(Problem(f"PostgreSQL cannot take what was given: {error}."))
            return Exit.USAGE
        complain(Problem(f"PostgreSQL: {error or type(error).__name__}.", "See that it runs, and that --dsn is right."))
        return Exit.DATABASE


def _said_by_sql(error: Exception) -> Problem | None:
    """What a function of ours in the database says; None if it is none of them."""
    if not isinstance(error, asyncpg.PostgresError) or not str(error).startswith("durable: "):
        return None
    missing = isinstance(error, asyncpg.UndefinedObjectError | asyncpg.NoDataFoundError)
    refused = isinstance(
        error,
        asyncpg.UniqueViolationError | asyncpg.ObjectNotInPrerequisiteStateError | asyncpg.ProgramLimitExceededError,
    )
    status = Exit.NOT_FOUND if missing else Exit.REFUSED if refused else Exit.USAGE
    what, _, _ = str(error).removeprefix("durable: ").partition("\n")
    return Problem(what, error.hint or "", status)


def target(dsn: str | None, app: str | None = None) -> Target:
    """What the options name."""
    return Target(dsn, app)


def confirm(question: str, yes: bool) -> None:
    """Ask, unless *yes*. Raises `Problem` when there is nobody to ask, and `Declined` for whatever is not a yes.

    The question goes to the standard error, so that what is printed for programs stays clean."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Problem(
            f"{question} Nobody can be asked here: the standard input is no terminal.", "Give --yes to say so."
        )
    # The loop's own handler would only note the interrupt, and have us go on reading.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while (answer := _read_answer(question)) not in ("y", "yes"):
            if answer in ("", "n", "no"):
                raise Declined(Exit.NO)
            err.print("Answer y or n.")
    except KeyboardInterrupt:
        err.print()
        raise Declined(Exit.INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, handler)


def _read_answer(question: str) -> str:
    """A line in lower case; the end of the input is an empty one."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        err.print()
    return line.strip().lower()


def declare() -> typer.Typer:
    """The app, with all of its commands: importing their modules declares them."""
    for module in ("running", "acting", "asking", "operating", "schedules", "checking"):
        importlib.import_module(f"durable.cli.{module}")
    return app


def run() -> None:
    """Run the command line."""
    declare()
    logging.basicConfig(level="ERROR", format="%(message)s", stream=sys.stderr)
    logging.getLogger("durable").setLevel("ERROR")
    with contextlib.suppress(BrokenPipeError):
        app()
