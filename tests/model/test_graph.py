from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable.authoring import Workflow
from durable.errors import UsageError
from durable.model.check import check
from durable.model.definition import (
    Arm,
    Block,
    Branch,
    Case,
    Decision,
    Definition,
    Foreach,
    Loop,
    Node,
    Parallel,
    Rule,
    Signature,
    parts_of,
)
from durable.model.graph import Graph, GraphEdge, GraphNode, NodeState, graph_of, laid_over
from durable.model.mermaid import quoted
from durable.model.paths import node_at
from durable.model.results import Goto
from durable.model.status import Status
from durable.view import Execution, StepView

from .random_trees import NAMES, definitions
from .trees import HERE, block, definition, rule, step, unchanged

random_definitions = given(definitions())
thorough = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])

LABEL = r'"[^"\n]*"'
LINES = re.compile(
    rf"""
      flowchart\ TD
    | \ +subgraph\ b\d+\[{LABEL}\]
    | \ +end
    | \ +n\d+(\(\[{LABEL}\]\)|\[{LABEL}\]|\[/{LABEL}\\\]|\(\({LABEL}\)\)|\({LABEL}\)|\{{{LABEL}\}}|\{{\{{{LABEL}\}}\}})
    | \ +n\d+\ (-->|==>|-\.->)(\|{LABEL}\|)?\ n\d+
    | \ +classDef\ (completed|running|retrying|failed|stopped)\ [\w:,\#]+
    | \ +class\ n\d+(,n\d+)*\ (completed|running|retrying|failed|stopped)
    """,
    re.VERBOSE,
)


@dataclass
class Seen:
    """An execution as far as a graph looks at it."""

    statuses: Mapping[str, str]
    status: Status = Status.RUNNING

    @property
    def steps(self) -> list[StepView]:
        return [StepView(path, status, []) for path, status in self.statuses.items()]


def graph(*nodes: Node, **fields: Any) -> Graph:
    whole = definition(*nodes, **fields)
    check(whole)
    return graph_of(whole)


def decide(name: str, *targets: str) -> Decision:
    return Decision(name, unchanged, Signature(1), "loop", HERE, targets=targets)


def into(*targets: str) -> Rule:
    return Rule(unchanged, Signature(2), HERE, targets)


def everything() -> list[Node]:
    cases = (Case("approved", '"approved"', block("process")), Case("no", '"no"', block("tell")))
    arms = (
        Arm("user", "user", Block((step("user", compensation=step("forget")),)), single=True),
        Arm("prices", "prices", block("look_up", "convert")),
    )
    return [
        step("book", compensation=step("cancel")),
        decide("check", "book"),
        Branch("outcome", rule(), cases, HERE, otherwise=block("ask")),
        Parallel("fetch", arms, HERE),
        Foreach("mails", rule(), block("send"), HERE, concurrency=4),
        Loop("poll", rule(), block("look"), HERE, max_iterations=9),
    ]


def edges(graph: Graph, kind: str = "flow") -> list[str]:
    """The edges of a kind as text: ``a -> b: label``."""
    return [f"{e.source} -> {e.target}{e.label and f': {e.label}'}" for e in graph.edges if e.kind == kind]


def states(statuses: Mapping[str, str], *nodes: Node, ended: bool = False) -> dict[str, str]:
    """The labels of the nodes of a workflow in an execution."""
    return {path: state.label for path, state in laid_over(graph(*nodes), statuses, ended=ended).items()}


def count(block: Block) -> int:
    """How many nodes of the author's, compensations and arms of several nodes are in *block*."""
    total = 0
    for node in block:
        total += 1 + (getattr(node, "compensation", None) is not None)
        if isinstance(node, Branch | Parallel | Foreach | Loop):
            total += sum(count(inner) for _, inner in parts_of(node))
        if isinstance(node, Parallel):
            total += 1 + sum(not arm.single for arm in node.arms)  # where they come together, and the arms
    return total


# --- Nodes ----------------------------------------------------------------------------------------------------------


