"""As much of PostgreSQL's wire protocol (version 3) as the fault proxy needs, without any input or output.

Owns: message boundaries, which SQL a client's messages carry out, and where a DSN leads. Follows what asyncpg
sends: Parse/Describe/Flush, then Bind/Execute/Sync, or a simple Query. Refuses, with `ProtocolUnknown`, what it
would miscount: Execute followed by Flush, COPY FROM in the extended protocol, the function call message, and TLS.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
_LONGEST_STARTUP = 10_000  # the server's own limit

NOTIFICATION = b"A"
COPY_IN = b"G"
READY = b"Z"

_PASSED_ON_AT_ONCE = frozenset((b"p", b"d", b"c", b"f", b"X"))  # password, COPY data, terminate


class ProtocolUnknown(Exception):
    """A message that the proxy cannot follow; the test would be told wrong counts."""


class Splitter:
    """Cuts a stream of bytes into whole messages, type byte and length included."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (type, whole message) for every message that is complete; keep the remainder for the next call."""
        data = self._rest + data if self._rest else data
        start, end = 0, len(data)
        while end - start >= 5:
            stop = start + 1 + int.from_bytes(data[start + 1 : start + 5], "big")
            if stop > end:
                break
            yield data[start : start + 1], data[start:stop]
            start = stop
        self._rest = data[start:]


@dataclass(slots=True)
class Batch:
    """Messages of a client up to one that asks for an answer (or that must go on at once).

    `executed` is the SQL carried out, each text once; `prepared` the SQL parsed. `awaits_ready` says that the
    server will end its answer with ReadyForQuery.
    """

    data: bytes
    executed: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    is_round_trip: bool = False
    awaits_ready: bool = False
    is_simple: bool = False


class Frontend:
    """Follows one client: which statement each name and portal stands for, and where a batch ends."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._data = bytearray()
        # Dictionaries, for their order: one statement executed a thousand times is named once.
        self._executed: dict[str, None] = {}
        self._prepared: dict[str, None] = {}

    def feed(self, data: bytes) -> Iterator[Batch]:
        """Yield the batches that *data* completes. Raises `ProtocolUnknown`."""
        for kind, message in self._splitter.feed(data):
            self._data += message
            self._read(kind, message[5:])
            if kind in _PASSED_ON_AT_ONCE:
                yield Batch(self._take_data())
            elif kind in (b"S", b"Q", b"H"):
                yield self._round_trip(kind)

    def _round_trip(self, kind: bytes) -> Batch:
        if kind == b"H" and self._executed:
            raise ProtocolUnknown(f"Execute followed by Flush instead of Sync: {next(iter(self._executed))!r}")
        batch = Batch(
            self._take_data(),
            tuple(self._executed),
            tuple(self._prepared),
            is_round_trip=True,
            awaits_ready=kind != b"H",
            is_simple=kind == b"Q",
        )
        self._executed.clear()
        self._prepared.clear()
        return batch

    def _take_data(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

    def _read(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"Q":
                self._executed[_text(body.partition(b"\0")[0])] = None
            case b"P":
                name, sql, _ = body.split(b"\0", 2)
                self._statements[name] = _text(sql)
                self._prepared[_text(sql)] = None
            case b"B":
                portal, statement, _ = body.split(b"\0", 2)
                self._portals[portal] = self._statements.get(statement, f"<unknown statement {_text(statement)!r}>")
            case b"E":
                portal = body.partition(b"\0")[0]
                self._executed[self._portals.get(portal, f"<unknown portal {_text(portal)!r}>")] = None
            case b"C":
                names = self._statements if body[:1] == b"S" else self._portals
                names.pop(body[1:].partition(b"\0")[0], None)
            case b"D" | b"H" | b"S":
                pass
            case _ if kind in _PASSED_ON_AT_ONCE:
                pass
            case _:
                raise ProtocolUnknown(f"a client's message of type {kind!r}")


def startup_length(head: bytes) -> int:
    """The length in bytes of a startup packet, from its first four bytes. Raises `ProtocolUnknown`."""
    (length,) = struct.unpack("!I", head)
    if not 8 <= length <= _LONGEST_STARTUP:
        raise ProtocolUnknown(f"a connection that begins with {head!r}, no startup packet (TLS at once?)")
    return length


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a DSN leads: a TCP host and port, or the path of a unix socket."""

    dsn: str
    host: str
    port: int

    @classmethod
    def of(cls, dsn: str) -> Upstream:
        """Read *dsn* (a URL). Raises ValueError unless it names exactly one host, in its place or as ?host=."""
        parts = urlsplit(dsn)
        query = dict(parse_qsl(parts.query))
        place = parts.netloc.rpartition("@")[2]
        # Not `parts.hostname`: it is lower-cased, which ruins the path of a socket.
        host = query.get("host") or unquote(place.rpartition(":")[0] if parts.port else place).strip("[]")
        port = query.get("port") or str(parts.port or 5432)
        if not host or "," in host + port:
            raise ValueError(f"the proxy needs a DSN that names one host, got {dsn!r}")
        return cls(dsn, host, int(port))

    @property
    def unix_path(self) -> str | None:
        """The socket's path, or None for TCP."""
        if not self.host.startswith("/"):
            return None
        return self.host if ".s.PGSQL." in self.host else f"{self.host}/.s.PGSQL.{self.port}"

    def through(self, port: int, address: str = "127.0.0.1") -> str:
        """The same DSN (user, password, database, settings) by way of *address*, *port*, without TLS."""
        parts = urlsplit(self.dsn)
        login, at, _ = parts.netloc.rpartition("@")
        kept = [
            (name, value)
            for name, value in parse_qsl(parts.query)
            if name not in ("host", "port") and not name.startswith("ssl")
        ]
        query = urlencode([*kept, ("sslmode", "disable")], quote_via=quote)
        return f"{parts.scheme}://{login}{at}{address}:{port}{parts.path}?{query}"
