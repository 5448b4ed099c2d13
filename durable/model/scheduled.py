"""When a workflow is started by itself, as its code says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from durable.errors import DefinitionError
from durable.model.cron import Cron, Every, RuleOf
from durable.model.firing import CatchUp, Overlap, Policy


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A rule with what its executions get, and how it fires: ``Workflow(..., schedule=Scheduled(Cron("0 9 * * *"),
    data={...}))``.

    *data* is their input. *overlap* says what a firing does while the execution of the one before is not over: ``"skip"``
    leaves it out, ``"allow"`` starts all the same, ``"queue"`` starts it when that is over, ``"cancel_previous"`` cancels
    that first. *catch_up* says what becomes of firings that no worker was there for: ``"latest"`` starts the last of them,
    ``"all"`` each, ``"none"`` none that is more than a minute late; *catch_up_window* is how old they may be (unless given,
    however old for ``"latest"``, and a day for ``"all"``). *jitter* delays each firing by up to so much, by chance, and the
    same on every worker. *tags* are those of `Client.start`. Raises `DefinitionError`.
    """

    rule: RuleOf
    data: Any = None
    overlap: Overlap = "skip"
    catch_up: CatchUp = "latest"
    catch_up_window: timedelta | None = None
    jitter: timedelta | None = None
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.policy.checked(self.rule, "Scheduled")

    @property
    def policy(self) -> Policy:
        """How it fires."""
        return Policy(self.overlap, self.catch_up, self.catch_up_window, self.jitter)


ScheduleOption: TypeAlias = Cron | Every | Scheduled
"""What ``schedule=`` of a workflow takes: a rule alone gives its executions None."""


def scheduled(option: ScheduleOption | None, where: str) -> Scheduled | None:
    """What ``schedule=`` means. Raises `DefinitionError`; *where* begins the message."""
    if option is None or isinstance(option, Scheduled):
        return option
    if not isinstance(option, Cron | Every):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(
            f'{where}: schedule is {option!r}. Give Cron("0 9 * * *"), Every(minutes(15)) or Scheduled(Cron(...), data=...).'
        )
    return Scheduled(option)
