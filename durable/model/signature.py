"""Reads functions: what goes in, what comes out, where they were written and how they are called.

It calls none of them, and it does not judge their use: that is `check`. It refuses only what it cannot read.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from durable.errors import DefinitionError
from durable.model.definition import UNANNOTATED, Function, Signature, Source
from durable.model.results import Goto

ONLY_THEY_GO = (
    "Only a decision may, or the into of a parallel or of a foreach: declare it with .decision, or return data."
)
_COLLECTIONS = (list, set, frozenset, Collection, Iterable, Iterator, Sequence)
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class UnresolvedAnnotation(DefinitionError):
    """An annotation names something that does not exist (yet)."""


def target_of(function: Any) -> Any:
    """The function that a call of *function* enters: beneath partials, bound methods and callable objects."""
    while True:
        if isinstance(function, functools.partial):
            function = typing.cast("functools.partial[Any]", function).func
        elif inspect.ismethod(function):
            function = function.__func__
        elif inspect.isroutine(function) or inspect.isclass(function) or hasattr(function, "__wrapped__"):
            return function
        else:
            kind = typing.cast("Any", type(function))
            return getattr(kind, "__call__", function)  # noqa: B004 - the method itself is wanted


def author_of(function: Any) -> Any:
    """The function that its author wrote: `target_of`, beneath decorators that used `functools.wraps`."""
    return target_of(inspect.unwrap(target_of(function)))


def is_block(thing: Any) -> bool:
    """True for a workflow and for parts of one. They live on a floor above, and can be called to say that it is a mistake."""
    return hasattr(typing.cast("object", type(thing)), "__durable_block__")


def is_async(function: Any) -> bool:
    """True when a call gives a coroutine, as far as it can be known without calling."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(target_of(function))


def name_of(function: Any) -> str:
    """What a step made of *function* is called when nobody says; empty for a lambda, which has no name."""
    while isinstance(function, functools.partial):
        function = typing.cast("functools.partial[Any]", function).func
    name: str = getattr(function, "__name__", type(function).__name__)
    return "" if name == "<lambda>" else name


def source_of(function: Any, default: Source) -> Source:
    """Where *function* was written (its first decorator, if it has any); *default* when it is not Python."""
    code = None if is_block(function) else getattr(author_of(function), "__code__", None)
    return Source(code.co_filename, code.co_firstlineno) if isinstance(code, types.CodeType) else default


def is_module_level(function: Any) -> bool:
    """False for what another process cannot import by name: lambdas, nested functions, methods of an object."""
    return inspect.isfunction(function) and "<" not in function.__qualname__


def is_importable(function: Any) -> bool:
    """True when its module and qualified name lead back to *function* itself."""
    if not is_module_level(function):
        return False
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def read(
    function: Function,
    where: str,
    *,
    data_max: int = 1,
    names: Mapping[str, Any] | None = None,
    may_go: bool = False,
) -> Signature:
    """The signature of *function*, its annotations resolved.

    *data_max* is how many data arguments there will be: further parameters are left to their defaults. *names* are
    looked up before the function's globals. Raises `UnresolvedAnnotation`, and `DefinitionError` for parameters that
    cannot be filled, and for a result that may be a `Goto` unless it *may_go*.
    """
    parameters = _parameters(function, where)
    hints = _hints(function, where, names)
    positional = [p for p in parameters if p.kind in POSITIONAL]
    contexts = [p for p in parameters if _is_context(hints.get(p.name))]
    if len(contexts) > 1:
        raise DefinitionError(f"{where} has {len(contexts)} parameters annotated Context. Keep one.")
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p not in contexts:
            raise DefinitionError(
                f"{where}: nothing would fill the keyword-only parameter {p.name!r}. Give it a default value."
            )
    result = hints.get("return", UNANNOTATED)
    if not may_go and _without_goto(result) is not result:
        raise DefinitionError(f"{where} is annotated to return a Goto. {ONLY_THEY_GO}")
    data = [p for p in positional if p not in contexts]
    required = sum(p.default is p.empty for p in data)
    count = max(required, min(len(data), data_max))
    context = contexts[0] if contexts else None
    return Signature(
        positional=count,
        input_type=hints.get(data[0].name, UNANNOTATED) if data else UNANNOTATED,
        output_type=_without_goto(result),
        context=context.name if context else None,
        context_index=_context_index(context, positional, count, where),
        item_type=hints.get(data[1].name, UNANNOTATED) if len(data) > 1 else UNANNOTATED,
    )


