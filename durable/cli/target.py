"""What a command is about: the database, the application's engine, and the executions that an id or its beginning names."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from uuid import UUID

import asyncpg

from durable.app import DSN_VARIABLE, Durable
from durable.authoring import Workflow
from durable.cli.output import Exit, Problem
from durable.errors import DurableError
from durable.ids import execution_uuid, shown_id
from durable.store.connection import LOST
from durable.store.migrate import migrations
from durable.store.queries import load

FOLDER = Path(".durable")
RECENT = 1_000
SHOWN = 10
_HEX = re.compile(r"[0-9a-f-]{4,36}")


# --- The application ------------------------------------------------------------------------------------------------


def load_engine(target: str) -> Durable:
    """The engine that ``module:name`` names (by default ``engine``); of a module that has none but workflows, one is made.

    The folder where the command is called comes first in the path. Raises `Problem`."""
    module_name, _, name = target.partition(":")
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        raise Problem(
            f"{target!r} is not the name of a module.", "Write it as Python imports it: --app shop.main:engine"
        )
    sys.path.insert(0, str(Path.cwd()))
    module = _imported(module_name)
    found: Any = getattr(module, name or "engine", None)
    if found is None and not name:
        found = _only_engine(module)
    if isinstance(found, Workflow):
        found = Durable(workflows=[cast("Workflow[Any, Any]", found)])
    elif callable(found) and not isinstance(found, Durable):
        found = found()  # a factory
    if not isinstance(found, Durable):
        raise Problem(
            f"module {module_name!r} has no engine called {name or 'engine'!r}"
            + ("." if found is None else f": it is {type(found).__name__}."),
            f"Make one there: {name or 'engine'} = Durable(workflows=[...]), or name another: --app {module_name}:NAME",
        )
    return found


def _only_engine(module: ModuleType) -> Durable | None:
    values = list(vars(module).values())
    engines = [value for value in values if isinstance(value, Durable)]
    if len(engines) > 1:
        names = [name for name, value in vars(module).items() if isinstance(value, Durable)]
        raise Problem(f"module {module.__name__!r} has several engines.", f"Name one of {', '.join(names)}.")
    if engines:
        return engines[0]
    return Durable(workflows=[module]) if any(issubclass(type(value), Workflow) for value in values) else None


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Problem(
                f"there is no module {name!r} in {Path.cwd()}.", "Call durable in the folder of your project."
            ) from error
        raise Problem(
            f"module {name!r} cannot be imported: {error}{_where(error)}", "Install what it needs."
        ) from error
    except DurableError as error:
        raise Problem(f"module {name!r} cannot be imported: {error}") from error
    except Exception as error:
        what = f"module {name!r} cannot be imported: {type(error).__name__}: {error}{_where(error)}"
        raise Problem(what, "Mend it; `python -c 'import ...'` shows the whole traceback.") from error


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    if isinstance(error, SyntaxError):
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


# --- The database ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """What the options of a command name."""

    dsn: str | None = None
    app: str | None = None

    def engine(self) -> Durable:
        """The application's engine. Raises `Problem`."""
        if self.app is None:
            raise Problem(
                "this needs your code, and no application was named.", "Give --app module:engine, or set DURABLE_APP."
            )
        return load_engine(self.app)

    @contextlib.asynccontextmanager
    async def database(self, *, may_create: bool = False) -> AsyncGenerator[str]:
        """The DSN: that of the option, of the environment, of the application's engine, or of the embedded PostgreSQL of this
        folder, which runs meanwhile. Raises `Problem`."""
        dsn = self.dsn or os.environ.get(DSN_VARIABLE) or (self.engine().dsn if self.app else None)
        if dsn is not None:
            yield dsn
            return
        if not may_create and not (FOLDER / "data").exists():
            raise Problem(
                f"no database was named, and there is no {FOLDER}/ here.",
                f"Give --dsn postgresql://..., or set {DSN_VARIABLE}; or begin with `durable dev module:engine`.",
            )
        from durable.embedded import EmbeddedPostgres  # only here: it is not for every system

        async with await EmbeddedPostgres.start(FOLDER) as server:
            yield server.dsn

    @contextlib.asynccontextmanager
    async def client(self, *, with_code: bool = False, starts: bool = False) -> AsyncGenerator[Durable]:
        """A running client: with the workflows and the codec of the application, if one was named. The schema must be ours: a
        command that asks something must not migrate a database, nor tell it of the code here unless it *starts* something.
        Raises `Problem`."""
        engine = self.engine() if with_code or self.app is not None else None
        async with self.database() as dsn:
            await check_schema(dsn)
            client = Durable(dsn, worker=False) if engine is None else engine.as_client(dsn, starts=starts)
            async with client:
                yield client


