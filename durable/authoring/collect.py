"""The workflows that an engine is given, collected and frozen."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from durable.authoring.drafts import calling_frame, source_of
from durable.authoring.workflow import Workflow
from durable.errors import DefinitionError
from durable.model.definition import Definition


def collect(items: Sequence[Workflow[Any, Any] | ModuleType]) -> dict[tuple[str, int], Workflow[Any, Any]]:
    """The workflows of *items* by name and version, each frozen. A module stands for every workflow in its globals.

    One that was imported twice from the same place counts once. Raises `DefinitionError` when two places define the
    same name and version, when a definition cannot work, and for a module without workflows.
    """
    found: dict[tuple[str, int], Workflow[Any, Any]] = {}
    for item in items:
        for workflow in _workflows_of(item):
            first = found.setdefault((workflow.name, workflow.version), workflow)
            if first is not workflow:
                _check_same(first.definition, workflow.definition)
            workflow.definition  # noqa: B018 - freezes it
    return found


def _workflows_of(item: Workflow[Any, Any] | ModuleType) -> list[Workflow[Any, Any]]:
    where = f"workflows= ({source_of(calling_frame())})"
    if isinstance(item, Workflow):
        return [item]
    if not isinstance(item, ModuleType):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise DefinitionError(f"{where} contains {item!r}. Give Workflow objects, and modules that define them.")
    # By type() because lazy proxies in a module's globals answer isinstance by loading what they stand for.
    workflows = [value for value in vars(item).values() if issubclass(type(value), Workflow)]
    if not workflows:
        raise DefinitionError(
            f"{where}: module {item.__name__} has no Workflow in its globals. Give the module that defines them."
        )
    return workflows


def _check_same(first: Definition, second: Definition) -> None:
    name = f'workflow "{first.name}" version {first.version}'
    if first.source != second.source:
        raise DefinitionError(
            f"{name} is defined in two places ({first.source} and {second.source}). "
            "Rename one, or give it another version=."
        )
    if first.shape != second.shape:
        raise DefinitionError(
            f"{name} is made twice with different steps by the same line ({first.source}). Give each its own name."
        )
