"""How tests declare a workflow, and ask why it is refused and whether the message says where."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from durable.authoring import Workflow
from durable.errors import DefinitionError
from durable.model.definition import Source

Flow: TypeAlias = Workflow[Any, Any]
Declare: TypeAlias = Callable[[Flow], object]


@dataclass
class Order:
    id: str


class Helper:
    async def undo(self, data: Any) -> None: ...

    def pick(self, data: Any) -> str:
        return "a"


async def noop(data: Any) -> Any:
    return data


def generator(data: Any) -> Any:
    yield data


def starred(*data: Any) -> Any: ...


def frozen(declare: Declare) -> Any:
    """The nodes of a workflow as *declare* makes it, by name."""
    orders = Workflow[Any, Any]("order")
    declare(orders)
    return {node.name: node for node in orders.definition.body}


def refused(declare: Declare, types: Any = (Any, Any)) -> str:
    """The reason why what *declare* adds to a workflow is refused, now or when it is frozen.

    The message must name the workflow, and the line of *declare* that is marked with ``# here``, with its file.
    """
    orders = Workflow[types]("order")

    def freeze() -> object:
        declare(orders)
        return orders.definition

    with pytest.raises(DefinitionError) as caught:
        freeze()
    message = str(caught.value)
    assert 'workflow "order"' in message
    assert f"{inspect.getsourcefile(declare)}:{marked(declare)}" in message, message
    return message


def place(declare: Declare) -> Source:
    """Where *declare* is marked."""
    return Source(declare.__code__.co_filename, marked(declare))


def marked(declare: Callable[..., object]) -> int:
    """The number of the line of *declare* that is marked with ``# here``."""
    lines, first = inspect.getsourcelines(declare)
    (line,) = (number for number, text in enumerate(lines, first) if text.rstrip().endswith("# here"))
    return line