async def check_schema(dsn: str) -> None:
    """Raise `Problem` when the database cannot be reached, or its schema is not the one that this program knows."""
    version, newest = await schema_version(dsn), migrations()[-1].version
    if version == 0:
        raise Problem("this database was never migrated.", "Run `durable migrate`.", Exit.DATABASE)
    if version < newest:
        raise Problem(
            f"the schema is at version {version}, and this program knows {newest}.",
            "Run `durable migrate`, or use the version of durable that its workers run.",
            Exit.DATABASE,
        )
    if version > newest:
        raise Problem(
            f"the schema is at version {version}, newer than this program, which knows {newest}.",
            "Install the version of durable that migrated it.",
            Exit.DATABASE,
        )


async def schema_version(dsn: str) -> int:
    """The version of the schema, 0 when there is none. Raises `Problem`."""
    try:
        connection = await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": "durable command"})
    except (*LOST, OSError, ValueError, asyncpg.PostgresError) as error:
        raise unreachable(dsn, error) from error
    try:
        if not await connection.fetchval(load("migration/exists").sql):
            return 0
        return int(await connection.fetchval(load("migration/version").sql))
    except asyncpg.InsufficientPrivilegeError as error:
        raise Problem(
            f"this role may not read the schema: {error}.", "Run `durable migrate --grant ROLE`.", Exit.DATABASE
        ) from error
    finally:
        await connection.close()


def unreachable(dsn: str, error: BaseException) -> Problem:
    """What to say of a database that does not answer. The password is not said."""
    shown = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", dsn)
    what = f"the database {shown} cannot be reached: {error or type(error).__name__}"
    return Problem(what, f"See that it runs, and that --dsn or {DSN_VARIABLE} is right.", Exit.DATABASE)


# --- Executions -----------------------------------------------------------------------------------------------------


async def resolve(client: Durable, given: str) -> str:
    """The id that *given* is, or that begins like it. Raises `Problem` when there is none, or more than one."""
    executions = client.parts().executions
    exact = await executions.fetch("execution/get", execution_uuid(given))
    if exact:
        return shown_id(exact[0]["execution_id"], exact[0]["name"])
    low, high = _range_of(given.lower())
    rows = await executions.fetch("execution/by_prefix", given, low, high, RECENT, SHOWN + 1)
    if len(rows) == 1:
        return shown_id(rows[0]["execution_id"], rows[0]["name"])
    if not rows:
        raise Problem(
            f"there is no execution {given!r}, and none whose id begins so.",
            "`durable list` shows the latest.",
            Exit.NOT_FOUND,
        )
    shown = [
        f"{shown_id(row['execution_id'], row['name'])}  {row['workflow']}  {row['status']}" for row in rows[:SHOWN]
    ]
    more = ["..."] if len(rows) > SHOWN else []
    count = f"more than {SHOWN}" if more else str(len(rows))
    listed = "\n  ".join(["Give more of it:", *shown, *more])
    raise Problem(f"{given!r} is the beginning of {count} ids.", listed)


def _range_of(prefix: str) -> tuple[UUID | None, UUID | None]:
    digits = prefix.replace("-", "")
    if not _HEX.fullmatch(prefix) or len(digits) < 4 or not str(UUID(digits.ljust(32, "0"))).startswith(prefix):
        return None, None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
