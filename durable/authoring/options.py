"""What type checkers know of the options of the decorators, and of the functions that decide about the flow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from durable.model.definition import CompensateOn, Function
from durable.model.results import ArmResults, ItemResults
from durable.model.retention import Retention
from durable.model.retry import Retry
from durable.model.scheduled import ScheduleOption

F = TypeVar("F", bound=Callable[..., Any])

ArmPolicy: TypeAlias = Literal["fail_fast", "complete_all"]
ItemPolicy: TypeAlias = Literal["fail_fast", "continue"]

# One alternative for each number of parameters: from them, the parameters of a lambda get their types.
Decide: TypeAlias = (
    Callable[[Any], Any] | Callable[[], Any] | Callable[[Any, Any], Any] | Callable[[Any, Any, int], Any]
)
"""`on`, `items` and `until` take the data, or within a foreach ``(data, item, index)`` or fewer; plain or async."""
ArmsInto: TypeAlias = Callable[[Any, ArmResults], Any] | Callable[[Any], Any] | Callable[[], Any]
ItemsInto: TypeAlias = Callable[[Any, ItemResults], Any] | Callable[[Any], Any] | Callable[[], Any]


class WorkflowOptions(TypedDict, total=False):
    """Of a workflow."""

    version: int
    queue: str
    timeout: timedelta | None
    retry: Retry | None
    priority: int
    retention: Retention | timedelta | None
    on_failure: Function | None
    schedule: ScheduleOption | None


class RunOptions(TypedDict, total=False):
    """Of anything that is run as a step."""

    name: str | None
    retry: Retry | None
    timeout: timedelta | None
    process: bool


class BodyOptions(RunOptions, total=False):
    """Of a step, and of a function that undoes one."""

    transactional: bool


class StepOptions(BodyOptions, total=False):
    """Of a step."""

    compensate: Function | None
    compensate_on: CompensateOn


class ArmOptions(StepOptions, total=False):
    """Of a step that is an arm."""

    key: str | None


class DecisionOptions(RunOptions, total=False):
    """Of a decision."""

    max_visits: int
