"""The folder of one embedded PostgreSQL (`.durable/`): what lies in it, and making it fit to be started.

Owns: the layout, the lock, the address and the command lines. Refuses: changing the permissions of anything that
durable did not make, and removing traces of a server that still runs.

    lock         held, through an inherited descriptor, by the watcher and every process of the server
    data/        the PostgreSQL data folder; a link to one elsewhere if root's server account cannot come here
    run/         the socket, private to the account; in /tmp instead when its path would be too long for a socket
    server.log   what the server has to say
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from durable.embedded.binaries import SHARED, Account, account_for, find_binaries, make_shared
from durable.errors import ConfigurationError

USER = "durable"
DATABASE = "postgres"
PORT = 5432  # only the name of the socket file: the folder of the socket is private, so nothing can clash

_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST = 103 - len(_SOCKET) - 1  # macOS allows 103 bytes for the path of a socket, Linux 107
_RESERVED = frozenset({"data_directory", "port", "unix_socket_directories", "unix_socket_permissions"})
_LOG_LIMIT = 1 << 20


class Folder:
    """One folder; all methods are synchronous and may block on the disk."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        reserved = sorted(_RESERVED & settings.keys())
        if reserved:
            raise ConfigurationError(f"the embedded PostgreSQL chooses {', '.join(reserved)} itself: leave it out")
        self.path = directory.resolve()
        self.settings = settings
        self.data = self.path / "data"
        self.new = self.path / "data.new"  # becomes `data` when initdb is through
        self.log = self.path / "server.log"

    @property
    def socket_directory(self) -> Path:
        """A function of the path and of where the data is, so that all processes and restarts have one DSN."""
        inside = self.path / "run"
        plain = re.fullmatch(r"[\w/.-]+", str(inside), re.ASCII)
        elsewhere = self.data.is_symlink() or self.new.is_symlink()
        if plain and len(str(inside)) <= _LONGEST and not elsewhere:
            return inside
        return Path("/tmp") / f"durable-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}@/{DATABASE}?host={self.socket_directory}&port={PORT}"

    def create(self) -> None:
        """Make the folder if it is not there. Missing parents are made as well."""
        if not self.path.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o755)  # root's server account has to pass through; data/ and run/ are private
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def try_lock(self) -> IO[bytes] | None:
        """The lock, held as long as any descriptor of it is open in any process; `None` if another has it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        return file

    def answers(self) -> bool:
        """Whether a server accepts connections here: asked in its own protocol, because a server in recovery
        already listens, and a stale pid file says "ready"."""
        if not self.data.exists():
            return False
        parameters = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self.socket_directory / _SOCKET))
                probe.sendall(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)
                if probe.recv(1) != b"R":
                    return False
                probe.sendall(b"X\0\0\0\4")
            except OSError:
                return False
        return True

    def prepare(self, *, may_create: bool) -> dict[str, Any]:
        """Everything the watcher needs to start a server, the lock excepted, which must be held.

        Raises:
            ConfigurationError: there are no usable binaries, the data cannot be reached, or a server that durable
                did not start runs on it.
        """
        if self.data.is_symlink() and not self.data.exists():
            raise ConfigurationError(f"{self.data} points to {self.data.readlink()}, which is gone: remove {self.path}")
        fresh = not self.data.exists()
        if fresh and not may_create:
            raise ConfigurationError(f"the data in {self.data} has been removed while it was in use")
        account = account_for(self.data)
        major = None if fresh else int((self.data / "PG_VERSION").read_text())
        binaries = find_binaries(major, account)
        if fresh:
            self._make_new(account)
        elif account is not None and not account.can_enter(self.data.resolve()):
            raise ConfigurationError(
                f"{self.data} belongs to user {account.uid}, who cannot reach it: open the folders above it to that "
                f"user (chmod o+x), or move the project, or pass a DSN"
            )
        else:
            self._clear_stale()
        self._make_socket_directory(account.uid if account else os.geteuid(), account.gid if account else -1)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_name("server.log.1"))
        return {
            "initdb": self._initdb(binaries) if fresh else None,
            "rename": [str(self.new), str(self.data)],
            "postgres": self._postgres(binaries),
            "account": account.options() if account else {},
        }

    def _make_new(self, account: Account | None) -> None:
        """An empty folder for initdb, in the place of what an interrupted first start has left."""
        if self.new.is_symlink():
            shutil.rmtree(self.new.resolve(), ignore_errors=True)
            self.new.unlink()
        elif self.new.exists():
            shutil.rmtree(self.new)
        if account is None or account.can_enter(self.path):
            self.new.mkdir(mode=0o700)
        else:
            make_shared()
            self.new.symlink_to(tempfile.mkdtemp(prefix="data-", dir=SHARED))
        if account is not None:
            os.chown(self.new, account.uid, account.gid)

    def _initdb(self, binaries: Path) -> list[str]:
        command = [str(binaries / "initdb"), "-D", str(self.new.resolve()), "-U", USER]
        # Only who may enter the private folder of the socket can connect, and nobody over the network.
        command += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C"]
        return [*command, "--no-sync"] if self.settings.get("fsync") == "off" else command

    def _postgres(self, binaries: Path) -> list[str]:
        settings = {
            "listen_addresses": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            **self.settings,
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
            "port": str(PORT),
        }
        link = self.data if self.data.exists() else self.new
        # The account may be unable to come as far as the link.
        data = link.resolve() if link.is_symlink() else self.data
        command = [str(binaries / "postgres"), "-D", str(data)]
        return command + [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _make_socket_directory(self, uid: int, gid: int) -> None:
        directory = self.socket_directory
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, os.geteuid()):
            raise ConfigurationError(
                f"{directory} was made by user {found.st_uid}, and the socket of the embedded PostgreSQL in "
                f"{self.path} belongs there: remove it, or use a folder with a shorter path, or pass a DSN"
            )
        directory.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(directory, uid, gid)
        # The lock on the folder proves that no server uses them; the number in the .lock file proves nothing.
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (directory / name).unlink(missing_ok=True)

    def _clear_stale(self) -> None:
        """Remove the pid file of a server that is gone.

        PostgreSQL would refuse to start if its number belongs to any process of the account by now. The lock on the
        folder proves that no server of ours is left; only one that was started by hand could still be there.
        """
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if _is_server_of(pid, self.data):
            raise ConfigurationError(
                f"a PostgreSQL that durable did not start (process {pid}) runs on {self.data}: stop it, or pass its DSN"
            )
        file.unlink()


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether a process is a server that works in `data`. Without /proc: whether it may be one."""
    if sys.platform.startswith("linux"):
        try:
            return os.readlink(f"/proc/{pid}/cwd") == str(data.resolve())
        except OSError:
            return False
    shown = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True)
    return Path(shown.stdout.strip()).name == "postgres"
