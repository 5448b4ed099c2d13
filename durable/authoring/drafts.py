"""Functions on their way to becoming steps and rules: where they were written, what they are called, what they take.

What can be refused when a function is decorated is refused here, with file and line; annotations that name something
defined further down are read when the workflow is frozen.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from types import FrameType
from typing import Any, Literal, Protocol

from durable.errors import DefinitionError
from durable.model import signature
from durable.model.definition import (
    CompensateOn,
    Decision,
    Definition,
    Function,
    Node,
    Rule,
    RunsIn,
    Signature,
    Source,
    Step,
)
from durable.model.gotos import goto_targets
from durable.model.names import storable
from durable.model.pieces import check_call, check_function, check_name, check_node_values, check_rule
from durable.model.retry import Retry

_CURES = {
    "on_failure": ("Write a def: a lambda has no name of its own.",),
    "compensation": ("Write a def: a lambda has no name of its own. Or declare it with .compensation(..., name=...).",),
}
_OURS = frozenset({"durable", "typing", "typing_extensions"})  # a call of Workflow[In, Out] passes through typing


class Draft(Protocol):
    """A node in the making."""

    def finished(self) -> Node: ...


@dataclass(slots=True)
class Root:
    """What all blocks of one workflow share: its options, where it stands, the functions that undo steps, and its definition
    once it is frozen."""

    head: Definition
    namespace: dict[str, Any]
    undoing: list[Undoing] = field(default_factory=list["Undoing"])
    definition: Definition | None = None

    @property
    def label(self) -> str:
        return f'workflow "{self.head.name}"'

    def check_open(self, what: object) -> None:
        """Raise `DefinitionError` once the workflow is in use."""
        if self.definition is not None:
            raise DefinitionError(
                f"{self.label} ({self.head.source}) is in use: {what} comes too late. "
                "Declare everything before Durable(...) is given the workflow."
            )


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said of any function that is run as a step."""

    name: str | None = None
    retry: Retry | None = None
    timeout: timedelta | None = None
    process: bool = False
    transactional: bool = False


@dataclass(slots=True)
class StepDraft:
    """What is run as a step. Its annotations may have to wait for names that are defined further down."""

    step: Step
    kind: str
    where: str
    data_max: int
    resolved: bool
    compensation: StepDraft | None = None

    def finished(self) -> Step:
        """The step, with its annotations read. Raises `DefinitionError`."""
        if not self.resolved:
            read = signature.read(
                self.step.function, self.where, data_max=self.data_max, may_go=self.kind == "decision"
            )
            self.step, self.resolved = replace(self.step, signature=read), True
        if self.compensation is not None:
            self.step = replace(self.step, compensation=self.compensation.finished())
        return self.step

    def __str__(self) -> str:
        return f'{self.kind} "{self.step.name}" ({self.step.source})'


@dataclass(slots=True)
class Undoing:
    """A function that undoes steps. `declared` with options of its own, `named_by` a step, or both."""

    draft: StepDraft
    declared: bool
    named_by: str = ""


@dataclass(slots=True)
class DecisionDraft:
    """A step that may also return a `Goto`."""

    step: StepDraft
    max_visits: int

    def finished(self) -> Decision:
        """The decision, with its annotations read. Raises `DefinitionError`."""
        step = self.step.finished()
        return Decision(
            step.name,
            step.function,
            step.signature,
            step.runs_in,
            step.source,
            retry=step.retry,
            timeout=step.timeout,
            max_visits=self.max_visits,
            targets=goto_targets(step.function),
        )

    def __str__(self) -> str:
        return str(self.step)


@dataclass(slots=True)
class RuleDraft:
    """A function that decides about the flow. Of its annotations the same is true as of those of a step."""

    function: Function
    where: str
    data_max: int
    source: Source
    may_go: bool
    signature: Signature | None

    def finished(self) -> Rule:
        """The rule, with its annotations read. Raises `DefinitionError`."""
        if self.signature is None:
            self.signature = signature.read(self.function, self.where, data_max=self.data_max, may_go=self.may_go)
        return Rule(self.function, self.signature, self.source, goto_targets(self.function))


