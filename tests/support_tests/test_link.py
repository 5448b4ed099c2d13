"""What asyncpg never sends, against a server that is played."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from tests.support.proxy import Proxy
from tests.support.wire import ProtocolUnknown

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

STARTUP = struct.pack("!II", 9, 196608) + b"\0"
COPY = b"COPY t FROM STDIN\0"


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


QUERY, COPY_DONE, SYNC = _message(b"Q", COPY), _message(b"c"), _message(b"S")
COPY_IN, READY = _message(b"G", b"\0\0\0"), _message(b"Z", b"I")


@asynccontextmanager
async def _server(play: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(STARTUP)) == STARTUP
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await play(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://127.0.0.1:{server.sockets[0].getsockname()[1]}/d"


@asynccontextmanager
async def _client(proxy: Proxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.dsn).port)
    writer.write(STARTUP)
    yield reader, writer
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_client_that_waits_for_leave_to_copy_gets_it_though_the_answer_is_held() -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(QUERY)) == QUERY
        writer.write(COPY_IN)
        assert await reader.readexactly(len(COPY_DONE)) == COPY_DONE
        writer.write(READY)
        await reader.read()

    async with _server(copy) as dsn, Proxy(dsn) as proxy, _client(proxy) as (reader, writer):
        hold = proxy.hold_reply("COPY")
        writer.write(QUERY)
        assert await asyncio.wait_for(reader.readexactly(len(COPY_IN)), 30) == COPY_IN
        assert hold.struck == 0
        writer.write(COPY_DONE)
        await hold
        hold.release()
        assert await asyncio.wait_for(reader.readexactly(len(READY)), 30) == READY


async def test_answers_of_pipelined_statements_are_told_apart() -> None:
    bind = _message(b"B", b"\0s\0\0\0\0\0\0\0") + _message(b"E", b"\0\0\0\0\0") + SYNC
    statements = [_message(b"P", b"s\0SELECT %d\0\0\0" % n) + bind for n in (1, 2)]
    answers = [_message(b"C", b"first\0") + READY, _message(b"C", b"second\0") + READY]

    async def answer_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(sum(map(len, statements)))
        writer.write(b"".join(answers))
        await reader.read()

    async with _server(answer_both) as dsn, Proxy(dsn) as proxy, _client(proxy) as (reader, writer):
        lost = proxy.cut_after_commit("SELECT 2")
        writer.write(b"".join(statements))
        assert await asyncio.wait_for(reader.read(), 30) == answers[0]
        await lost
        assert proxy.statements == ["SELECT 1", "SELECT 2"]


async def test_copy_in_the_extended_protocol_is_refused() -> None:
    extended = _message(b"P", b"\0" + COPY + b"\0\0") + _message(b"B", b"\0\0\0\0\0\0\0\0")
    extended += _message(b"E", b"\0\0\0\0\0") + SYNC

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(extended))
        writer.write(COPY_IN)
        await reader.read()

    async def speak() -> None:
        async with _server(copy) as dsn, Proxy(dsn) as proxy, _client(proxy) as (reader, writer):
            writer.write(extended)
            assert await asyncio.wait_for(reader.read(), 30) == b""

    with pytest.raises(ExceptionGroup) as failure:
        await speak()
    assert failure.group_contains(ProtocolUnknown, match="COPY FROM STDIN")
