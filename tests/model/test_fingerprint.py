from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from durable.model.definition import (
    Arm,
    Block,
    Branch,
    Case,
    Decision,
    Foreach,
    Loop,
    Node,
    Parallel,
    Signature,
    Step,
)
from durable.model.evolution import resumes
from durable.model.fingerprint import Tree, fingerprint, shape_of
from durable.model.retry import Retry

from .trees import HERE, block, definition, rule, step, unchanged

NAMES = st.lists(st.text(min_size=1, max_size=5), max_size=6, unique=True)


def shape(*nodes: Node, **fields: Any) -> Tree:
    return shape_of(definition(*nodes, **fields))


def pipeline(names: list[str]) -> Tree:
    return shape(*(step(name) for name in names))


def everything() -> list[Node]:
    cases = (Case("yes", "true", block("a")), Case("no", "false", block("b")))
    return [
        step("first"),
        Decision("decide", unchanged, Signature(1), "loop", HERE),
        Branch("choose", rule(), cases, HERE, otherwise=block("c")),
        Parallel("fetch", (Arm("user", "user", block("d")), Arm("cart", "cart", block("e"))), HERE),
        Foreach("each", rule(), block("f"), HERE),
        Loop("poll", rule(), block("g"), HERE),
    ]


def test_a_fingerprint_never_changes() -> None:
    # Executions in databases carry these numbers: if this test fails, it is the code that is wrong.
    assert fingerprint({"nodes": []}, "order", 1) == -8430727924044684941
    assert fingerprint(shape(*everything()), "bestellung-é", 7) == 7411304852431977721


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    tree = shape(*everything())
    code = (
        "import json, sys\n"
        "from durable.model.fingerprint import fingerprint\n"
        "print(fingerprint(json.load(sys.stdin), 'order', 1))"
    )
    backwards = {"nodes": [dict(reversed(node.items())) for node in tree["nodes"]]}
    found = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(backwards),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(found.stdout) == fingerprint(tree, "order", 1)


@given(NAMES, st.text(max_size=10), st.integers(1, 2**31 - 1))
def test_a_fingerprint_fits_a_postgresql_bigint(names: list[str], workflow: str, version: int) -> None:
    assert -(2**63) <= fingerprint(pipeline(names), workflow, version) < 2**63


@given(NAMES, NAMES)
def test_different_names_have_different_fingerprints(one: list[str], other: list[str]) -> None:
    same = fingerprint(pipeline(one), "order", 1) == fingerprint(pipeline(other), "order", 1)
    assert same == (one == other)


def test_workflow_and_version_are_part_of_the_fingerprint() -> None:
    tree = pipeline(["a"])
    found = {fingerprint(tree, name, version) for name in ("order", "trip") for version in (1, 2)}
    assert len(found) == 4


def test_a_shape_survives_json() -> None:
    tree = shape(*everything())
    assert json.loads(json.dumps(tree)) == tree


def test_bodies_annotations_options_and_places_are_no_part_of_the_shape() -> None:
    async def other() -> int:
        return 1

    undo = Step("undo", other, Signature(0), "loop", HERE)
    changed = step(
        "a",
        other,
        line=99,
        signature=Signature(0, output_type=int),
        retry=Retry(max_attempts=9),
        timeout=timedelta(seconds=1),
        compensation=undo,
    )
    assert shape(changed, queue="slow", priority=3, timeout=timedelta(1)) == shape(step("a"))


def test_every_name_and_every_kind_is_part_of_the_shape() -> None:
    def renamed(node: Any) -> list[Node]:
        variants: list[Any] = [replace(node, name="other")]
        match node:
            case Branch():
                first, *rest = node.cases
                variants.append(replace(node, cases=(replace(first, label="other"), *rest)))
                variants.append(replace(node, cases=(replace(first, block=block("other")), *rest)))
                variants.append(replace(node, otherwise=None))
                variants.append(replace(node, otherwise=block("other")))
            case Parallel():
                first, *rest = node.arms
                variants.append(replace(node, arms=(replace(first, name="other"), *rest)))
                variants.append(replace(node, arms=(replace(first, block=block("other")), *rest)))
            case Foreach() | Loop():
                variants.append(replace(node, block=block("other")))
            case _:
                pass
        return variants

    nodes = everything()
    shapes = [shape(*nodes)]
    for place, node in enumerate(nodes):
        shapes += [shape(*nodes[:place], changed, *nodes[place + 1 :]) for changed in renamed(node)]
    shapes.append(shape(Decision("a", unchanged, Signature(1), "loop", HERE)))
    shapes.append(shape(step("a")))
    shapes.append(shape(Foreach("a", rule(), block("x"), HERE)))
    shapes.append(shape(Loop("a", rule(), block("x"), HERE)))
    assert len({fingerprint(tree, "order", 1) for tree in shapes}) == len(shapes)


def test_moving_a_case_in_the_file_changes_nothing() -> None:
    cases = (Case("yes", "true", block("a")), Case("no", "false", block("b")))
    moved = tuple(reversed(cases))
    assert shape(Branch("choose", rule(), cases, HERE)) == shape(Branch("choose", rule(), moved, HERE))


@given(NAMES, NAMES)
def test_executions_resume_exactly_when_the_stored_steps_come_first(stored: list[str], current: list[str]) -> None:
    reason = resumes(pipeline(stored), pipeline(current))
    assert (reason is None) == (current[: len(stored)] == stored)


@given(NAMES, NAMES)
def test_executions_resume_when_steps_are_added_at_the_end(stored: list[str], added: list[str]) -> None:
    assert resumes(pipeline(stored), pipeline([*stored, *added])) is None


def test_any_tree_resumes_as_itself_even_after_json() -> None:
    tree = shape(*everything())
    assert resumes(json.loads(json.dumps(tree)), tree) is None


def test_the_reason_says_what_was_expected_and_what_was_found() -> None:
    stored = pipeline(["validate", "charge"])
    assert resumes(stored, pipeline(["validate", "bill"])) == 'expected step "charge" in place 2, found step "bill"'
    assert resumes(stored, pipeline(["validate"])) == ('expected step "charge" in place 2, found the end')
    decision = Decision("charge", unchanged, Signature(1), "loop", HERE)
    assert resumes(stored, shape(step("validate"), decision)) == (
        'expected step "charge" in place 2, found decision "charge"'
    )


def test_a_change_inside_a_node_does_not_resume() -> None:
    stored = shape(Loop("poll", rule(), block("a"), HERE))
    current = shape(Loop("poll", rule(), Block((step("a"), step("b"))), HERE))
    reason = resumes(stored, current)
    assert reason == 'expected loop "poll" in place 1 as it was, found it changed inside'
