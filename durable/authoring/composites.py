"""Nodes with blocks inside, in the making: branch, parallel, foreach and loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, overload

from typing_extensions import Unpack

from durable.authoring.blocks import NOT_GIVEN, BlockBuilder, NoDecorator
from durable.authoring.drafts import (
    Options,
    Root,
    RuleDraft,
    StepDraft,
    calling_frame,
    case_label,
    case_text,
    rule_draft,
    source_of,
    step_draft,
)
from durable.authoring.options import ArmOptions, ArmPolicy, ArmsInto, Decide, F, ItemPolicy, ItemsInto
from durable.errors import DefinitionError
from durable.model.check import INTO_DATA_MAX
from durable.model.definition import (
    FOREACH_DATA_MAX,
    OTHERWISE,
    Arm,
    Block,
    Branch,
    Case,
    CompensateOn,
    Foreach,
    Function,
    Loop,
    Merge,
    Parallel,
    Source,
)
from durable.model.pieces import check_name
from durable.model.retry import Retry


class BranchBuilder(NoDecorator):
    """A branch in the making."""

    def __init__(self, root: Root, data_max: int, name: str, on: Decide) -> None:
        self._root = root
        self._data_max = data_max
        self._name = name
        self._source, self._label = _declared(root, "branch", name)
        self._on = rule_draft(root, data_max, on, self._label, "on")
        self._cases: dict[str, tuple[str, BlockBuilder]] = {}
        self._otherwise: BlockBuilder | None = None

    def case(self, value: object, *, name: str | None = None) -> BlockBuilder:
        """The block that is run when ``on(data)`` is *value*: a str, an int, a bool, None, or a member of an Enum of these.

        Asked for again, it is the same block. In paths it is called like its value, unless *name* is given. Raises
        `DefinitionError`.
        """
        source = source_of(calling_frame())
        where = f"{self._root.label}: {self._label}: case {value!r} ({source})"
        text = case_text(value, where)
        if text not in self._cases:
            label = case_label(value) if name is None else name
            check_name(label, f"{where} is called {label!r} in paths, and that", "Pass another name=.")
            if label == OTHERWISE:
                raise DefinitionError(
                    f"{where} would be called {OTHERWISE!r} in paths, like the last resort. Pass another name=."
                )
            self._cases[text] = (label, self._block(f"case {value!r}", source))
        label, block = self._cases[text]
        if name is not None and name != label:
            raise DefinitionError(f"{where} is called {label!r} already. Leave out name=, or give it the first time.")
        return block

    @property
    def otherwise(self) -> BlockBuilder:
        """The block that is run when no case fits."""
        if self._otherwise is None:
            self._otherwise = self._block(OTHERWISE, source_of(calling_frame()))
        return self._otherwise

    def _block(self, what: str, source: Source) -> BlockBuilder:
        self._root.check_open(f"{what} ({source}) of {self._label}")
        return BlockBuilder(self._root, f"{self._label}: {what} ({source})", self._data_max, source)

    def finished(self) -> Branch:
        """See `Draft`."""
        cases = tuple(Case(label, text, block.finished_block()) for text, (label, block) in self._cases.items())
        otherwise = None if self._otherwise is None else self._otherwise.finished_block()
        return Branch(self._name, self._on.finished(), cases, self._source, otherwise)

    def __str__(self) -> str:
        return self._label


class ParallelBuilder(NoDecorator):
    """A parallel in the making."""

    def __init__(
        self,
        root: Root,
        data_max: int,
        name: str,
        merge: Merge | None,
        on_error: ArmPolicy,
        into: ArmsInto | None,
    ) -> None:
        self._root = root
        self._data_max = data_max
        self._name = name
        self._source, self._label = _declared(root, "parallel", name)
        if merge is not None and into is not None:
            raise DefinitionError(f"{root.label}: {self._label}: both merge and into were given. Choose one.")
        self._merge: Merge = "deep" if merge is None else merge
        self._on_error: ArmPolicy = on_error
        self._into = _into_draft(root, into, self._label)
        self._arms: list[tuple[str, str, StepDraft | BlockBuilder]] = []

    @overload
    def step(self, function: F, /, **options: Unpack[ArmOptions]) -> F: ...
    @overload
    def step(self, /, **options: Unpack[ArmOptions]) -> Callable[[F], F]: ...
    def step(
        self,
        function: Any = NOT_GIVEN,
        /,
        *,
        key: str | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
        transactional: bool = False,
        compensate: Function | None = None,
        compensate_on: CompensateOn = "completed",
    ) -> Any:
        """Add an arm of this one step, called like it. *key* is what its result is called, unless it is the name. The
        other options are those of `BlockBuilder.step`. Returns the function. Raises `DefinitionError`."""

        def declare(function: F) -> F:
            draft = step_draft(
                self._root,
                self._data_max,
                function,
                Options(name, retry, timeout, process, transactional),
                compensate=compensate,
                compensate_on=compensate_on,
            )
            self._add(draft.step.name, key, draft)
            return function

        return declare if function is NOT_GIVEN else declare(function)

    def arm(self, name: str, *, key: str | None = None) -> BlockBuilder:
        """Add an arm of several nodes. *key* is what its result is called, unless it is the name. Raises
        `DefinitionError`."""
        source = source_of(calling_frame())
        check_name(name, f"{self._root.label}: {self._label}: arm name {name!r} ({source})", "Give it a name.")
        arm = BlockBuilder(self._root, f'{self._label}: arm "{name}" ({source})', self._data_max, source)
        self._add(name, key, arm)
        return arm

    def _add(self, name: str, key: str | None, arm: StepDraft | BlockBuilder) -> None:
        self._root.check_open(f'arm "{name}" ({source_of(calling_frame())}) of {self._label}')
        self._arms.append((name, name if key is None else key, arm))

    def finished(self) -> Parallel:
        """See `Draft`."""
        arms = tuple(
            Arm(name, key, Block((arm.finished(),)), single=True)
            if isinstance(arm, StepDraft)
            else Arm(name, key, arm.finished_block())
            for name, key, arm in self._arms
        )
        into = None if self._into is None else self._into.finished()
        return Parallel(self._name, arms, self._source, self._on_error, self._merge, into)

    def __str__(self) -> str:
        return self._label


class ForeachBuilder(BlockBuilder):
    """A foreach in the making: the block that is run for each item."""

    def __init__(
        self,
        root: Root,
        outer_data_max: int,
        name: str,
        items: Decide,
        outcome: tuple[int, ItemPolicy, int | float | None, str | None],
        into: ItemsInto | None,
    ) -> None:
        self._name = name
        self._source, label = _declared(root, "foreach", name)
        super().__init__(root, label, FOREACH_DATA_MAX)
        self._outcome = outcome  # concurrency, on_error, tolerate, collect_as
        if outcome[-1] is not None and into is not None:
            raise DefinitionError(f"{root.label}: {label}: both collect_as and into were given. Choose one.")
        self._items = rule_draft(root, outer_data_max, items, label, "items")
        self._into = _into_draft(root, into, label)

    def finished(self) -> Foreach:
        """See `Draft`."""
        into = None if self._into is None else self._into.finished()
        return Foreach(
            self._name, self._items.finished(), self.finished_block(), self._source, *self._outcome, into=into
        )

    def __str__(self) -> str:
        return self._label


class LoopBuilder(BlockBuilder):
    """A loop in the making: the block that is run again and again."""

    def __init__(self, root: Root, data_max: int, name: str, until: Decide, max_iterations: int | None) -> None:
        self._name = name
        self._source, label = _declared(root, "loop", name)
        super().__init__(root, label, data_max)
        self._until = rule_draft(root, data_max, until, label, "until")
        self._max_iterations = max_iterations

    def finished(self) -> Loop:
        """See `Draft`."""
        return Loop(self._name, self._until.finished(), self.finished_block(), self._source, self._max_iterations)

    def __str__(self) -> str:
        return self._label


def _declared(root: Root, kind: str, name: object) -> tuple[Source, str]:
    """Where a node is declared, and how it is called in messages, once its name is found to be one."""
    source = source_of(calling_frame())
    check_name(name, f"{root.label}: {kind} name {name!r} ({source})", "Give it a name.")
    return source, f'{kind} "{name}" ({source})'


def _into_draft(root: Root, into: Function | None, label: str) -> RuleDraft | None:
    return None if into is None else rule_draft(root, INTO_DATA_MAX, into, label, "into")