def test_every_node_of_the_definition_is_in_the_graph() -> None:
    found = [(n.path, n.kind, n.parent) for n in graph(*everything(), on_failure=step("report")).nodes]
    assert found == [
        ("#start", "start", None),
        ("book", "step", None),
        ("book/cancel", "compensation", None),
        ("check", "decision", None),
        ("outcome", "branch", None),
        ("outcome/approved/process", "step", "outcome"),
        ("outcome/no/tell", "step", "outcome"),
        ("outcome/otherwise/ask", "step", "outcome"),
        ("fetch", "parallel", None),
        ("fetch/user", "step", "fetch"),
        ("fetch/user/forget", "compensation", "fetch"),
        ("fetch/prices", "arm", "fetch"),
        ("fetch/prices/look_up", "step", "fetch/prices"),
        ("fetch/prices/convert", "step", "fetch/prices"),
        ("fetch#join", "join", "fetch"),
        ("mails", "foreach", None),
        ("mails/send", "step", "mails"),
        ("poll/look", "step", "poll"),
        ("poll", "loop", None),
        ("report", "on_failure", None),
        ("#end", "end", None),
    ]


@random_definitions
@thorough
def test_every_node_of_any_definition_is_in_the_graph_once(whole: Definition) -> None:
    paths = [node.path for node in graph_of(whole).nodes]
    assert len(set(paths)) == len(paths) == count(whole.body) + 2 + (whole.on_failure is not None)


@random_definitions
@thorough
def test_the_path_of_a_node_leads_to_it_in_the_definition(whole: Definition) -> None:
    for node in graph_of(whole).nodes:
        found = node_at(whole, node.path)
        if node.kind in ("start", "end", "arm"):
            assert found is None
        else:
            assert found is not None
            assert node.name == ("join" if node.kind == "join" else found.name)


@random_definitions
@thorough
def test_every_node_is_inside_nodes_of_the_graph_as_its_path_says(whole: Definition) -> None:
    nodes = {node.path: node for node in graph_of(whole).nodes}
    for node in nodes.values():
        if node.parent is not None:
            assert nodes[node.parent].kind in ("branch", "parallel", "arm", "foreach", "loop")
            assert node.path.startswith((f"{node.parent}/", f"{node.parent}#"))


# --- Edges ----------------------------------------------------------------------------------------------------------


@random_definitions
@thorough
def test_every_edge_connects_nodes_that_exist(whole: Definition) -> None:
    graph = graph_of(whole)
    kinds = {node.path: node.kind for node in graph.nodes}
    assert len(set(graph.edges)) == len(graph.edges)
    for edge in graph.edges:
        assert kinds.keys() >= {edge.source, edge.target}
        assert "arm" not in (kinds[edge.source], kinds[edge.target])
        assert kinds[edge.source] != "end"
        assert kinds[edge.target] != "start"


@random_definitions
@thorough
def test_every_node_is_reached_from_the_start(whole: Definition) -> None:
    graph = graph_of(whole)
    reached, left = {"#start"}, ["#start"]
    while left:
        source = left.pop()
        new = {edge.target for edge in graph.edges if edge.source == source} - reached
        reached |= new
        left += new
    # Nothing leads to an arm of several nodes, but to what is inside it.
    reached |= {node.parent for node in graph.nodes if node.path in reached and node.parent is not None}
    assert reached == {node.path for node in graph.nodes}


@random_definitions
@thorough
def test_the_end_is_reached_from_wherever_something_goes_on(whole: Definition) -> None:
    graph = graph_of(whole)
    reaching, left = {"#end"}, ["#end"]
    while left:
        target = left.pop()
        new = {edge.source for edge in graph.edges if edge.target == target and edge.kind == "flow"} - reaching
        reaching |= new
        left += new
    last = {node.path for node in graph.nodes if node.kind in ("arm", "compensation", "on_failure")}
    assert reaching == {node.path for node in graph.nodes} - last


def test_steps_follow_one_another() -> None:
    assert edges(graph(step("a"), step("b"))) == ["#start -> a", "a -> b", "b -> #end"]


def test_each_case_leaves_the_branch_under_its_label_and_goes_on_behind_it() -> None:
    cases = (Case("yes", "true", block("a", "b")), Case("no", "false", block("c")))
    assert edges(graph(Branch("choose", rule(), cases, HERE, otherwise=block("d")), step("last"))) == [
        "#start -> choose",
        "choose -> choose/yes/a: yes",
        "choose/yes/a -> choose/yes/b",
        "choose -> choose/no/c: no",
        "choose -> choose/otherwise/d: otherwise",
        "choose/yes/b -> last",
        "choose/no/c -> last",
        "choose/otherwise/d -> last",
        "last -> #end",
    ]


