"""What is to come of a random workflow, found by plain interpretation: no journal, no records, no engine.

Owns: walking the nodes of a definition with the plans that its bodies carry (see `tests.engine.trees`), and telling apart what
is certain from what chance decides: how far the others had come when something inside a node that runs several things at once
failed, and which failure was the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from durable import ArmResults, Err, Failure, Goto, ItemResults, Ok, Workflow
from durable.model.definition import (
    OTHERWISE,
    VISITS_MAX,
    Block,
    Branch,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Step,
)
from tests.engine.trees import POSTSCRIPT, Data, Plan

Reason: TypeAlias = tuple[str, str]
"""A failure: the name of its type, and its message, empty when that is not foretold."""

_ABSENT: Any = object()


@dataclass
class Expected:
    """The end of an execution. `attempts` are the tries of each body that is certain to be called; inside of the paths in
    `raced` chance decides. One of `failures` is the execution's. `awaited` is what comes from outside, for bodies that are
    certain or not: (kind, name), and the path of the body. `loops` are the paths of loops, and
    `children` how many it begins, where nothing is `raced`."""

    statuses: set[str] = field(default_factory=set[str])
    result: Any = None
    failures: set[Reason] = field(default_factory=set[Reason])
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    raced: set[str] = field(default_factory=set[str])
    awaited: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    loops: set[str] = field(default_factory=set[str])
    children: int = 0

    def is_certain(self, path: str) -> bool:
        """Whether chance has no part in what happens there."""
        return not any(path.startswith((f"{raced}/", f"{raced}[")) for raced in self.raced)

    def is_repeated(self, path: str) -> bool:
        """Whether it is inside of a loop."""
        return any(path.startswith(f"{loop}[") for loop in self.loops)


def foretell(workflow: Workflow[Any, Any], data: Data, execution: str) -> Expected:
    """The end of *execution*, which is started on *data*."""
    return _Oracle(workflow.definition, execution).foretell(data)


class _Fails(Exception):
    """A node fails, for one of these reasons."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__(*reasons)
        self.reasons = set(reasons)


@dataclass
class _Went:
    """What comes out of a node or block. `silent`: that its last step returned nothing, and *data* is what went in."""

    data: Data
    silent: bool
    target: str | None = None


