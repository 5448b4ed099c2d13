from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from durable.authoring import In, Workflow
from durable.errors import DefinitionError
from durable.model.definition import Definition, Step
from durable.model.fingerprint import fingerprint, shape_of
from durable.model.retry import Retry

from .contexts import Context

if TYPE_CHECKING:
    from decimal import Decimal

THIS = __file__


def line_of(text: str) -> int:
    """The only line of this file that contains *text*, apart from the one that asks."""
    lines = Path(THIS).read_text(encoding="utf-8").splitlines()
    (line,) = [number for number, line in enumerate(lines, 1) if text in line and "line_of(" not in line]
    return line


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    total: int


def steps_of(definition: Definition) -> list[Step]:
    return [node for node in definition.body if isinstance(node, Step)]


def only_step(workflow: Workflow[Any, Any]) -> Step:
    (step,) = steps_of(workflow.definition)
    return step


def refused(function: Any, **options: Any) -> str:
    """The reason why *function* is no step, and that it is refused before `definition` is asked for."""
    with pytest.raises(DefinitionError) as caught:
        Workflow("order").step(function, **options)
    return str(caught.value)


def top_level(data: Any) -> Any:
    return data


def shadowed(data: Any) -> Any:
    return data


genuine = shadowed


def shadowed(data: Any) -> Any:  # type: ignore[no-redef]
    return data


# --- the decorator -------------------------------------------------------------------------------------------


async def test_the_decorator_returns_the_function_itself() -> None:
    orders = Workflow("order")

    async def validate(order: Order) -> Order:
        return order

    assert orders.step(validate) is validate
    assert orders.step(name="again")(validate) is validate
    assert orders.step()(top_level) is top_level
    assert orders.step(validate, name="third") is validate
    assert [step.name for step in steps_of(orders.definition)] == ["validate", "again", "top_level", "third"]
    assert await validate(Order("a")) == Order("a")


def test_where_a_step_runs_follows_from_how_it_is_written() -> None:
    orders = Workflow("order")

    @orders.step
    async def on_the_loop(data: Any) -> Any: ...

    @orders.step
    def in_a_thread(data: Any) -> Any: ...

    orders.step(process=True)(top_level)
    assert [step.runs_in for step in steps_of(orders.definition)] == ["loop", "thread", "process"]


def test_a_step_keeps_its_options_and_its_place() -> None:
    orders = Workflow("order")
    retry = Retry(max_attempts=3)

    @orders.step(name="pay", retry=retry, timeout=timedelta(seconds=5))  # the place of the step
    async def charge(order: Order) -> Receipt: ...

    step = only_step(orders)
    assert (step.name, step.retry, step.timeout) == ("pay", retry, timedelta(seconds=5))
    assert (step.source.file, step.source.line) == (THIS, line_of("# the place of the step"))
    assert (step.signature.input_type, step.signature.output_type) == (Order, Receipt)


class Mailer:
    async def send(self, order: Order) -> Receipt: ...

    async def __call__(self, order: Order) -> Receipt: ...


async def with_prefix(prefix: str, order: Order) -> Receipt: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Mailer().send, "send"),
        (Mailer(), "Mailer"),
        (functools.partial(with_prefix, "x"), "with_prefix"),
        (functools.partial(Mailer().send), "send"),
    ],
    ids=["method", "object", "partial", "partial of a method"],
)
def test_methods_objects_and_partials_are_steps_too(function: Callable[..., Any], name: str) -> None:
    orders = Workflow("order")
    orders.step(function)
    step = only_step(orders)
    assert (step.name, step.runs_in, step.source.file) == (name, "loop", THIS)
    assert (step.signature.positional, step.signature.input_type) == (1, Order)
    assert step.signature.output_type is Receipt


def test_a_lambda_is_a_step_once_it_has_a_name() -> None:
    assert "is empty. Pass name=" in refused(lambda data: data)
    orders = Workflow("order")
    orders.step(lambda data: data, name="same")  # the place of the lambda
    step = only_step(orders)
    assert (step.name, step.source.line) == ("same", line_of("# the place of the lambda"))


def test_a_builtin_is_placed_where_it_was_made_a_step() -> None:
    orders = Workflow("order")
    orders.step(len)  # the place of the builtin
    step = only_step(orders)
    assert (step.name, str(step.source)) == ("len", f"{THIS}:{line_of('# the place of the builtin')}")


def test_a_decorated_function_is_placed_where_its_author_wrote_it() -> None:
    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any) -> Any:
            return await function(*args)

        return wrapper

    async def charge(order: Order) -> Receipt: ...  # the place of the wrapped

    orders = Workflow("order")
    orders.step(decorator(charge))
    step = only_step(orders)
    assert (step.name, step.source.line) == ("charge", line_of("# the place of the wrapped"))
    assert (step.signature.positional, step.signature.input_type) == (1, Order)


# --- signatures ----------------------------------------------------------------------------------------------


