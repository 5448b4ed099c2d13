"""Refuses a definition that cannot work, and says where it was written and how to mend it.

`check` is one walk over the tree: each node by itself, its name among its neighbours, and whether it can take what comes to it.
What can be said of a piece alone is in `pieces`. Nothing is called and nothing is changed.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from durable.errors import DefinitionError
from durable.model.definition import (
    FOREACH_DATA_MAX,
    UNANNOTATED,
    Block,
    Branch,
    Composite,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Rule,
    Signature,
    Source,
    Step,
    may_jump,
    parts_of,
    targets_of,
)
from durable.model.fit import fits
from durable.model.gotos import returns_goto
from durable.model.pieces import check_call, check_name, check_node_values, check_options, check_rule
from durable.model.results import ArmResults, ItemResults
from durable.model.signature import ONLY_THEY_GO, is_importable, item_of

INTO_DATA_MAX = 2  # data, results


@dataclass(frozen=True, slots=True)
class _Flow:
    """The data between two nodes: its type, and who gives it."""

    type: Any
    giver: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk stands. `label` begins a sentence, `prefix` a path. `item` is what a foreach around it gives besides the
    data; in a block that `jumps`, a `Goto` may have brought other data than the node before."""

    workflow: str
    prefix: str
    label: str
    data_max: int = 1
    item: _Flow | None = None
    jumps: bool = False


def check(definition: Definition) -> None:
    """Raise `DefinitionError` unless *definition* can be run as it stands."""
    workflow = f'workflow "{definition.name}"'
    check_options(definition)
    here = _Place(workflow, "", f"{workflow} ({definition.source})")
    start = _Flow(definition.input_type, f"the input of {here.label}")
    end = _check_block(here, definition.body, start)
    if definition.on_failure is not None:
        _check_on_failure(here, definition.on_failure, definition.body, start)
    if (misfit := fits(end.type, definition.output_type)) is not None:
        raise DefinitionError(
            f"{here.label} promises a result that {end.giver} does not give: {misfit}. "
            "Change Out in Workflow[In, Out], or the annotation of the step."
        )


def _check_on_failure(here: _Place, step: Step, body: Block, flow: _Flow) -> None:
    label = f'on_failure "{step.name}" ({step.source})'
    where = f"{here.workflow}: {label}"
    check_name(step.name, f"{where} name {step.name!r}")
    for node in body:
        if node.name == step.name:
            raise DefinitionError(f"{where} is called like {_kind(node)} ({node.source}). Rename one.")
    _check_run(step, where, data_max=1)
    _check_takes(here, step.signature, label, flow)


# --- Blocks ---------------------------------------------------------------------------------------------------------


def _check_block(here: _Place, block: Block, flow: _Flow) -> _Flow:
    """Check the nodes of *block*, entered with *flow*. Returns what leaves it."""
    if not block.nodes:
        raise DefinitionError(f"{here.label} has no steps. Declare at least one, e.g. with its .step decorator.")
    kinds = [(_kind(node), f"{here.prefix}{node.name}", node.source) for node in block]
    _refuse_twice(here.workflow, kinds, "Rename one, or pass name=.")
    here = replace(here, jumps=may_jump(block))
    for node in block:
        flow = _check_node(here, node, flow)
        _check_targets(here, node, block)
    return flow


def _refuse_twice(where: str, declared: Iterable[tuple[str, str, Source | None]], cure: str) -> None:
    """Raise `DefinitionError` when two of *declared* (kind, name, place) have the same name."""
    first: dict[str, Source | None] = {}
    for kind, name, source in declared:
        if name in first:
            places = "" if source is None else f" ({first[name]} and {source})"
            raise DefinitionError(f'{where}: {kind} "{name}" is declared twice{places}. {cure}')
        first[name] = source


def _check_targets(here: _Place, node: Node, block: Block) -> None:
    names = [other.name for other in block]
    for target in targets_of(node):
        if target not in names:
            raise DefinitionError(
                f'{here.workflow}: {_kind(node)} "{here.prefix}{node.name}" ({node.source}) may go to {target!r}, but its '
                f"block has no such node. It has: {', '.join(names)}. A Goto leads to a node beside it, not into another block."
            )


