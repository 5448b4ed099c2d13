"""`BlockBuilder`: a block in the making, and the decorators and methods that add nodes to it, in the order of their calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, overload

from typing_extensions import Unpack

from durable.authoring.drafts import DecisionDraft, Draft, Options, Root, step_draft
from durable.authoring.options import (
    ArmPolicy,
    ArmsInto,
    Decide,
    DecisionOptions,
    F,
    ItemPolicy,
    ItemsInto,
    StepOptions,
)
from durable.errors import DefinitionError
from durable.model.definition import VISITS_MAX, Block, CompensateOn, Function, Merge, Source
from durable.model.retry import Retry

if TYPE_CHECKING:
    from durable.authoring.composites import BranchBuilder, ForeachBuilder, LoopBuilder, ParallelBuilder

NOT_GIVEN: Any = object()


class NoDecorator:
    """What nodes are added to, but by its methods: a call of it is a mistake, and says so."""

    __durable_block__ = True  # by which the model knows that it is no function

    _root: Root
    _label: str

    if not TYPE_CHECKING:  # to a type checker it cannot be called at all

        def __call__(self, *_: object, **__: object) -> NoReturn:
            methods = ("step", "decision", "branch", "parallel", "foreach", "loop", "case", "otherwise", "arm")
            has = ", ".join(f".{method}" for method in methods if hasattr(type(self), method))
            where = f"{self._root.label}: {self._label}"
            raise DefinitionError(f"{where} was called, but is no decorator. Use what it has: {has}.")


class BlockBuilder(NoDecorator):
    """A block in the making: the workflow itself, a case, an arm, the body of a foreach or of a loop."""

    def __init__(self, root: Root, label: str, data_max: int = 1, source: Source | None = None) -> None:
        self._root = root
        self._label = label
        self._data_max = data_max  # how many data arguments a step in this block is given
        self._block_source = source
        self._drafts: list[Draft] = []

    @overload
    def step(self, function: F, /, **options: Unpack[StepOptions]) -> F: ...
    @overload
    def step(self, /, **options: Unpack[StepOptions]) -> Callable[[F], F]: ...
    def step(
        self,
        function: Any = NOT_GIVEN,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
        transactional: bool = False,
        compensate: Function | None = None,
        compensate_on: CompensateOn = "completed",
    ) -> Any:
        """Add a function as the next step; use it as ``@block.step`` or ``@block.step(...)``. Returns the function.

        An ``async def`` runs on the event loop, a ``def`` in a thread, with *process* in a worker process. It takes
        the data, or nothing, and a `Context` if a parameter is annotated so; within a foreach ``(data, item, index)`` or
        fewer. A step that returns None leaves the data as it was. *name* is the function's name unless given. *retry* is
        the workflow's unless given. *timeout* bounds each active run of the body and cancels it.

        *compensate* undoes the step when the execution fails later on; it gets the data right after the step. With
        ``compensate_on="started"`` it also undoes a step that was begun but timed out, failed or was cancelled, and then
        gets the data that the step was given.

        With *transactional*, an ``async def`` finds a transaction of its own in ``context().connection``: what it writes there
        commits together with its record, exactly once, or not at all. Such a body does not wait for anything. Raises
        `DefinitionError`.
        """

        def declare(function: F) -> F:
            self._add(
                step_draft(
                    self._root,
                    self._data_max,
                    function,
                    Options(name, retry, timeout, process, transactional),
                    compensate=compensate,
                    compensate_on=compensate_on,
                )
            )
            return function

        return declare if function is NOT_GIVEN else declare(function)

    @overload
    def decision(self, function: F, /, **options: Unpack[DecisionOptions]) -> F: ...
    @overload
    def decision(self, /, **options: Unpack[DecisionOptions]) -> Callable[[F], F]: ...
    def decision(
        self,
        function: Any = NOT_GIVEN,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        process: bool = False,
        max_visits: int = VISITS_MAX,
    ) -> Any:
        """Add a step that may also return ``Goto("name", data)``, to go on with another node of this block, forwards or
        backwards. Returns the function.

        A node that is reached again is a new visit: it has records, a path (``check#2``) and an idempotency key of its own.
        After *max_visits* visits of the decision the execution fails instead of going round once more. The other options
        are those of `step`. Raises `DefinitionError`.
        """

        def declare(function: F) -> F:
            options = Options(name, retry, timeout, process)
            draft = step_draft(self._root, self._data_max, function, options, kind="decision")
            self._add(DecisionDraft(draft, max_visits))
            return function

        return declare if function is NOT_GIVEN else declare(function)

    def branch(self, name: str, *, on: Decide) -> BranchBuilder:
        """Add a choice between blocks. ``on(data)`` is asked once and what it says is recorded; it chooses the
        `BranchBuilder.case` of the same value and type (``1`` is not ``True``), else `BranchBuilder.otherwise`; without
        that, the execution fails. Raises `DefinitionError`.
        """
        from durable.authoring.composites import BranchBuilder

        branch = BranchBuilder(self._root, self._data_max, name, on)
        self._add(branch)
        return branch

    def parallel(
        self,
        name: str,
        *,
        merge: Merge | None = None,
        on_error: ArmPolicy = "fail_fast",
        into: ArmsInto | None = None,
    ) -> ParallelBuilder:
        """Add arms that run at the same time, all on the same data: `ParallelBuilder.step` and `ParallelBuilder.arm`.

        ``on_error="fail_fast"`` cancels the others as soon as one has failed for good, ``"complete_all"`` lets them finish.
        *into* gets the data and the `ArmResults`, and returns the data that goes on (or a `Goto`, or raises); with
        ``"complete_all"`` it also decides what to make of failures. Without it any failure fails the execution, and *merge*
        combines what the arms have changed: ``"deep"`` (the default; dicts are merged, two arms that change the same
        place are a failure), ``"last_wins"`` (the arm declared last) or ``"collect"`` (``{arm: value}``). Raises
        `DefinitionError`.
        """
        from durable.authoring.composites import ParallelBuilder

        parallel = ParallelBuilder(self._root, self._data_max, name, merge, on_error, into)
        self._add(parallel)
        return parallel

    def foreach(
        self,
        name: str,
        *,
        items: Decide,
        concurrency: int = 1,
        on_error: ItemPolicy = "fail_fast",
        tolerate: int | float | None = None,
        collect_as: str | None = None,
        into: ItemsInto | None = None,
    ) -> ForeachBuilder:
        """Add a block that is run for each of ``items(data)``, which is asked once and recorded; at most *concurrency* items
        are in progress at once, one after the other by default.

        The first step of an item gets ``(data, item, index)`` or fewer, later ones what the step before returned, with item and
        index. An item's result is what its last step returned, None included. *into* gets the data and the `ItemResults`
        in the order of the items, and returns the data that goes on (or a `Goto`, or raises); *collect_as* puts the
        values of the items that succeeded under that key of a dict; otherwise the data goes on unchanged.

        ``on_error="fail_fast"`` ends everything with the first item that has failed for good; ``"continue"`` goes on, unless
        more than *tolerate* items fail: a number of items, or a share of them as a float below 1. Raises
        `DefinitionError`.
        """
        from durable.authoring.composites import ForeachBuilder

        outcome = (concurrency, on_error, tolerate, collect_as)
        foreach = ForeachBuilder(self._root, self._data_max, name, items, outcome, into)
        self._add(foreach)
        return foreach

    def loop(self, name: str, *, until: Decide, max_iterations: int | None = None) -> LoopBuilder:
        """Add a block that is run, and run again until ``until(data)`` is true. What the iterations recorded is dropped
        when they end, so a loop may run for ever; with *max_iterations* it fails when the last of them has not made
        *until* true. Raises `DefinitionError`.
        """
        from durable.authoring.composites import LoopBuilder

        loop = LoopBuilder(self._root, self._data_max, name, until, max_iterations)
        self._add(loop)
        return loop

    def _add(self, draft: Draft) -> None:
        self._root.check_open(draft)
        self._drafts.append(draft)

    def finished_block(self) -> Block:
        """The block, with its nodes finished. Raises `DefinitionError`."""
        return Block(tuple(draft.finished() for draft in self._drafts), self._block_source)