def call(function: Callable[..., Any], *values: Any) -> Any:
    """What *function* returns when it is called as its signature says."""
    orders = Workflow("order")
    orders.step(function, name="s")
    args, kwargs = only_step(orders).signature.arguments(values, "CTX")
    return function(*args, **kwargs)


def test_a_context_is_given_wherever_it_is_asked_for() -> None:
    def last(data: Any, ctx: Context) -> Any:
        return data, ctx

    def first(ctx: Context, data: Any) -> Any:
        return data, ctx

    def positional_only(ctx: Context, data: Any, /) -> Any:
        return data, ctx

    def keyword_only(data: Any, *, ctx: Context) -> Any:
        return data, ctx

    def behind_a_default(data: Any, verbose: bool = False, ctx: Context | None = None) -> Any:
        assert verbose is False
        return data, ctx

    def annotated(data: Any, ctx: Annotated[Context, "note"]) -> Any:
        return data, ctx

    for function in (last, first, positional_only, keyword_only, behind_a_default, annotated):
        assert call(function, "DATA") == ("DATA", "CTX"), function.__name__


def test_a_step_may_take_no_data() -> None:
    def nothing() -> Any:
        return "called"

    def only_context(ctx: Context) -> Any:
        return ctx

    assert call(nothing, "DATA") == "called"
    assert call(only_context, "DATA") == "CTX"


def test_parameters_with_defaults_are_left_to_them() -> None:
    def optional(data: Any, copies: int = 2, *, color: bool = True, **more: Any) -> Any:
        return data, copies, color, more

    assert call(optional, "DATA") == ("DATA", 2, True, {})
    assert call(lambda data=None: data, "DATA") == "DATA"


def test_parameters_that_nothing_fills_are_refused_when_decorating() -> None:
    def two(data: Any, item: Any) -> Any: ...

    def star(*data: Any) -> Any: ...

    def keyword(data: Any, *, mode: str) -> Any: ...

    def contexts(one: Context, two: Context) -> Any: ...

    def unreachable(data: Any, verbose: bool = False, ctx: Context | None = None, /) -> Any: ...

    assert "has 2 data parameters; a step takes one data parameter" in refused(two)
    assert "takes *args" in refused(star)
    assert "nothing would fill the keyword-only parameter 'mode'" in refused(keyword)
    assert "has 2 parameters annotated Context" in refused(contexts)
    assert "'ctx' is positional-only" in refused(unreachable)
    assert "its parameters cannot be read" in refused(functools.partial(with_prefix, nothing=1))
    for function in (two, star, keyword, contexts, unreachable):
        place = f'workflow "order": step "{function.__name__}" ({THIS}:{function.__code__.co_firstlineno})'
        assert refused(function).startswith(place)


def test_what_gives_no_single_result_is_refused_when_decorating() -> None:
    def generator(data: Any) -> Any:
        yield data

    async def async_generator(data: Any) -> Any:
        yield data

    @functools.lru_cache
    async def cached(data: Any) -> Any: ...

    assert "is a generator" in refused(generator)
    assert "is a generator" in refused(async_generator)
    assert "a plain function around an async def" in refused(cached)
    assert "is not callable" in refused("charge")
    assert "is not callable" in refused(None)
    assert "is a class" in refused(Order)


def test_a_process_step_must_be_importable() -> None:
    def nested(data: Any) -> Any: ...

    async def asynchronous(data: Any) -> Any: ...

    assert "cannot be imported by a worker process" in refused(nested, process=True)
    assert "cannot be imported by a worker process" in refused(lambda data: data, name="s", process=True)
    assert "async def with process=True" in refused(asynchronous, process=True)
    assert "process is 1. Give True or False" in refused(top_level, process=1)

    orders = Workflow("order")
    orders.step(genuine, process=True)
    with pytest.raises(DefinitionError, match="leads to something else"):
        orders.definition  # noqa: B018


def test_an_option_of_a_step_is_checked_when_decorating() -> None:
    assert "timeout is 5. Give a timedelta" in refused(top_level, timeout=5)
    assert "timeout is datetime.timedelta(0)" in refused(top_level, timeout=timedelta(0))
    assert "retry is 3. Give Retry(...)" in refused(top_level, retry=3)
    assert "contains '/'" in refused(top_level, name="a/b")
    assert "is empty" in refused(top_level, name="")


# --- annotations ---------------------------------------------------------------------------------------------


early = Workflow("early")


@early.step
async def to_later(order: Order) -> Later: ...


class Later: ...


def test_annotations_may_name_what_the_module_defines_further_down() -> None:
    assert only_step(early).signature.output_type is Later


def test_a_local_class_below_the_step_is_refused_by_name() -> None:
    orders = Workflow("order")

    @orders.step
    async def to_local(data: Later) -> Local: ...

    class Local: ...

    with pytest.raises(DefinitionError, match=r'step "to_local" .* define local classes before the step') as caught:
        orders.definition  # noqa: B018
    assert "name 'Local' is not defined" in str(caught.value)


def test_annotations_may_name_a_class_beside_a_nested_step() -> None:
    class Local: ...

    orders = Workflow[Local, Any]("order")

    @orders.step
    async def first(data: Local) -> list[Local]: ...

    assert only_step(orders).signature.input_type is Local
    assert only_step(orders).signature.output_type == list[Local]