def _without_goto(annotation: Any) -> Any:
    """What a result is annotated as beside `Goto`; *annotation* itself when that is no part of it.

    Beside None alone it is unknown: what a `Goto` brings is written as this says, and that is data.
    """
    members = list(_alternatives(annotation))
    others = tuple(member for member in members if member is not Goto)
    if len(others) == len(members):
        return annotation
    known = any(member not in (None, types.NoneType) for member in others)
    return typing.Union[others] if known else UNANNOTATED  # noqa: UP007


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, those of unions with a name of their own included."""
    while type(annotation).__name__ == "TypeAliasType":  # `type Result = Order | Goto`; there are two such classes
        annotation = annotation.__value__
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def item_of(listed: Any) -> Any:
    """What a list, or another collection, of this type contains; unknown for other types."""
    members = typing.get_args(listed)
    if typing.get_origin(listed) is tuple and members[1:] == (Ellipsis,):
        return members[0]
    return members[0] if typing.get_origin(listed) in _COLLECTIONS else UNANNOTATED


def listed_type(kind: Any) -> Any:
    """As what is recorded what a function annotated with *kind* lists: any iterable becomes a list."""
    if (typing.get_origin(kind) or kind) not in (Iterable, Iterator, Generator):
        return kind
    return list[typing.get_args(kind)[0]] if typing.get_args(kind) else UNANNOTATED


def resolve(annotations: Mapping[str, Any], namespace: dict[str, Any]) -> dict[str, Any]:
    """*annotations* with their forward references looked up in *namespace*. Raises what evaluation raises."""

    def holder() -> None: ...

    holder.__annotations__ = dict(annotations)
    return typing.get_type_hints(holder, globalns=namespace, include_extras=True)


def _parameters(function: Function, where: str) -> list[inspect.Parameter]:
    try:
        if sys.version_info >= (3, 14):  # annotations are evaluated when asked for, and may not exist yet
            import annotationlib

            signature = inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        else:
            signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{where}: its parameters cannot be read ({error}). Wrap it in a def.") from error
    parameters = list(signature.parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise DefinitionError(f"{where} takes *args, so what it wants cannot be known. Name its parameters.")
    return parameters


def _hints(function: Function, where: str, names: Mapping[str, Any] | None) -> dict[str, Any]:
    target = target_of(function)
    local = dict(names) if names is not None else None
    try:
        return typing.get_type_hints(target, localns=local, include_extras=True)
    except Exception as error:  # annotations are expressions: they may raise anything
        raise UnresolvedAnnotation(
            f"{where}: its annotations cannot be resolved ({type(error).__name__}: {error}). Import the names at "
            "module level (not under `if TYPE_CHECKING:`), define local classes before the step, or leave the "
            "annotation out."
        ) from error


def _is_context(annotation: Any) -> bool:
    """`Context`, known by its mark because it lives on a floor above; also within ``Annotated`` and ``| None``."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _is_context(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return any(_is_context(member) for member in typing.get_args(annotation))
    return getattr(annotation, "__durable_context__", False) is True


def _context_index(
    context: inspect.Parameter | None, positional: Iterable[inspect.Parameter], data_count: int, where: str
) -> int | None:
    if context is None:
        return None
    for index, parameter in enumerate(positional):
        if parameter is context and index <= data_count:
            return index
    if context.kind is context.POSITIONAL_ONLY:
        raise DefinitionError(
            f"{where}: the Context parameter {context.name!r} is positional-only behind parameters that nothing "
            "fills. Move it to the front."
        )
    return None