class _Oracle:
    def __init__(self, definition: Definition, execution: str) -> None:
        self.definition = definition
        self.execution = execution
        self.told = Expected()
        self.undoable: dict[str, Step] = {}

    def foretell(self, data: Data) -> Expected:
        told = self.told
        try:
            told.result = self.block(self.definition.body, "", data, None).data
        except _Fails as failed:
            told.failures = failed.reasons
            told.statuses = self.ending()
            last = self.definition.on_failure
            if last is not None:
                told.attempts[last.name] = self.tries(last)[0]
        else:
            told.statuses = {"completed"}
        return told

    def ending(self) -> set[str]:
        """Undo what was done; the statuses that this may come to."""
        told, status, others = self.told, "failed", set[str]()
        for path, step in self.undoable.items():
            assert step.compensation is not None
            tries, works = self.tries(step.compensation)
            comes_to = "compensated" if works else "compensation_failed"
            if not told.is_certain(path):
                others.add(comes_to)
                continue
            told.attempts[f"{path}/{step.compensation.name}"] = tries
            status = comes_to if status != "compensation_failed" else status
        return {status} if status == "compensation_failed" else {status, *others}

    def tries(self, step: Step) -> tuple[int, bool]:
        """How often a compensation is tried, and whether it succeeds."""
        plan, most = _plan_of(step), (step.retry or self.definition.retry).max_attempts
        return min(plan.failures + 1, most), plan.failures < most

    # --- Blocks and nodes ---------------------------------------------------------------------------------------------

    def block(self, block: Block, prefix: str, data: Data, item: Any) -> _Went:
        nodes = [node for node in block if prefix or node.name != POSTSCRIPT]
        visits: dict[str, int] | None = None
        went = _Went(data, silent=False)
        position = 0
        while position < len(nodes):
            node = nodes[position]
            visit = 1
            if visits is not None:
                visit = visits[node.name] = visits.get(node.name, 0) + 1
                if visit > _visits_max(node):
                    raise _Fails(("GotoRefused", ""))
            path = f"{prefix}{node.name}" + (f"#{visit}" if visit > 1 else "")
            went = self.node(node, path, went.data, item)
            if went.target is None:
                position += 1
                continue
            if visits is None:
                visits = {passed.name: 1 for passed in nodes[: position + 1]}
            names = [node.name for node in block]
            if went.target not in names:
                raise _Fails(("GotoRefused", ""))
            position = names.index(went.target)
        return went

    def node(self, node: Node, path: str, data: Data, item: Any) -> _Went:
        match node:
            case Step():
                return self.step(node, path, data, item)
            case Decision():
                self.told.attempts[path] = 1
                return _after(vars(node.function)["plan"](data), data)
            case Branch():
                return self.branch(node, path, data, item)
            case Parallel():
                return self.parallel(node, path, data, item)
            case Foreach():
                return self.foreach(node, path, data)
            case Loop():
                return self.loop(node, path, data, item)

    def step(self, step: Step, path: str, data: Data, item: Any) -> _Went:
        plan, retry = _plan_of(step), step.retry or self.definition.retry
        number = item if step.signature.positional > 1 and item is not None else -1
        for kind, name in plan.awaited(self.execution, path):
            self.told.awaited[kind, name] = path
        if step.compensate_on == "started" and step.compensation is not None:
            self.undoable[path] = step
        self.told.children += sum(effect in ("child", "started") for effect in plan.effects)
        for attempt in range(1, retry.max_attempts + 1):
            self.told.attempts[path] = attempt
            self.told.children += plan.effects.count("broken child")  # one that has failed is begun again
            if not plan.fails(attempt, number):
                if step.compensation is not None:
                    self.undoable.setdefault(path, step)
                went = _after(plan.returns(data, number), data)
                return _Went(went.data, silent=False) if step.whole else went
        raise _Fails(("ValueError", f"{path}: attempt {retry.max_attempts}"))

    def branch(self, node: Branch, path: str, data: Data, item: Any) -> _Went:
        said = json.dumps(node.on.function(data))
        for case in node.cases:
            if case.value == said:
                return self.block(case.block, f"{path}/{case.label}/", data, item)
        if node.otherwise is None:
            raise _Fails(("NoMatchingCase", ""))
        return self.block(node.otherwise, f"{path}/{OTHERWISE}/", data, item)

    def loop(self, node: Loop, path: str, data: Data, item: Any) -> _Went:
        count, silent = 0, True
        self.told.loops.add(path)
        while True:
            went = self.block(node.block, f"{path}[{count}]/", data, item)
            silent = silent and went.data is data
            data = went.data
            count += 1
            if node.until.function(data):
                return _Went(data, silent)
            if count == node.max_iterations:
                raise _Fails(("LoopExhausted", ""))

    # --- Several things at once -----------------------------------------------------------------------------------------

    def parallel(self, node: Parallel, path: str, data: Data, item: Any) -> _Went:
        results: dict[str, Ok[Any] | Err] = {}
        changed: list[Any] = []
        failed: dict[str, set[Reason]] = {}
        for arm in node.arms:
            try:
                went = self.block(arm.block, f"{path}/" if arm.single else f"{path}/{arm.name}/", data, item)
                results[arm.key] = Ok(None if went.silent else went.data)
                if went.data is not data:
                    changed.append(went.data)
            except _Fails as fails:
                failed[arm.key] = fails.reasons
                results[arm.key] = Err(Failure("some", "failure"))
        if failed and node.on_error == "fail_fast":
            if len(node.arms) > 1:
                self.told.raced.add(path)
            raise _Fails(*(reason for reasons in failed.values() for reason in reasons))
        if node.into is not None:
            return _after(node.into.function(data, ArmResults(results)), data)
        if failed:
            raise _Fails(*next(iter(failed.values())))
        if not changed:
            return _Went(data, silent=True)
        return _Went(_merged(data, changed, deep=node.merge == "deep"), silent=False)

    def foreach(self, node: Foreach, path: str, data: Data) -> _Went:
        items = list(node.items.function())
        concurrent = min(node.concurrency, len(items)) > 1
        results: list[Ok[Any] | Err] = []
        reasons: set[Reason] = set()
        for index, item in enumerate(items):
            try:
                went = self.block(node.block, f"{path}[{index}]/", data, item)
                results.append(Ok(None if went.silent else went.data))
            except _Fails as fails:
                results.append(Err(Failure("some", "failure")))
                ends = node.on_error == "fail_fast"
                reasons |= fails.reasons if ends else {("TooManyFailures", "")}
                if not concurrent and (ends or self.too_many(node, results, len(items))):
                    raise _Fails(*(fails.reasons if ends else reasons)) from None
        if reasons and (node.on_error == "fail_fast" or self.too_many(node, results, len(items))):
            self.told.raced.add(path)
            raise _Fails(*reasons)
        if node.into is None:
            return _Went(data, silent=True)
        return _after(node.into.function(data, ItemResults(results)), data)

    def too_many(self, node: Foreach, results: list[Ok[Any] | Err], whole: int) -> bool:
        failed = sum(isinstance(result, Err) for result in results)
        if node.tolerate is None:
            return False
        return failed > node.tolerate if isinstance(node.tolerate, int) else failed > node.tolerate * whole


def _visits_max(node: Node) -> float:
    if isinstance(node, Step):
        return float("inf")
    return node.max_visits if isinstance(node, Decision) else VISITS_MAX


def _plan_of(step: Step) -> Plan:
    plan = vars(step.function)["plan"]
    assert isinstance(plan, Plan)
    return plan


def _after(said: Data | Goto | None, data: Data) -> _Went:
    if isinstance(said, Goto):
        return _Went(data if said.data is None else said.data, said.data is None, said.target)
    return _Went(data, silent=True) if said is None else _Went(said, silent=False)


def _merged(base: Data, changed: list[Data], *, deep: bool) -> Data:
    """What arms have made of *base*, an object of numbers and lists: nobody deletes a key, and none is an object itself."""
    merged = dict(base)
    touched: dict[str, Any] = {}
    for data in changed:
        for key, value in data.items():
            if base.get(key, _ABSENT) == value:
                continue
            if deep and key in touched and touched[key] != value:
                raise _Fails(("MergeConflict", ""))
            merged[key] = touched[key] = value
    return merged


def differences(expected: Expected, status: str, result: Any, failure: Reason | None) -> Iterator[str]:
    """In what an end is not as foretold."""
    if status not in expected.statuses:
        yield f"it is {status}, and was to be {' or '.join(sorted(expected.statuses))}"
    elif status == "completed" and result != expected.result:
        yield f"its result is {result}, and was to be {expected.result}"
    elif status != "completed" and not any(_alike(failure, reason) for reason in expected.failures):
        yield f"its failure is {failure}, and was to be one of {sorted(expected.failures)}"


def _alike(failure: Reason | None, reason: Reason) -> bool:
    return failure is not None and failure[0] == reason[0] and reason[1] in ("", failure[1])