def test_an_annotation_that_cannot_be_resolved_names_the_cure() -> None:
    orders = Workflow("order")

    @orders.step
    async def pay(amount: Decimal) -> None: ...

    with pytest.raises(DefinitionError) as caught:
        orders.definition  # noqa: B018
    message = str(caught.value)
    assert message.startswith(f'workflow "order": step "pay" ({THIS}:')
    assert "name 'Decimal' is not defined" in message
    assert "not under `if TYPE_CHECKING:`" in message


def test_annotated_types_keep_their_extras() -> None:
    orders = Workflow("order")

    @orders.step
    async def pay(amount: Annotated[int, "cents"]) -> None: ...

    assert only_step(orders).signature.input_type == Annotated[int, "cents"]
    assert only_step(orders).signature.output_type is NoneType


def test_unannotated_steps_take_and_give_anything() -> None:
    orders = Workflow("order")
    orders.step(lambda data: data, name="s")
    assert only_step(orders).signature.input_type is Any
    assert only_step(orders).signature.output_type is Any


# --- the workflow --------------------------------------------------------------------------------------------


def test_a_workflow_keeps_its_options_types_and_place() -> None:
    retry = Retry(max_attempts=2)
    orders = Workflow[Order, "Receipt"](  # the place of the workflow
        "order", version=3, queue="slow", timeout=timedelta(hours=2), retry=retry, priority=-5
    )

    @orders.step
    async def charge(order: Order) -> Receipt: ...

    found = orders.definition
    assert (found.name, found.version, found.queue, found.priority) == ("order", 3, "slow", -5)
    assert (found.timeout, found.retry) == (timedelta(hours=2), retry)
    assert (found.input_type, found.output_type) == (Order, Receipt)
    assert (found.source.file, found.source.line) == (THIS, line_of("# the place of the workflow"))
    assert found.shape == fingerprint(shape_of(found), "order", 3)
    assert (orders.name, orders.version, repr(orders)) == ("order", 3, "Workflow('order', version=3)")


@pytest.mark.parametrize("alias", [Workflow, Workflow[Any, Any], Workflow[In], Workflow[In, In]], ids=str)
def test_without_types_a_workflow_takes_and_gives_anything(alias: Any) -> None:
    orders = alias("order")
    orders.step(top_level)
    assert (orders.definition.input_type, orders.definition.output_type) == (Any, Any)
    assert orders.definition.retry == Retry()


def test_in_and_out_are_checked_against_the_first_and_the_last_step() -> None:
    async def charge(order: Order) -> Receipt: ...

    wrong_in = Workflow[int, Receipt]("order")
    wrong_in.step(charge)
    with pytest.raises(DefinitionError, match="what comes from the input of workflow"):
        wrong_in.definition  # noqa: B018

    wrong_out = Workflow[Order, int]("order")
    wrong_out.step(charge)
    with pytest.raises(DefinitionError, match="promises a result that"):
        wrong_out.definition  # noqa: B018


def test_in_and_out_that_cannot_be_resolved_name_the_cure() -> None:
    orders = Workflow["Decimal", Any]("order")
    orders.step(top_level)
    with pytest.raises(DefinitionError, match=r"Workflow\[In, Out\] cannot be resolved .*TYPE_CHECKING"):
        orders.definition  # noqa: B018


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a/b"},
        {"name": ""},
        {"name": 5},
        {"version": 0},
        {"version": True},
        {"queue": "a#b"},
        {"timeout": 5},
        {"timeout": timedelta(0)},
        {"retry": 3},
        {"retry": 0},
        {"priority": "high"},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_kept_is_refused_at_the_call(options: dict[str, Any]) -> None:
    for alias in (Workflow, Workflow[Order, Receipt]):
        with pytest.raises(DefinitionError) as caught:
            alias(**{"name": "order", **options})  # the place of the refused
        assert f"({THIS}:{line_of('# the place of the refused')})" in str(caught.value)
        assert next(iter(options)) in str(caught.value)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        Workflow("order", colour=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_the_definition_is_made_once_and_then_closed() -> None:
    orders = Workflow("order")
    orders.step(top_level)
    assert orders.definition is orders.definition
    with pytest.raises(DefinitionError, match=r'is in use: step "late" \(.*\) comes too late'):
        orders.step(name="late")(top_level)
    assert [step.name for step in steps_of(orders.definition)] == ["top_level"]


def test_a_refused_definition_may_be_mended() -> None:
    orders = Workflow("order")
    with pytest.raises(DefinitionError, match="has no steps"):
        orders.definition  # noqa: B018
    orders.step(top_level)
    assert only_step(orders).function is top_level


def test_a_name_declared_twice_is_refused_with_both_places() -> None:
    orders = Workflow("order")
    orders.step(top_level)
    orders.step(top_level)
    with pytest.raises(DefinitionError, match='step "top_level" is declared twice'):
        orders.definition  # noqa: B018