def test_a_branch_without_otherwise_has_no_way_around_its_cases() -> None:
    cases = (Case("yes", "true", block("a")), Case("no", "false", block("b")))
    assert edges(graph(Branch("choose", rule(), cases, HERE))) == [
        "#start -> choose",
        "choose -> choose/yes/a: yes",
        "choose -> choose/no/b: no",
        "choose/yes/a -> #end",
        "choose/no/b -> #end",
    ]


def test_arms_begin_together_and_come_together() -> None:
    arms = (Arm("a", "a", block("a"), single=True), Arm("b", "b", block("c", "d")))
    assert edges(graph(Parallel("fetch", arms, HERE))) == [
        "#start -> fetch",
        "fetch -> fetch/a",
        "fetch -> fetch/b/c",
        "fetch/b/c -> fetch/b/d",
        "fetch/a -> fetch#join",
        "fetch/b/d -> fetch#join",
        "fetch#join -> #end",
    ]


def test_a_foreach_asks_for_items_first_so_that_there_may_be_none() -> None:
    assert edges(graph(Foreach("each", rule(), block("a", "b"), HERE))) == [
        "#start -> each",
        "each -> each/a: each item",
        "each/a -> each/b",
        "each/b -> each",
        "each -> #end: done",
    ]


def test_a_loop_asks_after_its_block() -> None:
    inner = Block((Loop("inner", rule(), block("a"), HERE), step("b")))
    assert edges(graph(Loop("outer", rule(), inner, HERE))) == [
        "#start -> outer/inner/a",
        "outer/inner/a -> outer/inner",
        "outer/inner -> outer/inner/a: again",
        "outer/inner -> outer/b: done",
        "outer/b -> outer",
        "outer -> outer/inner/a: again",
        "outer -> #end: done",
    ]


def test_a_goto_leads_to_where_its_target_begins() -> None:
    each = Foreach("each", rule(), Block((decide("again", "again"),)), HERE, into=into("first"))
    fetch = Parallel("fetch", (Arm("x", "x", block("x"), single=True),), HERE, into=into("each", "poll"))
    poll = Loop("poll", rule(), block("look"), HERE)
    found = graph(step("first"), decide("check", "poll", "first", "poll"), each, fetch, poll)
    assert edges(found, "goto") == [
        "check -> poll/look: goto",
        "check -> first: goto",
        "each/again -> each/again: goto",
        "each -> first: goto",
        "fetch#join -> each: goto",
        "fetch#join -> poll/look: goto",
    ]
    assert "check -> each" in edges(found)  # a decision may also just go on


def test_a_compensation_hangs_on_its_step() -> None:
    found = graph(Foreach("each", rule(), Block((step("book", compensation=step("cancel")),)), HERE), step("last"))
    assert edges(found, "compensation") == ["each/book -> each/book/cancel: undo"]
    assert "each/book -> each" in edges(found)


def test_what_is_run_on_failure_is_beside_the_flow() -> None:
    found = graph(step("a"), on_failure=step("report"))
    assert edges(found, "on_failure") == ["#start -> report: on failure"]
    assert edges(found) == ["#start -> a", "a -> #end"]


# --- The text -------------------------------------------------------------------------------------------------------


def test_the_text_of_a_graph() -> None:
    assert graph(*everything(), on_failure=step("report")).mermaid() == (
        "flowchart TD\n"
        '    n0(["order"])\n'
        '    n1["book"]\n'
        '    n2("cancel")\n'
        '    n3{"check"}\n'
        '    n4{"outcome"}\n'
        '    n5["process"]\n'
        '    n6["tell"]\n'
        '    n7["ask"]\n'
        '    subgraph b8["parallel"]\n'
        '        n8[/"fetch"\\]\n'
        '        n9["user"]\n'
        '        n10("forget")\n'
        '        subgraph b11["prices"]\n'
        '            n12["look_up"]\n'
        '            n13["convert"]\n'
        "        end\n"
        '        n14((" "))\n'
        "    end\n"
        '    subgraph b15["for each, 4 at a time"]\n'
        '        n15{{"mails"}}\n'
        '        n16["send"]\n'
        "    end\n"
        '    subgraph b18["loop, at most 9 times"]\n'
        '        n18{"poll"}\n'
        '        n17["look"]\n'
        "    end\n"
        '    n19("report")\n'
        '    n20(["end"])\n'
        "    n0 --> n1\n"
        '    n1 -.->|"undo"| n2\n'
        "    n1 --> n3\n"
        '    n3 ==>|"goto"| n1\n'
        "    n3 --> n4\n"
        '    n4 -->|"approved"| n5\n'
        '    n4 -->|"no"| n6\n'
        '    n4 -->|"otherwise"| n7\n'
        "    n5 --> n8\n"
        "    n6 --> n8\n"
        "    n7 --> n8\n"
        "    n8 --> n9\n"
        '    n9 -.->|"undo"| n10\n'
        "    n8 --> n12\n"
        "    n12 --> n13\n"
        "    n9 --> n14\n"
        "    n13 --> n14\n"
        "    n14 --> n15\n"
        '    n15 -->|"each item"| n16\n'
        "    n16 --> n15\n"
        '    n15 -->|"done"| n17\n'
        "    n17 --> n18\n"
        '    n18 -->|"again"| n17\n'
        '    n0 -.->|"on failure"| n19\n'
        '    n18 -->|"done"| n20\n'
    )


