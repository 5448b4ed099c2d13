"""Whatever is typed after `durable`, and whatever others have called their executions: a command ends with an exit status that
means something and with words for people, never with a traceback; and the next command works."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from durable import Cron, Durable
from durable.cli import commands
from durable.cli.acting import read_duration
from durable.cli.operating import read_instant
from durable.cli.output import Exit, Problem
from durable.paging import write_cursor
from tests.cli import shop
from tests.cli.calling import APP

for module in ("running", "acting", "asking", "operating", "schedules", "checking"):
    importlib.import_module(f"durable.cli.{module}")

MARKUP = "[/x] [red] :smile:"  # rich reads it as a closing tag without an opening one
LONELY = "\udcff"  # how Python hands on an argument that is no UTF-8
ENDLESS = ("worker", "dev", "watch")  # and what would wait for somebody, or look for a host on the network
LEFT_OUT = {"--follow", "--wait", "--dsn", "--help"}


def known() -> Iterator[tuple[tuple[str, ...], int, list[tuple[str, bool]]]]:
    """All commands: their words, how many arguments they take, and their options with whether each is a flag."""

    def walk(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, found in group.commands.items():
            yield from walk(found, (*words, name)) if hasattr(found, "commands") else [((*words, name), found)]

    for words, found in walk(typer.main.get_command(commands.app), ()):
        if words[0] in ENDLESS:
            continue
        places = [parameter for parameter in found.params if not parameter.opts[0].startswith("-")]
        options = [
            (parameter.opts[0], bool(parameter.is_flag))
            for parameter in found.params
            if parameter.opts[0].startswith("-") and parameter.opts[0] not in LEFT_OUT
        ]
        yield words, len(places), options


COMMANDS = sorted(known())
DEEP = "[" * 3_000
WORDS = [
    "",
    "-",
    "--",
    "@",
    "@/",
    "@nothing",
    "0",
    "-1",
    "1",
    "9" * 23,
    "9" * 5_000,
    "1e999",
    "NaN",
    "null",
    '"',
    "{",
    "[]",
]
WORDS += [
    DEEP,
    '"\\ud800"',
    '{"a\\u0000": "\\u0000"}',
    "a=1",
    "a=",
    "=",
    'a="\\u0000"',
    "a=[[",
    f"a={DEEP}",
    f"a={LONELY}",
]
WORDS += [LONELY, MARKUP, f"a={MARKUP}", "x" * 600, "a|b", "fA==", "eHx5", "\x1b[31m", "٣", "ﷺ", "'; drop table x;--"]
WORDS += ["5s", "9" * 14 + "d", "9" * 400 + "d", "0001-01-01T00:00:00+23:59", "9999-12-31", "2026-01-01", "* * * * *"]
WORDS += ["completed", "double", "process_order", "default", "s", "1.0.0", "..", "0" * 8 + "-0000" * 3 + "-" + "0" * 12]
WORD = st.sampled_from(WORDS) | st.text(st.characters(blacklist_characters="\0"), max_size=8)
APPS = st.sampled_from(
    [APP, APP, f"{APP}:quick", f"{APP}:Data", "", ":", "no.such", "tests.cli", LONELY, "..x", "os:path"]
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    words, places, options = draw(st.sampled_from(COMMANDS))
    line = [*words, *(draw(WORD) for _ in range(draw(st.integers(max(places - 1, 0), places))))]
    for name, is_flag in draw(st.lists(st.sampled_from(options), max_size=3)):
        line += [name] if is_flag else [name, draw(APPS if name == "--app" else WORD)]
    if draw(st.booleans()):
        line += ["--app", APP]
    return line


@pytest.fixture
async def hostile_database(database: str) -> str:
    """With things in it that have the worst names."""
    async with Durable(database, workflows=[shop], worker=False) as client:
        for id in (MARKUP, "a|b", "\x1b[31m", "x"):
            await client.start(shop.quick, 1, id=id, queue=MARKUP, tags={MARKUP: MARKUP})
        await client.cancel("x", f"because {MARKUP}", by=MARKUP)
        await client.pause_queue(MARKUP, MARKUP, by=MARKUP)
        await client.create_schedule(MARKUP, shop.quick, Cron("0 0 * * *"), 1)
    return database


def call(*words: str) -> tuple[int, str]:
    """Call a command in this process; its exit status, and all that it has said."""
    said = CliRunner().invoke(commands.app, words, input="")
    assert said.exception is None or isinstance(said.exception, SystemExit), (words, said.exc_info)
    assert "Traceback (most recent call last)" not in said.output
    return said.exit_code, said.output


@pytest.fixture
def called(hostile_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_DATABASE_URL", hostile_database)
    monkeypatch.delenv("DURABLE_APP", raising=False)
    assert os.environ["DURABLE_DATABASE_URL"]


def test_names_that_others_have_chosen_are_shown_as_they_are(called: None, subtests: pytest.Subtests) -> None:
    for words in (["list"], ["queues", "list"], ["schedules", "list"], ["acts"], ["show", MARKUP], ["show", "x"]):
        with subtests.test(" ".join(words)):
            status, said = call(*words)
            assert status == Exit.OK
            assert MARKUP in said
            assert "\x1b" not in said, "a name gives no orders to the terminal"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines())
def test_whatever_is_typed_ends_with_a_status_and_words(called: None, line: list[str]) -> None:
    status, said = call(*line)
    assert status in set(Exit)
    assert status == Exit.OK or said.strip()
    assert not said.startswith("error: PostgreSQL:"), "that is for what PostgreSQL says of itself"


WRONG = [
    ["start", "double", "[" * 100_000],
    ["start", "double", "9" * 5_000],
    ["start", "double", "NaN"],
    ["start", "double", "1", "--priority", "99999999999"],
    ["start", "double", "1", "--delay", "9999999999999d"],
    ["start", "double", "1", "--queue", LONELY],
    ["start", LONELY, "1"],
    ["list", "--workflow", LONELY],
    ["list", "--cursor", write_cursor("list_executions", "x", "y")],
    ["acts", "--cursor", write_cursor("list_acts", "x", "y", "z")],
    ["cancel", "x", "--yes", "--reason", LONELY],
    ["cancel", "--created-before", "9999999d", "--dry-run"],
    ["queues", "pause", LONELY],
]


def test_what_cannot_be_meant_is_wrong_usage(called: None, subtests: pytest.Subtests) -> None:
    for line in WRONG:
        with subtests.test(ascii(" ".join(line))[:60]):
            assert call(*line)[0] == Exit.USAGE
    assert call("list")[0] == Exit.OK


UNITS = st.sampled_from(["ms", "s", "m", "h", "d", "", "x", "D", "٣", "e9", "-"])
NUMBERS = st.integers(0, 10**400).map(str) | st.floats().map(str) | st.text(max_size=3)
TYPED = st.lists(st.tuples(NUMBERS, UNITS).map("".join), max_size=3).map("".join) | st.text(max_size=20)


@settings(max_examples=100)
@given(TYPED | st.datetimes(timezones=st.none() | st.timezones()).map(str))
def test_a_typed_duration_or_instant_is_one_or_is_refused(typed: str) -> None:
    for reader, kind in ((read_duration, timedelta), (read_instant, datetime)):
        with contextlib.suppress(Problem):
            assert isinstance(reader(typed), kind)
