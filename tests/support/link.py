"""One client's connection through the proxy: two pumps, and the deeds of the faults that its statements strike.

Owns: the sockets of one client and of its server session, and which answer belongs to which batch. A client that
hangs up only ends its own direction, as without a proxy: the server finishes what it had received.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.support import wire
from tests.support.faults import Deed, Fault, Hold, Match, Signal, matches

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A batch that was sent to the server and asked for an answer.

    `kind` is "execute" when it carried out statements, else "prepare" (Parse, Describe, a Bind alone, Close, a bare
    Sync). `sql` joins what was executed or prepared with ";\\n". `connection` numbers the clients' connections from 1.
    """

    connection: int
    kind: Literal["execute", "prepare"]
    sql: str


@dataclass(frozen=True, slots=True)
class _Strike:
    fault: Fault
    signal: Signal


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A batch whose ReadyForQuery is still to come, and what will happen to the answer."""

    batch: wire.Batch
    strike: _Strike | None


class _Cut(Exception):
    """Both sides shall be closed now, and this strike be told."""

    def __init__(self, strike: _Strike) -> None:
        self.strike = strike


class _Stream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.exactly = reader.readexactly
        self.write_eof = writer.write_eof
        self.abort = writer.transport.abort

    async def read(self) -> bytes:
        """What has come, b"" at the end; a reset is an end too."""
        try:
            return await self._reader.read(_CHUNK)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Link:
    """The connection of one client. Every method is for the proxy's loop."""

    def __init__(self, proxy: Proxy, number: int, client: socket.socket) -> None:
        self.number = number
        self.task: asyncio.Task[None]
        self._proxy = proxy
        self._socket = client
        self._client: _Stream | None = None
        self._server: _Stream | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._executed: set[str] = set()
        self._awaited: deque[_Awaited] = deque()
        self._chosen: list[_Strike] = []

    async def run(self) -> None:
        """Serve the client until one side ends, a fault cuts, or `abort()`. Raises `ProtocolUnknown`."""
        cut: _Strike | None = None
        try:
            await self._serve()
        except _Cut as error:
            cut = error.strike
            self._abort_streams()
        except (OSError, EOFError):
            pass
        finally:
            for stream in (self._client, self._server):
                if stream is not None:
                    await stream.close()
            if cut is not None:
                cut.signal.set()
            for strike in self._chosen:
                strike.signal.set(ConnectionError(f"{strike.fault!r}: the connection ended before it could strike"))

    def abort(self) -> None:
        """Close both sides at once, whatever is under way."""
        self._abort_streams()
        self.task.cancel()

    def freeze(self) -> None:
        """Forward nothing more, in neither direction; keep the sockets open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward again, what came meanwhile included."""
        self._flowing.set()

    def has_executed(self, match: Match) -> bool:
        """Whether a statement of this connection that was sent to the server matches."""
        return any(matches(match, sql) for sql in self._executed)

    def close_unused_socket(self) -> None:
        """Close the socket if `run()` never came to own it."""
        if self._client is None:
            self._socket.close()

    def _abort_streams(self) -> None:
        for stream in (self._client, self._server):
            if stream is not None:
                stream.abort()

    async def _serve(self) -> None:
        self._client = client = _Stream(*await asyncio.open_connection(sock=self._socket))
        packet = await self._startup(client)
        self._server = server = _Stream(*await self._connect())
        await server.write(packet)  # after a cancel request the server only hangs up
        front = asyncio.create_task(self._to_server(client, server))
        back = asyncio.create_task(self._to_client(client, server))
        try:
            await asyncio.wait({front, back}, return_when=asyncio.FIRST_COMPLETED)
            if front.done() and front.exception() is None:
                server.write_eof()
                await asyncio.wait({back})
        finally:
            front.cancel()
            back.cancel()
            await asyncio.wait({front, back})
        errors = [error for pump in (front, back) if not pump.cancelled() and (error := pump.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, OSError)):
            raise error

    @staticmethod
    async def _startup(client: _Stream) -> bytes:
        while True:
            head = await client.exactly(4)
            packet = head + await client.exactly(wire.startup_length(head) - 4)
            if int.from_bytes(packet[4:8], "big") not in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
                return packet
            await client.write(b"N")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        upstream = self._proxy.upstream
        if (path := upstream.unix_path) is not None:
            return await asyncio.open_unix_connection(path)
        return await asyncio.open_connection(upstream.host, upstream.port)

    async def _to_server(self, client: _Stream, server: _Stream) -> None:
        frontend = wire.Frontend()
        while chunk := await client.read():
            for batch in frontend.feed(chunk):
                strike = await self._before(batch) if batch.is_round_trip else None
                await self._flowing.wait()
                if batch.is_round_trip:
                    self._record(batch)
                if batch.awaits_ready:
                    self._awaited.append(_Awaited(batch, strike))
                await server.write(batch.data)

    async def _before(self, batch: wire.Batch) -> _Strike | None:
        """Delay the batch, do to it what comes before sending, and return what shall be done to its answer."""
        delay = self._proxy.delay
        if seconds := delay() if callable(delay) else delay:
            await asyncio.sleep(seconds)
        found = self._proxy.fault_for(batch.executed)
        if found is None:
            return None
        strike = _Strike(*found)
        self._chosen.append(strike)
        if strike.fault.deed is Deed.CUT_BEFORE:
            raise _Cut(strike)
        if strike.fault.deed is Deed.HOLD:
            await self._hold(strike)
            return None
        return strike

    def _record(self, batch: wire.Batch) -> None:
        self._executed.update(batch.executed)
        kind = "execute" if batch.executed else "prepare"
        self._proxy.record(RoundTrip(self.number, kind, ";\n".join(batch.executed or batch.prepared)))

    @staticmethod
    async def _hold(strike: _Strike) -> None:
        assert isinstance(strike.fault, Hold)
        strike.signal.set()
        await strike.fault.released.wait()

    async def _to_client(self, client: _Stream, server: _Stream) -> None:
        splitter = wire.Splitter()
        answer = bytearray()

        async def deliver() -> None:
            await self._flowing.wait()
            await client.write(bytes(answer))
            answer.clear()

        while chunk := await server.read():
            for kind, message in splitter.feed(chunk):
                if kind == wire.NOTIFICATION and self._proxy.drop_notifications:
                    continue
                answer += message
                if kind == wire.COPY_IN:
                    self._check_copy()
                    await deliver()  # even if the answer shall be held: libpq sends its rows only now
                elif kind == wire.READY and self._awaited:
                    if (strike := self._awaited.popleft().strike) is not None:
                        await self._after(strike)
                    await deliver()
            if answer and not (self._awaited and self._awaited[0].strike):
                await deliver()

    async def _after(self, strike: _Strike) -> None:
        if strike.fault.deed is Deed.CUT_AFTER:
            raise _Cut(strike)
        await self._hold(strike)

    def _check_copy(self) -> None:
        if not (self._awaited and self._awaited[0].batch.is_simple):
            raise wire.ProtocolUnknown("COPY FROM STDIN in the extended protocol; send it as a simple query")
