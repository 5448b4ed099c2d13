"""Branches, decisions and Gotos, and how each workflow must end."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import msgspec

from durable import ArmResults, Goto, ItemResults, Retry, Workflow, context, hours, seconds
from tests.engine.cases import case, fail_until, fails, increment, logs, puts, same, silent

Flow = Workflow[Any, Any]


class Kind(enum.Enum):
    CARD = "card"
    CASH = "cash"


def pick(name: str) -> Any:
    return lambda data: data[name]


# --- Branches -----------------------------------------------------------------------------------------------------


def declare_kinds(w: Flow, on: Any = lambda data: data) -> None:
    """A case of each type that a case may have; each returns its own path."""
    kind = w.branch("kind", on=on)
    for value, name in (("1", "text"), (1, "number"), (True, "yes"), (False, "no"), (None, "nothing"), (0, "zero")):
        kind.case(value, name=name).step(name="step")(lambda here_data: [context().path, here_data])


@case("1", result=["kind/text/step", "1"], calls={"kind/text/step": 1, "kind/number/step": 0})
def branch_on_a_text(w: Flow) -> None:
    declare_kinds(w)


@case(1, result=["kind/number/step", 1])
def branch_on_a_number(w: Flow) -> None:
    declare_kinds(w)


@case(True, result=["kind/yes/step", True])
def branch_on_true_is_not_one(w: Flow) -> None:
    declare_kinds(w)


@case(0, result=["kind/zero/step", 0])
def branch_on_zero_is_not_false(w: Flow) -> None:
    declare_kinds(w)


@case(5, result=["kind/nothing/step", 5])
def branch_on_none(w: Flow) -> None:
    declare_kinds(w, on=lambda: None)


@case({"kind": "cash"}, result={"kind": "cash", "paid": "cash"}, calls={"kind/cash/pay": 1, "kind/card/pay": 0})
def branch_on_an_enum(w: Flow) -> None:
    async def on(data: dict[str, Any]) -> Kind:
        return Kind(data["kind"])

    kind = w.branch("kind", on=on)
    kind.case(Kind.CARD).step(name="pay")(puts(paid="card"))
    kind.case(Kind.CASH).step(name="pay")(puts(paid="cash"))


@case('a\x1f"\\é\u2028\U0001f600', result=["odd"])
def branch_on_text_that_json_may_write_in_two_ways(w: Flow) -> None:
    kind = w.branch("kind", on=lambda data: data)
    kind.case('a\x1f"\\é\u2028\U0001f600', name="odd").step(name="odd")(lambda: ["odd"])
    kind.otherwise.step(name="never")(silent)


@case({"kind": "gold"}, result={"kind": "gold", "by": "otherwise"}, calls={"kind/otherwise/put": 1})
def branch_otherwise(w: Flow) -> None:
    kind = w.branch("kind", on=pick("kind"))
    kind.case("card").step(name="never")(silent)
    kind.otherwise.step(name="put")(puts(by="otherwise"))


@case({"kind": 1.0}, error="durable.errors.NoMatchingCase", message="'kind' chose 1.0, and has no such case (1, true)")
def branch_without_a_match(w: Flow) -> None:
    kind = w.branch("kind", on=pick("kind"))
    kind.case(1).step(name="never")(silent)
    kind.case(True).step(name="never")(silent)


@case({}, error="builtins.KeyError", message="kind")
def branch_whose_on_fails(w: Flow) -> None:
    kind = w.branch("kind", on=pick("kind"))
    kind.case(1).step(name="never")(silent)
    kind.otherwise.step(name="never")(silent)


@case({}, error="durable.errors.EncodeError", message="object")
def branch_whose_on_says_nothing_that_can_be_compared(w: Flow) -> None:
    kind = w.branch("kind", on=lambda: object())
    kind.case(1).step(name="never")(silent)
    kind.otherwise.step(name="never")(silent)


class Price(msgspec.Struct):
    amount: Decimal
    kind: Kind


@case(Price(Decimal("1.10"), Kind.CARD), of=Workflow[Price, Price], result=Price(Decimal("2.20"), Kind.CARD))
def branch_on_typed_data(w: Flow) -> None:
    def dear(data: Price) -> bool:
        return data.amount > Decimal(1) and data.kind is Kind.CARD

    dearness = w.branch("dear", on=dear)

    @dearness.case(True).step
    async def double(data: Price) -> Price:
        return Price(data.amount * 2, data.kind)

    dearness.case(False).step(name="never")(silent)

    @w.step
    async def look(data: Price) -> None:
        assert data.amount == Decimal("2.20")


@case([], result=["a", "b", "c", "d"], calls={"one/1/two/2/three/3/four/4/d": 1})
def branches_to_depth_four(w: Flow) -> None:
    block: Any = w
    for depth, name in enumerate(("one", "two", "three", "four"), start=1):
        inner = block.branch(name, on=lambda data: len(data) + 1)
        block = inner.case(depth)
        block.step(name="abcd"[depth - 1])(logs("abcd"[depth - 1]))
        inner.otherwise.step(name="never")(silent)


# --- Decisions and Gotos ------------------------------------------------------------------------------------------


@case([], result=["a", "last"], calls={"a": 1, "skip": 1, "last": 1})
def goto_forwards(w: Flow) -> None:
    w.step(name="a")(logs("a"))
    w.decision(name="skip")(lambda: Goto("last"))
    w.step(name="never")(silent)
    w.step(name="last")(logs("last"))


@case(0, result=13, calls={"count": 1, "count#2": 1, "count#3": 1, "again": 1, "again#2": 1, "again#3": 1, "last": 1})
def goto_backwards(w: Flow) -> None:
    w.step(name="count")(increment)

    @w.decision
    async def again(data: int) -> Goto | int:
        return Goto("count") if data < 3 else data + 9

    w.step(name="last")(increment)


@case(0, result=[3, "self#4"], calls={"self": 1, "self#2": 1, "self#3": 1, "self#4": 1})
def goto_itself(w: Flow) -> None:
    @w.decision(name="self")
    async def again(data: int) -> Any:
        return Goto("self", data + 1) if data < 3 else [data, context().path]


@case(0, error="durable.errors.GotoRefused", message="'again' was visited 3 times", calls={"again#3": 1, "again#4": 0})
def goto_beyond_max_visits(w: Flow) -> None:
    w.step(name="count")(increment)
    w.decision(name="again", max_visits=3)(lambda: Goto("count"))


@case(
    "no" + "where",
    error="durable.errors.GotoRefused",
    message="no such node. It has: first, lost, never",
    calls={"lost": 1},
)
def goto_nowhere(w: Flow) -> None:
    w.step(name="first")(silent)
    w.decision(name="lost")(lambda data: Goto(data))
    w.step(name="never")(silent)


@case(1, error="durable.errors.NonRetryable", message="Only a decision may", calls={"goto": 1})
def goto_from_a_step(w: Flow) -> None:
    w.step(name="goto", retry=Retry(3))(lambda data: away(data))


def away(data: Any) -> Any:
    return Goto("goto") if data else data


@case(2, result=3, calls={"decide": 3, "never": 0})
def decision_that_is_retried(w: Flow) -> None:
    @w.decision(retry=Retry(3, backoff="linear", delay=hours(1), max_delay=hours(2)))
    async def decide(data: int) -> Any:
        fail_until(3)
        return Goto("last", data + 1)

    w.step(name="never")(silent)
    w.step(name="last")(silent)


@case(1, error="builtins.ValueError", message="no", calls={"decide": 2})
def decision_that_fails(w: Flow) -> None:
    w.decision(name="decide", retry=Retry(2, delay=seconds(0)))(fails())
    w.step(name="never")(silent)


@case({"n": 0}, result={"n": 3, "a": 3, "b": 3}, calls={"both/a": 1, "both#2/a": 1, "both#3/a": 1, "each#3[1]/look": 1})
def goto_out_of_the_into_of_a_parallel(w: Flow) -> None:
    async def into(data: dict[str, int], results: ArmResults) -> Any:
        merged = {**data, **results.ok}
        return Goto("each", merged) if data["n"] < 3 else Goto("last", merged)

    each = w.foreach("each", items=lambda: [1, 2], concurrency=2, into=lambda data: {**data, "n": data["n"] + 1})
    each.step(name="look")(silent)
    both = w.parallel("both", into=into)
    for name in ("a", "b"):
        both.step(name=name)(lambda data: data["n"])
    w.step(name="never")(silent)
    w.step(name="last")(silent)


@case(0, result=["last", 6], calls={"each[0]/add": 1, "each#2[0]/add": 1, "each#2[1]/add": 1, "wait#2[2]/count": 0})
def goto_out_of_the_into_of_a_foreach(w: Flow) -> None:
    def into(data: int, results: ItemResults) -> Any:
        return Goto("last", ["last", data]) if data > 2 else Goto("wait", data + len(results))

    wait = w.loop("wait", until=lambda data: data % 2 == 0, max_iterations=9)
    wait.step(name="count")(increment)
    each = w.foreach("each", items=lambda data: list(range(data)), into=into)
    each.step(name="add")(lambda data, item: data + item)
    w.step(name="never")(silent)
    w.step(name="last")(silent)


@case(
    {"n": 0},
    result={"n": 3, "kinds": [1, 0, 1]},
    calls={"kind/1/odd": 1, "kind#2/0/even": 1, "kind#3/1/odd": 1, "kind#2/1/odd": 0},
)
def goto_back_to_a_branch_that_chooses_anew(w: Flow) -> None:
    w.step(name="count")(lambda data: {**data, "n": data["n"] + 1})
    kind = w.branch("kind", on=lambda data: data["n"] % 2)
    kind.case(1).step(name="odd")(lambda data: {**data, "kinds": [*data.get("kinds", []), 1]})
    kind.case(0).step(name="even")(lambda data: {**data, "kinds": [*data.get("kinds", []), 0]})
    w.decision(name="again")(lambda data: Goto("count") if data["n"] < 3 else None)


@case({}, result={"left": 3, "right": "done"}, calls={"both/left/more#3": 1, "both/right/step": 1})
def goto_inside_an_arm(w: Flow) -> None:
    both = w.parallel("both")
    left = both.arm("left")
    left.step(name="count")(lambda data: {**data, "left": data.get("left", 0) + 1})
    left.decision(name="more")(lambda data: Goto("count") if data["left"] < 3 else data)
    right = both.arm("right")
    right.step(name="step")(puts(right="done"))
    right.decision(name="leave")(lambda: Goto("end"))
    right.step(name="never")(silent)
    right.step(name="end")(same)


@case(1, result=[1, "visit"], calls={"pair": 1, "end": 1, "each[1]/step": 1})
def goto_with_data_of_another_type_than_the_result(w: Flow) -> None:
    @w.decision
    async def pair(data: int) -> Goto | int:
        return Goto("each", [data, "visit"])

    def into(data: list[Any], results: ItemResults) -> int | Goto:
        assert len(results) == 2
        return Goto("end", data)

    w.step(name="never")(silent)
    w.foreach("each", items=lambda data: data, into=into).step(name="step")(silent)
    w.step(name="never_either")(silent)
    w.step(name="end")(same)


@case(0, result=[0, "visit"], calls={"end": 1})
def goto_without_data_leaves_it(w: Flow) -> None:
    w.step(name="pair")(lambda data: [data, "visit"])
    w.decision(name="go")(lambda: Goto("end"))
    w.step(name="never")(silent)
    w.step(name="end")(silent)