def test_what_stands_in_a_branch_in_a_box_is_drawn_in_the_box() -> None:
    branch = Branch("choose", rule(), (Case("yes", "true", block("a")),), HERE)
    text = graph(Foreach("each", rule(), Block((branch,)), HERE)).mermaid()
    box = text.partition('["for each, one after the other"]\n')[2].partition("    end")[0]
    assert [line.strip() for line in box.splitlines()] == ['n1{{"each"}}', 'n2{"choose"}', 'n3["a"]']


@random_definitions
@thorough
def test_each_id_is_unique_and_safe(whole: Definition) -> None:
    graph = graph_of(whole)
    text = graph.mermaid(Seen({node.path: "completed" for node in graph.nodes}))
    lines = text.removesuffix("\n").split("\n")
    for line in lines:
        assert LINES.fullmatch(line), line
    bare = [re.sub(LABEL, "", line) for line in lines]  # what is in quotes is nobody's id
    declared = [found[1] for line in bare if (found := re.match(r" +(?:subgraph )?([nb]\d+)[\[({]", line))]
    drawn = [node for node in graph.nodes if node.kind != "arm"]
    boxes = [node for node in graph.nodes if node.kind in ("arm", "parallel", "foreach", "loop")]
    assert len(set(declared)) == len(declared) == len(drawn) + len(boxes)
    assert set(re.findall(r"\bn\d+", "\n".join(bare))) <= set(declared)


@given(NAMES)
def test_a_label_holds_nothing_that_means_something_and_reads_as_the_name(name: str) -> None:
    label = quoted(name)
    assert re.fullmatch(r"(?:[^\W_]|[ ,_-]|#\d+;)*", label)
    read = re.sub(r"#(\d+);", lambda number: chr(int(number[1])), label)
    assert read.replace("\u200b", "") == name.replace("\u200b", "")


def test_workflows_cases_and_arms_are_named_as_safely_as_nodes() -> None:
    branch = Branch('"b"', rule(), (Case('"c"', "true", block('"d"')),), HERE)
    text = graph(branch, Parallel("p", (Arm('"a"', "a", block("e")),), HERE), name='"w"').mermaid()
    quotes = re.findall(r'"#34;(\w)#34;"', text)
    assert sorted(quotes) == ["a", "b", "c", "d", "w"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("charge_payment", "charge_payment"),
        ("send to größe-2, now", "send to größe-2, now"),
        ('say "hi"', "say#32;#34;hi#34;"),
        ("__init__", "#95;#95;init#95;#95;"),  # would be bold
        ("1. first", "1#46;#32;first"),  # would be a list, which Mermaid refuses
        ("- first", "#45;#32;first"),
        ("www.example.com", "www#46;example#46;com"),  # would be a link, which it refuses
        ("    a  b ", "#32;#32;#32;#32;a#32;#32;b#32;"),  # would be code
        ("`a`", "#96;a#96;"),
        ("<b>", "#60;b#62;"),
        ("&lt;", "#38;lt#59;"),
        ("a\\nb", "a#92;#8203;nb"),  # would be a line break
        ("fa:fa-truck", "fa#58;#8203;fa-truck"),  # would be an icon
        ("$$x$$", "#36;#8203;#36;x#36;#8203;#36;"),  # would be a formula
        ("ﬂ°35¶ß", "ﬂ#8203;#176;35#182;#8203;ß"),  # would be the character 35
    ],
)
def test_what_means_something_to_mermaid_is_written_as_a_number(name: str, label: str) -> None:
    assert quoted(name) == label