def step_draft(
    root: Root,
    data_max: int,
    function: Any,
    options: Options,
    *,
    kind: str = "step",
    compensate: Function | None = None,
    compensate_on: CompensateOn = "completed",
) -> StepDraft:
    """A step of *function*, which will be given up to *data_max* data arguments. Raises `DefinitionError`."""
    frame = calling_frame()
    source = signature.source_of(function, source_of(frame))
    name = signature.name_of(function) if options.name is None else options.name
    where = f'{root.label}: {kind} "{name}" ({source})'
    for option in ("process", "transactional"):
        if type(given := getattr(options, option)) is not bool:
            raise DefinitionError(f"{where}: {option} is {given!r}. Give True or False.")
    runs_in: RunsIn = "process" if options.process else "loop" if signature.is_async(function) else "thread"
    check_function(function, runs_in, where)
    if options.transactional and runs_in != "loop":
        raise DefinitionError(
            f"{where} is transactional, but no async def: only that can await its transaction. Make it one, without "
            "process=True, or leave out transactional=True."
        )
    check_name(name, f"{root.label}: {kind} name {name!r} ({source})", *_CURES.get(kind, ()))
    step = Step(
        name,
        function,
        Signature(0),
        runs_in,
        source,
        retry=options.retry,
        timeout=options.timeout,
        compensate_on=compensate_on,
        transactional=options.transactional,
    )
    check_node_values(step, where)
    if compensate is None and compensate_on != "completed":
        raise DefinitionError(
            f"{where}: compensate_on says when to undo, but nothing undoes it. Give compensate= as well."
        )
    undo = None if compensate is None else _compensation_draft(root, compensate, where, f'step "{name}" ({source})')
    draft = StepDraft(step, kind, where, data_max, resolved=False, compensation=undo)
    names = _local_names(function, frame)
    try:
        read = signature.read(function, where, data_max=data_max, names=names, may_go=kind == "decision")
    except signature.UnresolvedAnnotation:
        return draft
    check_call(function, runs_in, read, where, data_max)
    draft.step, draft.resolved = replace(step, signature=read), True
    return draft


def declare_compensation(root: Root, function: Any, options: Options) -> None:
    """Let *function*, where a step names it, have options of its own. Raises `DefinitionError`."""
    draft = step_draft(root, 1, function, options, kind="compensation")
    root.check_open(draft)
    known = _undoing(root, function)
    if known is not None:
        why = (
            "is declared twice. Declare it once."
            if known.declared
            else f"comes too late: {known.named_by} names it already. Declare it above that."
        )
        raise DefinitionError(f"{draft.where} {why}")
    root.undoing.append(Undoing(draft, declared=True))


def check_compensations(root: Root) -> None:
    """Raise `DefinitionError` for a declared compensation that no step names."""
    for undoing in root.undoing:
        if undoing.declared and not undoing.named_by:
            raise DefinitionError(
                f"{undoing.draft.where} undoes nothing. Give it as compensate= of the step that it undoes (the very function "
                "that was declared: put the decorator above all others), or leave it out."
            )


def _compensation_draft(root: Root, function: Any, where: str, step: str) -> StepDraft:
    if not callable(function):
        raise DefinitionError(
            f"{where}: compensate is {function!r}, which is not callable. Give the function that undoes it."
        )
    known = _undoing(root, function)
    if known is None:
        known = Undoing(step_draft(root, 1, function, Options(), kind="compensation"), declared=False)
        root.undoing.append(known)
    known.named_by = known.named_by or step
    return known.draft


def _undoing(root: Root, function: Any) -> Undoing | None:
    for known in root.undoing:
        other = known.draft.step.function
        # A bound method is made anew each time that it is asked for.
        if other is function or (inspect.ismethod(other) and other == function):
            return known
    return None


def rule_draft(
    root: Root, data_max: int, function: Any, label: str, option: Literal["on", "items", "until", "into"]
) -> RuleDraft:
    """The function given as *option* of the node *label*. Raises `DefinitionError`."""
    frame = calling_frame()
    where = f"{root.label}: {label}: {option}"
    check_rule(function, where)
    source = signature.source_of(function, source_of(frame))
    draft = RuleDraft(function, where, data_max, source, option == "into", None)
    names = _local_names(function, frame)
    try:
        draft.signature = signature.read(function, where, data_max=data_max, names=names, may_go=draft.may_go)
    except signature.UnresolvedAnnotation:
        return draft
    check_rule(function, where, draft.signature, data_max)
    return draft


def case_text(value: object, where: str) -> str:
    """A case's value as the JSON text that is compared. Raises `DefinitionError`."""
    plain = value.value if isinstance(value, Enum) else value
    if plain is not None and type(plain) not in (str, int, bool):
        raise DefinitionError(
            f"{where} cannot be compared. Give a str, an int, a bool, None, or a member of an Enum of these."
        )
    text = json.dumps(plain, ensure_ascii=False)
    if not storable(text):
        raise DefinitionError(f"{where} is no text that JSON can hold. Leave out the lone surrogates.")
    return text


def case_label(value: object) -> str:
    """The path segment of a case, unless it is given a name."""
    plain = value.value if isinstance(value, Enum) else value
    return plain if isinstance(plain, str) else json.dumps(plain)


def _local_names(function: Function, frame: FrameType) -> Mapping[str, Any] | None:
    """The local names beside a nested function, which its string annotations may mean."""
    nested = "<locals>" in getattr(signature.author_of(function), "__qualname__", "")
    return frame.f_locals if nested else None


def calling_frame() -> FrameType:
    """The frame of whoever called this library."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame = frame.f_back
    if frame is None:
        raise DefinitionError("Python gives no call stack here, so the place of a definition cannot be known.")
    return frame


def source_of(frame: FrameType) -> Source:
    """Where *frame* stands."""
    return Source(frame.f_code.co_filename, frame.f_lineno)
