from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from durable.model.failure import MESSAGE_CHARACTERS_MAX, TRACEBACK_CHARACTERS_MAX, Failure

NOTE = len("\n... 1000000000 characters left out ...\n")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raised(error: Exception) -> Failure:
    try:
        raise error
    except Exception as caught:
        return Failure.of(caught)


def test_a_failure_names_the_exception_its_message_and_its_line() -> None:
    failure = raised(ValueError("no such order"))
    assert failure.type == "builtins.ValueError"
    assert failure.message == "no such order"
    assert "raise error\nValueError: no such order\n" in failure.traceback
    assert str(failure) == "ValueError: no such order"


def test_a_failure_without_message_reads_as_its_type() -> None:
    assert str(Failure.of(KeyboardInterrupt())) == "KeyboardInterrupt"
    assert str(Failure.of(Mute())).startswith(f"{__name__}.Mute: ")


def test_an_exception_that_was_never_raised_has_no_traceback() -> None:
    assert Failure.of(ValueError("x")).traceback == ""


def test_a_broken_str_does_not_hide_the_error() -> None:
    failure = raised(Mute())
    assert failure.type == f"{__name__}.Mute"
    assert failure.message == "<its __str__ raised RuntimeError>"
    assert "Mute" in failure.traceback


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    failure = raised(ValueError("begin" + "x" * 100_000 + "end"))
    assert failure.message.startswith("begin")
    assert failure.message.endswith("end")
    assert "96008 characters left out" in failure.message


def test_a_long_traceback_keeps_the_line_that_raised() -> None:
    def deep(level: int) -> None:
        if level:
            deeper(level - 1)
        raise ValueError("at the bottom")

    def deeper(level: int) -> None:
        deep(level)

    try:
        deep(200)
    except ValueError as error:
        trace = Failure.of(error).traceback
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.endswith("ValueError: at the bottom\n")
    assert len(trace) <= TRACEBACK_CHARACTERS_MAX + NOTE


@given(st.text(max_size=3 * MESSAGE_CHARACTERS_MAX) | st.just("\ud800" * MESSAGE_CHARACTERS_MAX))
def test_every_failure_is_bounded_and_survives_json(message: str) -> None:
    failure = raised(ValueError(message))
    assert len(failure.message) <= MESSAGE_CHARACTERS_MAX + NOTE
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure
