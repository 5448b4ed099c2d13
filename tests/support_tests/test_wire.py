"""Message boundaries and DSNs, without a server."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.wire import Batch, Frontend, ProtocolUnknown, Splitter, Upstream, startup_length


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


PARSE = _message(b"P", b"s1\0SELECT $1\0\0\0")
FLUSH = _message(b"H")
SYNC = _message(b"S")
BIND = _message(b"B", b"\0s1\0\0\0\0\0\0\0")
EXECUTE = _message(b"E", b"\0\0\0\0\0")
QUERY = _message(b"Q", b"BEGIN;\0")
PASSWORD = _message(b"p", b"secret\0")

CONVERSATION = PASSWORD + PARSE + FLUSH + BIND + EXECUTE + SYNC + QUERY + BIND + EXECUTE + BIND + EXECUTE + SYNC


def _in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@given(st.lists(st.tuples(st.integers(65, 90), st.binary(max_size=50))), st.lists(st.integers(0)))
def test_messages_come_out_whole_however_the_stream_is_cut(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    whole = [(bytes([kind]), _message(bytes([kind]), body)) for kind, body in messages]
    splitter = Splitter()
    stream = b"".join(message for _, message in whole)
    assert [found for piece in _in_pieces(stream, cuts) for found in splitter.feed(piece)] == whole


@given(st.lists(st.integers(0)))
def test_batches_come_out_whole_however_the_stream_is_cut(cuts: list[int]) -> None:
    frontend = Frontend()
    assert [batch for piece in _in_pieces(CONVERSATION, cuts) for batch in frontend.feed(piece)] == [
        Batch(PASSWORD),
        Batch(PARSE + FLUSH, prepared=("SELECT $1",), is_round_trip=True),
        Batch(BIND + EXECUTE + SYNC, executed=("SELECT $1",), is_round_trip=True, awaits_ready=True),
        Batch(QUERY, executed=("BEGIN;",), is_round_trip=True, awaits_ready=True, is_simple=True),
        Batch((BIND + EXECUTE) * 2 + SYNC, executed=("SELECT $1",), is_round_trip=True, awaits_ready=True),
    ]


def test_a_name_parsed_again_stands_for_its_newer_sql() -> None:
    frontend = Frontend()
    again = _message(b"P", b"s1\0SELECT 2\0\0\0")
    *_, last = frontend.feed(PARSE + SYNC + BIND + EXECUTE + SYNC + again + BIND + EXECUTE + SYNC)
    assert last.executed == ("SELECT 2",)


def test_a_closed_name_stands_for_nothing() -> None:
    frontend = Frontend()
    *_, last = frontend.feed(PARSE + _message(b"C", b"Ss1\0") + SYNC + BIND + EXECUTE + SYNC)
    assert last.executed == ("<unknown statement 's1'>",)


@pytest.mark.parametrize("stream", [PARSE + BIND + EXECUTE + FLUSH, _message(b"F", b"\0\0\0\0")])
def test_what_would_be_miscounted_is_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolUnknown):
        list(Frontend().feed(stream))


def test_a_connection_that_begins_with_tls_is_refused() -> None:
    with pytest.raises(ProtocolUnknown, match="TLS"):
        startup_length(b"\x16\x03\x01\x02")


@pytest.mark.parametrize(
    ("dsn", "host", "port", "unix_path"),
    [
        ("postgresql://u:p@db.example:5433/d", "db.example", 5433, None),
        ("postgresql://u@localhost/d", "localhost", 5432, None),
        ("postgresql://u@[::1]:5433/d", "::1", 5433, None),
        ("postgresql://u@/d?host=/tmp/Cluster&port=5433", "/tmp/Cluster", 5433, "/tmp/Cluster/.s.PGSQL.5433"),
        ("postgresql://u@%2Ftmp%2FCluster:5433/d", "/tmp/Cluster", 5433, "/tmp/Cluster/.s.PGSQL.5433"),
        ("postgresql:///d?host=/tmp/.s.PGSQL.5433", "/tmp/.s.PGSQL.5433", 5432, "/tmp/.s.PGSQL.5433"),
    ],
)
def test_a_dsn_leads_to_one_place(dsn: str, host: str, port: int, unix_path: str | None) -> None:
    upstream = Upstream.of(dsn)
    assert (upstream.host, upstream.port, upstream.unix_path) == (host, port, unix_path)


@pytest.mark.parametrize("dsn", ["postgresql:///d", "postgresql://a,b/d", "postgresql:///d?host=a,b"])
def test_a_dsn_without_one_host_is_refused(dsn: str) -> None:
    with pytest.raises(ValueError, match="one host"):
        Upstream.of(dsn)


@pytest.mark.parametrize(
    ("dsn", "through"),
    [
        ("postgresql://u:p%40@h:1/d", "postgresql://u:p%40@127.0.0.1:9/d?sslmode=disable"),
        ("postgresql:///d?host=/tmp&port=1", "postgresql://127.0.0.1:9/d?sslmode=disable"),
        (
            "postgres://u@h/d?sslmode=require&sslrootcert=x&application_name=a%20b",
            "postgres://u@127.0.0.1:9/d?application_name=a%20b&sslmode=disable",
        ),
    ],
)
def test_the_way_through_keeps_login_database_and_settings(dsn: str, through: str) -> None:
    assert Upstream.of(dsn).through(9) == through