def _check_node(here: _Place, node: Node, flow: _Flow) -> _Flow:
    kind, path = _kind(node), f"{here.prefix}{node.name}"
    check_name(node.name, f"{here.workflow}: {kind} name {node.name!r} ({node.source})")
    label = f'{kind} "{path}" ({node.source})'
    where = f"{here.workflow}: {label}"
    if not isinstance(node, Step | Decision):
        check_node_values(node, where)
        _check_parts(node, where)
        _check_rules(here, node, label, flow)
        _check_inside(here, node, label, flow)
        return _Flow(UNANNOTATED, label)  # what a composite gives is decided by its functions, at run time
    _check_run(node, where, here.data_max)
    _check_takes(here, node.signature, label, flow)
    if isinstance(node, Step) and node.whole:
        passed = _Flow(node.signature.output_type, label)
    else:
        passed = _passed_on(_Flow(UNANNOTATED, flow.giver) if here.jumps else flow, node.signature, label)
    if isinstance(node, Step):
        if returns_goto(node.function):
            raise DefinitionError(f"{where} returns a Goto. {ONLY_THEY_GO}")
        if node.compensation is not None:
            _check_compensation(here, node, label, flow, passed)
    return passed


# --- Steps ----------------------------------------------------------------------------------------------------------


def _check_run(node: Step | Decision, where: str, data_max: int) -> None:
    check_node_values(node, where)
    check_call(node.function, node.runs_in, node.signature, where, data_max)
    # Not a fault of the function alone: while it is being decorated, its module does not have it yet.
    if node.runs_in == "process" and not is_importable(node.function):
        raise DefinitionError(
            f"{where} runs in a worker process, but its name in its module leads to something else. "
            "Put the step decorator above all others, and do not use the name again."
        )


def _check_compensation(here: _Place, step: Step, label: str, given: _Flow, passed: _Flow) -> None:
    undo = step.compensation
    assert undo is not None
    where = f"{here.workflow}: {label}: compensation"
    check_name(undo.name, f"{where} name {undo.name!r}")
    _check_run(undo, f'{where} "{undo.name}" ({undo.source})', data_max=1)
    mine = f'compensation "{undo.name}" ({undo.source})'
    _check_takes(here, undo.signature, mine, passed)
    if step.compensate_on == "started":  # and not completed: then it gets what the step was given
        _check_takes(here, undo.signature, mine, replace(given, giver=f"{given.giver} when {label} fails"))


def _check_takes(here: _Place, signature: Signature, label: str, flow: _Flow | None) -> None:
    """Raise `DefinitionError` when a function could never be called with the data of *flow*, or with the item around it."""
    comes = [(flow, signature.input_type), (here.item, signature.item_type)]
    for given, wanted in comes[: signature.positional]:
        if given is not None and (misfit := fits(given.type, wanted)) is not None:
            raise DefinitionError(
                f"{here.workflow}: {label} cannot take what comes from {given.giver}: {misfit}. "
                "Change one of the two annotations."
            )


def _passed_on(flow: _Flow, signature: Signature, label: str) -> _Flow:
    """The data after a step: its result, or what it was given where the result is None."""
    result = signature.output_type
    if result is types.NoneType or result is None:
        return flow
    if typing.get_origin(result) in (typing.Union, types.UnionType):
        members = typing.get_args(result)
        if types.NoneType in members:
            others = tuple(member for member in members if member is not types.NoneType)
            return _Flow(typing.Union[(*others, flow.type)], label)
    return _Flow(result, label)


# --- Nodes with blocks inside ---------------------------------------------------------------------------------------


def _check_inside(here: _Place, node: Composite, label: str, flow: _Flow) -> None:
    """Check the blocks of a node, each entered with the data that the node is given."""
    path, kind = f"{here.prefix}{node.name}", "arm" if isinstance(node, Parallel) else "case"
    for part, block in parts_of(node):
        inside = replace(here, prefix=f"{path}/", label=f"{here.workflow}: {label}")
        if part is not None:
            place = "" if block.source is None else f" ({block.source})"
            inside = replace(inside, prefix=f"{path}/{part}/", label=f'{inside.label}: {kind} "{part}"{place}')
        if isinstance(node, Foreach):
            item = _Flow(item_of(node.items.signature.output_type), f"items of {label}")
            inside = replace(inside, data_max=FOREACH_DATA_MAX, item=item)
        end = _check_block(inside, block, flow)
        if isinstance(node, Loop):
            _check_takes(here, node.until.signature, f"{label}: until", end)
            if node.max_iterations != 1:
                _check_block(inside, block, replace(end, giver=f"the iteration before ({end.giver})"))


