"""However a workflow is put together: it is one that can be drawn and run, or it is refused with a `DefinitionError`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import Context, Cron, Durable, Goto, Retry, Workflow
from durable.errors import DefinitionError


class Order(TypedDict):
    id: str


class Callee:
    async def __call__(self, data: Any) -> Any: ...

    async def method(self, data: Any) -> Any: ...


class NoSignature:
    __signature__ = "none"

    def __call__(self, data: Any) -> Any: ...


async def step(data: Any) -> Any: ...
async def other(data: int) -> str: ...
async def typed(data: Order) -> Order: ...
async def nothing() -> None: ...
async def with_context(data: Any, ctx: Context) -> Any: ...
async def two_contexts(data: Any, a: Context, b: Context) -> Any: ...
async def three(data: Any, item: Any, index: int) -> Any: ...
async def four(a: Any, b: Any, c: Any, d: Any) -> Any: ...
async def keyword(data: Any, *, more: int) -> Any: ...
async def starred(*data: Any, **more: Any) -> Any: ...
async def generator(data: Any) -> Any:
    yield data


async def unknown_name(data: Nowhere) -> Any: ...  # type: ignore[name-defined] # noqa: F821
async def bad_annotation(data: 1 / 0) -> Any: ...  # type: ignore[valid-type]
async def callable_annotation(data: Callable[[], int]) -> Any: ...
async def goes(data: Any) -> Any:
    return Goto("a", data)


async def goes_nowhere(data: Any) -> Any:
    return Goto("nowhere", data)


def plain(data: Any) -> Any: ...


FUNCTIONS: list[Any] = [
    step,
    step,
    other,
    typed,
    nothing,
    with_context,
    two_contexts,
    three,
    four,
    keyword,
    starred,
    generator,
]
FUNCTIONS += [
    unknown_name,
    bad_annotation,
    callable_annotation,
    goes,
    goes_nowhere,
    plain,
    lambda data: data,
    lambda: 1,
]
FUNCTIONS += [
    Callee(),
    Callee().method,
    functools.partial(step, 1),
    NoSignature(),
    len,
    print,
    int,
    None,
    5,
    "step",
    object,
]
ODD_NAMES: list[Any] = [
    "",
    " ",
    "a/b",
    "a#1",
    "a[0]",
    "x" * 300,
    "\0",
    "\ud800",
    "\n",
    "otherwise",
    5,
    b"a",
    True,
    None,
]
ODD: list[Any] = [
    None,
    0,
    -1,
    1,
    2,
    0.5,
    float("nan"),
    float("inf"),
    10**30,
    True,
    "",
    "x",
    b"",
    [],
    {},
    object,
    object(),
]
ODD += [timedelta(0), timedelta(-1), timedelta(5), timedelta.max, Retry(), Cron("* * * * *"), step]


def mostly(fitting: list[Any], odd: list[Any]) -> st.SearchStrategy[Any]:
    """What fits, so that what is odd is not the first thing that is looked at."""
    return st.integers(0, 11).flatmap(lambda n: st.sampled_from(fitting if n else odd))


NAMES = mostly(list("abcdefghij"), ODD_NAMES)
FUNCTION = mostly([step, nothing, with_context, plain], FUNCTIONS)
RULE = mostly([lambda: 1, lambda data: data], FUNCTIONS)


def value(*fitting: Any) -> st.SearchStrategy[Any]:
    return mostly(list(fitting), ODD)


class Build:
    """Calls of the builder, as they are drawn."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw

    def options(self, **strategies: st.SearchStrategy[Any]) -> dict[str, Any]:
        """Some of these options."""
        chosen = self.draw(st.lists(st.sampled_from(sorted(strategies)), max_size=2, unique=True))
        return {name: self.draw(strategies[name]) for name in chosen}

    def run_options(self) -> dict[str, Any]:
        return self.options(name=NAMES, retry=value(Retry(3)), timeout=value(timedelta(1)), process=value(False))

    def block(self, block: Any, depth: int) -> None:
        for _ in range(self.draw(st.integers(0 if depth else 1, 3))):
            kinds = ["step", "step", "decision", "branch", "parallel", "foreach", "loop"]
            getattr(self, self.draw(st.sampled_from(kinds[: 7 if depth < 2 else 3])))(block, depth)

    def step(self, block: Any, depth: int) -> None:
        more = self.options(compensate=FUNCTION, compensate_on=value("completed", "started"))
        block.step(self.draw(FUNCTION), **self.run_options(), **more)

    def decision(self, block: Any, depth: int) -> None:
        block.decision(self.draw(FUNCTION), **self.run_options(), **self.options(max_visits=value(5)))

    def branch(self, block: Any, depth: int) -> None:
        branch = block.branch(self.draw(NAMES), on=self.draw(RULE))
        for _ in range(self.draw(st.integers(0, 2))):
            self.block(branch.case(self.draw(value(1, True, 2, 3, *"abc")), **self.options(name=NAMES)), depth + 1)
        if self.draw(st.booleans()):
            self.block(branch.otherwise, depth + 1)

    def parallel(self, block: Any, depth: int) -> None:
        options = self.options(merge=value("deep", "collect"), on_error=value("fail_fast", "complete_all"), into=RULE)
        parallel = block.parallel(self.draw(NAMES), **options)
        for _ in range(self.draw(st.integers(0, 3))):
            if self.draw(st.booleans()):
                parallel.step(self.draw(FUNCTION), **self.run_options(), **self.options(key=NAMES))
            else:
                self.block(parallel.arm(self.draw(NAMES), **self.options(key=NAMES)), depth + 1)

    def foreach(self, block: Any, depth: int) -> None:
        options = self.options(
            concurrency=value(1, 3),
            on_error=value("continue", "fail_fast"),
            tolerate=value(1, 0.5),
            collect_as=NAMES,
            into=RULE,
        )
        self.block(block.foreach(self.draw(NAMES), items=self.draw(RULE), **options), depth + 1)

    def loop(self, block: Any, depth: int) -> None:
        options = self.options(max_iterations=value(3))
        self.block(block.loop(self.draw(NAMES), until=self.draw(RULE), **options), depth + 1)


@pytest.mark.timeout(60)
@settings(max_examples=150)
@given(st.data())
def test_a_workflow_can_be_drawn_and_run_or_is_refused(data: st.DataObject) -> None:
    build = Build(data.draw)
    options = build.options(
        version=value(2),
        queue=NAMES,
        timeout=value(timedelta(1)),
        retry=value(Retry(3)),
        priority=value(5),
        retention=value(timedelta(9)),
        on_failure=FUNCTION,
        schedule=value(Cron("* * * * *")),
    )
    types = data.draw(mostly([(Any, Any)], [(int, str), (Order, Order), ("Nowhere", Any), (5, 5), (list, dict)]))
    try:
        name = data.draw(NAMES)
        workflow = Workflow[types](name, **options)  # type: ignore[valid-type]
        build.block(workflow, 0)
        assert workflow.definition.shape
        Durable("postgresql://nobody", workflows=[workflow])
        assert workflow.graph().mermaid()
    except DefinitionError as error:
        refused = str(error)
    else:
        return
    assert refused