@random_definitions
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_the_text_of_a_definition_is_the_same_each_time(whole: Definition) -> None:
    assert graph_of(whole).mermaid() == graph_of(whole).mermaid()


def test_the_text_is_the_same_in_every_process() -> None:
    code = (
        "from tests.model.test_graph import Seen, everything, graph\n"
        "found = graph(*everything())\n"
        "seen = Seen({node.path: node.kind for node in found.nodes})\n"
        "print(found.mermaid(), found.mermaid(seen), end='')"
    )

    def text(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    assert text("1") == text("2") != ""


# --- An execution laid over it --------------------------------------------------------------------------------------


def test_a_step_stands_as_its_last_record_says() -> None:
    found = laid_over(
        graph(step("a"), step("b"), step("c"), step("d")),
        {"a": "completed", "b": "failed", "c": "retrying", "d": "started"},
    )
    assert found == {
        "a": NodeState("completed", "completed"),
        "b": NodeState("failed", "failed"),
        "c": NodeState("retrying", "retrying"),
        "d": NodeState("running", "running"),
    }


def test_a_node_of_which_nothing_is_recorded_has_no_state() -> None:
    assert states({"a": "completed"}, step("a"), step("b")) == {"a": "completed"}


def test_paths_that_are_not_those_of_a_node_are_left_out() -> None:
    arms = (Arm("b", "b", block("c")),)
    assert states({"fetch/b": "completed", "": "failing", "#end": "completed"}, Parallel("fetch", arms, HERE)) == {
        "fetch": "running"
    }
    assert states({"": "failing", "a": "completed", "old": "failed", "a/b/c": "failed"}, step("a")) == {
        "a": "completed"
    }


def test_items_are_counted_and_the_one_that_most_needs_a_look_is_shown() -> None:
    each = Foreach("each", rule(), block("send"), HERE)
    items = {f"each[{n}]/send": "completed" for n in range(7)}
    found = laid_over(graph(each), {"each": "items", **items, "each[7]/send": "failed"})
    assert found["each/send"] == NodeState("failed", "7 completed, 1 failed")
    assert found["each"] == NodeState("running", "running")
    found = laid_over(graph(each), {**items, "each[7]/send": "retrying"})
    assert found["each/send"] == NodeState("retrying", "7 completed, 1 retrying")
    found = laid_over(graph(each), {"each[0]/send": "failed", "each[1]/send": "retrying", "each[2]/send": "started"})
    assert found["each/send"] == NodeState("failed", "1 running, 1 retrying, 1 failed")
    assert laid_over(graph(each), items)["each/send"] == NodeState("completed", "7 completed")


def test_visits_are_counted() -> None:
    statuses = {"a": "completed", "check": "completed", "a#2": "completed", "check#2": "retrying"}
    assert states(statuses, step("a"), decide("check", "a")) == {"a": "2 completed", "check": "1 completed, 1 retrying"}


def test_a_branch_that_has_chosen_is_completed() -> None:
    branch = Branch("choose", rule(), (Case("yes", "true", block("a")), Case("no", "false", block("b"))), HERE)
    assert states({"choose": "chosen", "choose/yes/a": "completed"}, branch) == {
        "choose": "completed",
        "choose/yes/a": "completed",
    }


def test_a_composite_that_has_recorded_nothing_itself_is_running_when_something_inside_it_has() -> None:
    arms = (Arm("a", "a", block("a"), single=True), Arm("b", "b", block("c")))
    fetch = Parallel("fetch", arms, HERE)
    assert states({"fetch/b/c": "completed"}, fetch) == {"fetch": "running", "fetch/b/c": "completed"}
    assert states({"fetch/b/c": "completed", "fetch": "completed"}, fetch)["fetch"] == "completed"
    poll = Loop("poll", rule(), block("look"), HERE)
    assert states({"poll[0]/look": "retrying"}, poll) == {"poll": "running", "poll/look": "retrying"}
    each = Foreach("each", rule(), Block((fetch,)), HERE)
    statuses = {"each#2[0]/fetch": "completed", "each#2[0]/fetch/a": "completed", "each#2[1]/fetch/a": "completed"}
    assert states(statuses, each) == {
        "each": "running",
        "each/fetch": "1 completed, 1 running",
        "each/fetch/a": "2 completed",
    }


def test_what_had_not_ended_when_the_execution_ended_has_stopped() -> None:
    each = Foreach("each", rule(), block("a", "b"), HERE)
    statuses = {"each": "items", "each[0]/a": "completed", "each[1]/a": "retrying", "each[2]/a": "failed"}
    assert states(statuses, each, ended=True) == {"each": "stopped", "each/a": "1 completed, 1 stopped, 1 failed"}


def test_a_compensation_has_a_state_of_its_own() -> None:
    each = Foreach("each", rule(), Block((step("book", compensation=step("cancel")),)), HERE)
    statuses = {f"each[{n}]/book": "completed" for n in range(2)} | {"each[1]/book/cancel": "completed"}
    assert states(statuses, each) == {"each": "running", "each/book": "2 completed", "each/book/cancel": "completed"}


@random_definitions
@thorough
def test_wherever_nodes_were_recorded_their_states_are_found_again(whole: Definition) -> None:
    graph = graph_of(whole)
    recorded = {node.path for node in graph.nodes if node.kind not in ("start", "end", "join", "arm")}
    found = laid_over(graph, dict.fromkeys(recorded, "completed"))
    assert found == dict.fromkeys(recorded, NodeState("completed", "completed"))


def test_the_text_shows_states_in_words_and_colours() -> None:
    each = Foreach("each", rule(), block("send"), HERE)
    found = graph(step("a"), each, step("b"))
    seen = Seen({"a": "completed", "each": "items", "each[0]/send": "completed", "each[1]/send": "failed"})
    text = found.mermaid(seen)
    for line in [
        'n1["a<br/>completed"]',
        'n2{{"each<br/>running"}}',
        'n3["send<br/>1 completed, 1 failed"]',
        'n4["b"]',
        "class n1 completed",
        "class n2 running",
        "class n3 failed",
    ]:
        assert line in map(str.strip, text.splitlines())
    assert len(re.findall("classDef", text)) == 3
    seen.status = Status.FAILED
    assert 'n2{{"each<br/>stopped"}}' in found.mermaid(seen)


def execution(steps: list[StepView] | None) -> Execution:
    return Execution(
        "order-1",
        UUID(int=1),
        "order",
        1,
        Status.RUNNING,
        "default",
        0,
        {},
        datetime(2026, 1, 1, tzinfo=UTC),
        steps=steps,
    )


def test_a_workflow_gives_its_graph_and_an_execution_of_it_is_laid_over() -> None:
    orders = Workflow[Any, Any]("order")

    @orders.step
    async def charge(order: Any) -> None: ...

    @orders.decision
    async def check(order: Any) -> Any:
        return Goto("charge", order)

    graph = orders.graph()
    assert (graph.workflow, graph.version) == ("order", 1)
    assert graph.nodes[1] == GraphNode("charge", "charge", "step")
    assert GraphEdge("check", "charge", "goto", "goto") in graph.edges
    assert 'n1["charge<br/>completed"]' in graph.mermaid(execution([StepView("charge", "completed", [])]))


# The execution of docs/graph.md.
STATUSES = {
    "validate": "completed",
    "fetch/customer": "completed",
    "fetch/prices/look_up": "completed",
    "fetch/prices/convert": "completed",
    "fetch": "completed",
    "check": "completed",
    "charge": "completed",
    "outcome": "chosen",
    "outcome/otherwise/parcels": "items",
    **{f"outcome/otherwise/parcels[{index}]/ship": "completed" for index in range(5)},
    "outcome/otherwise/parcels[5]/ship": "retrying",
}


def test_the_pictures_in_the_document_are_those_of_its_workflow(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "graph.md").read_text(encoding="utf-8")
    program, *_ = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    plain, over = re.findall(r"^```mermaid\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "process_order.py"
    path.write_text(program, encoding="utf-8")
    found = runpy.run_path(str(path))["orders"].graph()
    assert (found.mermaid(), found.mermaid(Seen(STATUSES))) == (plain, over)


def test_an_execution_without_its_steps_is_refused() -> None:
    with pytest.raises(UsageError, match=r'workflow "order".*include_steps=True'):
        graph(step("a")).mermaid(execution(None))


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_random_definitions_of_these_tests_are_such_as_may_be_run(data: st.DataObject) -> None:
    check(data.draw(definitions()))
