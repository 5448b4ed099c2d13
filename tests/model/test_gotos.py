from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import durable.model.results as results
from durable.model.gotos import goto_targets, returns_goto
from durable.model.results import Goto
from durable.model.results import Goto as G

Function = Callable[..., Any]


class Other:
    """Has a Goto that is none, and does not like to be asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"nobody may ask for {name}")


other = Other()


def forgetful(target: str) -> str:
    return target


def plain(data: Any) -> Any:
    if data:
        return Goto("one", data)
    return Goto(data=data, target="two") if data is None else Goto("one")


async def dotted(data: Any) -> Any:
    return results.Goto("one")


def renamed(data: Any) -> Any:
    return G("one")


class Decider:
    def decide(self, data: Any) -> Any:
        return Goto("one")

    async def __call__(self, data: Any) -> Any:
        return Goto("two")


def nested() -> Function:
    from durable.model.results import Goto as Inner

    def decide(data: Any) -> Any:
        """A text
        at the margin, which is no reason not to be read."""
        return Inner("one")

    return decide


def wrapped() -> Function:
    def decorator(function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(data: Any) -> Any:
            return function(data)

        return wrapper

    @decorator
    @functools.lru_cache(maxsize=len([Goto("of the decorator")]))
    def decide(data: Any) -> Any:
        return Goto("one")

    return decide


@pytest.mark.parametrize(
    ("function", "targets"),
    [
        (plain, ("one", "two")),
        (dotted, ("one",)),
        (renamed, ("one",)),
        (Decider().decide, ("one",)),
        (Decider(), ("two",)),
        (functools.partial(Decider.decide, Decider()), ("one",)),
        (nested(), ("one",)),
        (wrapped(), ("one",)),
        (lambda data: Goto("one") if data else Goto("two"), ("one", "two")),
    ],
)
def test_the_names_that_a_function_gives_to_goto_are_read_however_it_is_written(
    function: Function, targets: tuple[str, ...]
) -> None:
    assert goto_targets(function) == targets


# fmt: off
ONE_LINE = [lambda data: Goto("one"), lambda data, more: data, lambda data: (lambda: Goto("two"))]
SEVERAL = [lambda data: data["x"], lambda data:
    Goto("one") if data
    else Goto("two"), lambda data: Goto("three")]
# fmt: on


def test_of_several_lambdas_each_has_its_own_targets() -> None:
    assert [goto_targets(function) for function in ONE_LINE] == [("one",), (), ("two",)]
    assert goto_targets(ONE_LINE[2](None)) == ("two",)
    assert [goto_targets(function) for function in SEVERAL] == [(), ("one", "two"), ("three",)]


def test_what_is_no_literal_is_no_target() -> None:
    name = "one"
    assert goto_targets(lambda data: Goto(data["x"])) == ()
    assert goto_targets(lambda data: Goto(name)) == ()
    assert goto_targets(lambda data: Goto(f"{data}")) == ()
    assert goto_targets(lambda data: Goto(**data)) == ()
    assert goto_targets(lambda data: Goto(*data)) == ()
    assert goto_targets(lambda data: Goto(5)) == ()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_what_is_called_goto_and_is_none_is_left_alone() -> None:
    def local(data: Any) -> Any:
        Goto = forgetful
        return Goto("one")

    assert goto_targets(local) == ()
    assert goto_targets(lambda data: other.Goto("one")) == ()
    assert goto_targets(lambda data: forgetful("one")) == ()
    assert not returns_goto(lambda data: forgetful("one"))


@pytest.mark.parametrize("function", [len, print, str.upper, functools.partial(len)])
def test_a_function_that_is_no_python_has_no_targets(function: Function) -> None:
    assert goto_targets(function) == ()
    assert returns_goto(function) is False


@pytest.mark.parametrize("place", ["<string>", "gone.py"])
def test_a_function_without_source_has_no_targets(place: str) -> None:
    made: dict[str, Any] = {"Goto": Goto}
    exec(compile("def decide(data): return Goto('one')", place, "exec"), made)
    assert goto_targets(made["decide"]) == ()
    assert returns_goto(made["decide"]) is False


def test_a_source_that_was_changed_since_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "flows.py"
    path.write_text("def decide(data):\n    return Goto('one')\n", encoding="utf-8")
    made = ModuleType("flows")
    vars(made).update(Goto=Goto)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(made))
    assert goto_targets(made.decide) == ("one",)
    path.write_text("\n\ndef decide(data):\n    return Goto('other')\n", encoding="utf-8")
    assert goto_targets(made.decide) == ()
    path.write_text("this is ( no Python", encoding="utf-8")
    assert goto_targets(made.decide) == ()


def test_without_columns_lambdas_that_share_a_line_are_not_read() -> None:
    code = (
        "from tests.model.test_gotos import ONE_LINE, plain, goto_targets, SEVERAL\n"
        "print([goto_targets(f) for f in (plain, *ONE_LINE, *SEVERAL)])"
    )
    root = Path(__file__).parent.parent.parent
    found = subprocess.run(
        [sys.executable, "-X", "no_debug_ranges", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=root,
    )
    assert found.stdout.strip() == "[('one', 'two'), (), (), (), (), (), ('three',)]"


def test_only_a_goto_that_the_function_itself_returns_is_returned() -> None:
    def inner(data: Any) -> Any:
        def helper() -> Any:
            return Goto("one")

        return [helper(), lambda: Goto("one")]

    def made(data: Any) -> Any:
        never = Goto("one")
        return str(never)

    def deep(data: Any) -> Any:
        for _ in data:
            with open("x"):
                if data:
                    return Goto(data)
        return None

    assert returns_goto(plain)
    assert returns_goto(deep)
    assert returns_goto(lambda data: Goto(data))
    for function in (inner, made, lambda data: (Goto("one"), data), lambda data: lambda: Goto("one")):
        assert not returns_goto(function)