def _check_parts(node: Composite, where: str) -> None:
    match node:
        case Branch():
            if not node.cases:
                raise DefinitionError(f"{where} has no cases. Declare at least one, with .case(value).")
            for case in node.cases:
                check_name(
                    case.label, f"{where}: case {case.value} is called {case.label!r} in paths, and that", "Pass name=."
                )
                if _never_says(node.on.signature.output_type, case.value):
                    raise DefinitionError(
                        f"{where}: case {case.value} can never be chosen: on is annotated to return something else. Change one."
                    )
            cases = [("case", case.label, case.block.source) for case in node.cases]
            _refuse_twice(where, cases, "Two values may look the same in paths: pass name= to call one otherwise.")
        case Parallel():
            _check_arms(node, where)
            _check_choice("on_error", node.on_error, ("fail_fast", "complete_all"), where)
        case Foreach():
            _check_choice("on_error", node.on_error, ("fail_fast", "continue"), where)
            if node.tolerate is not None and node.on_error != "continue":
                raise DefinitionError(
                    f'{where}: tolerate says how many items may fail. Give on_error="continue" as well.'
                )
        case Loop() if node.max_iterations is None and (undone := _compensable(node.block)) is not None:
            raise DefinitionError(
                f'{where} may run for ever, but its step "{undone.name}" ({undone.source}) has a compensation, and all of them '
                "would have to be kept. Give max_iterations=."
            )
        case Loop():
            pass


def _never_says(annotation: Any, text: str) -> bool:
    value = json.loads(text)
    if value is None:  # of which `fits` says nothing: to a step it means something else
        return False
    return fits(annotation, bool if isinstance(value, bool) else Literal[value]) is not None


def _check_arms(node: Parallel, where: str) -> None:
    if not node.arms:
        raise DefinitionError(f"{where} has no arms. Declare at least one, with .step or .arm(name).")
    for arm in node.arms:
        check_name(arm.name, f"{where}: arm name {arm.name!r}", "Give it a name.")
        key: Any = arm.key
        if not isinstance(key, str) or not key:
            raise DefinitionError(f'{where}: arm "{arm.name}": key is {key!r}. Give a string that is not empty.')
    placed = [(arm, arm.block.nodes[0].source if arm.single else arm.block.source) for arm in node.arms]
    _refuse_twice(where, [("arm", arm.name, place) for arm, place in placed], "Rename one.")
    keys = [("key", arm.key, place) for arm, place in placed]
    _refuse_twice(where, keys, "Each arm's result needs a key of its own: pass another key=.")


def _check_choice(option: str, value: object, choices: tuple[str, ...], where: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise DefinitionError(f"{where}: {option} is {value!r}. Give {' or '.join(map(repr, choices))}.")


def _compensable(block: Block) -> Step | None:
    """A step with a compensation, anywhere in *block*."""
    for node in block:
        if isinstance(node, Step):
            if node.compensation is not None:
                return node
        elif not isinstance(node, Decision):
            for _, inner in parts_of(node):
                if (found := _compensable(inner)) is not None:
                    return found
    return None


def _check_rules(here: _Place, node: Composite, label: str, flow: _Flow) -> None:
    """Check the functions that decide. `until` gets what the block gives: see `_check_inside`."""
    match node:
        case Branch():
            _check_decides(here, node.on, f"{label}: on", flow)
        case Loop():
            _check_decides(here, node.until, f"{label}: until", None)
        case Foreach():
            _check_decides(here, node.items, f"{label}: items", flow)
            _check_collected(here, node, label, flow)
            _check_into(here, node.into, label, flow, ItemResults)
        case Parallel():
            _check_into(here, node.into, label, flow, ArmResults)


def _check_decides(here: _Place, rule: Rule, label: str, flow: _Flow | None) -> None:
    where = f"{here.workflow}: {label}"
    check_rule(rule.function, where, rule.signature, here.data_max)
    if rule.targets:
        raise DefinitionError(f"{where} returns a Goto. {ONLY_THEY_GO}")
    _check_takes(here, rule.signature, label, flow)


def _check_collected(here: _Place, node: Foreach, label: str, flow: _Flow) -> None:
    where = f"{here.workflow}: {label}"
    if (misfit := fits(node.items.signature.output_type, list[Any])) is not None:
        raise DefinitionError(f"{where}: items is annotated to return no list: {misfit}. Return a list.")
    if node.collect_as is not None and (misfit := fits(flow.type, dict[str, Any])) is not None:
        raise DefinitionError(
            f"{where}: collect_as puts the results under a key of the data, but what comes from {flow.giver} has no keys: "
            f"{misfit}. Use into= to combine them."
        )


def _check_into(here: _Place, into: Rule | None, label: str, flow: _Flow, results: type) -> None:
    if into is None:
        return
    label = f"{label}: into"
    check_rule(into.function, f"{here.workflow}: {label}", into.signature, INTO_DATA_MAX)
    if any(into.signature.item_type is other for other in (ArmResults, ItemResults) if other is not results):
        raise DefinitionError(
            f"{here.workflow}: {label} is annotated to take {into.signature.item_type.__name__}, but it is given "
            f"{results.__name__}. Change the annotation."
        )
    _check_takes(replace(here, item=None), into.signature, label, flow)


def _kind(node: Node) -> str:
    return type(node).__name__.lower()
