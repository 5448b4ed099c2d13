"""A PostgreSQL that starts with the application and ends with it, for development, demos and tests.

Owns: finding server binaries, one data folder, one running server, and its takeover by another process of the
same folder. Refuses: production. Nothing here makes backups or upgrades; a database server does, so pass its DSN.

How it holds together: a process that wants a database in a folder tries the lock file in it. Whoever gets the lock
starts a small watcher process (`watcher.py`), which starts the server. The lock is handed down to both and is free
again only when the last of them is gone, so two servers never meet on one folder. The watcher holds a pipe to its
application; when the application ends, however it ends, the pipe breaks and the watcher stops the server. Every
process without the lock keeps trying it, and takes over under the same DSN.
"""

from __future__ import annotations

from durable.errors import ConfigurationError

try:
    import fcntl as _fcntl
except ModuleNotFoundError:  # Windows: no flock and no asyncpg over unix sockets
    raise ConfigurationError(
        "the embedded PostgreSQL needs Linux or macOS; on this system pass a DSN or set DURABLE_DATABASE_URL"
    ) from None

from durable.embedded.keeper import EmbeddedPostgres

del _fcntl

__all__ = ["EmbeddedPostgres"]
