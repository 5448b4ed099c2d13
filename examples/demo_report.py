"""What the demo found out: the services' log beside the engine's records, judged and drawn.

Owns the evidence, the promises that are checked on it, and how both look. Refuses to run anything: see `examples.demo`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from durable import Attempt, Execution

SERVICE_OF = {  # each step calls one service, so the services' log tells which bodies ran
    "validate": "stock",
    "calculate_total": "carrier",
    "charge_payment": "payments",
    "send_confirmation": "email",
}
STEP_OF = {service: step for step, service in SERVICE_OF.items()}
COLOURS = {"A": "cyan", "B": "magenta"}
WIDE = 100  # characters; in a narrower terminal the customers are left out
LEGEND = "✓ done   ✗ failed, to be tried again   † in flight when its worker was killed"


@dataclass(frozen=True)
class Call:
    """One call in the services' log. `answer` is None while it is not answered, "gone" if the caller hung up."""

    number: int
    service: str
    order_id: str
    caller: str
    answer: str | None


@dataclass(frozen=True)
class Promise:
    """One thing that the engine promises, and where it was broken."""

    text: str
    broken: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Evidence:
    """All there is to judge: the engine's records by order, the services' log, the charges, and who was killed."""

    executions: Mapping[str, Execution]
    calls: Sequence[Call]
    charges: Sequence[tuple[str, int]]  # the order, and the cents taken
    killed: str

    def calls_of(self, order_id: str, step: str) -> list[Call]:
        """The calls that the bodies of one step have made."""
        return [call for call in self.calls if (call.order_id, call.service) == (order_id, SERVICE_OF[step])]

    def attempts_of(self, order_id: str, step: str) -> list[Attempt]:
        """The recorded attempts of one step."""
        steps = self.executions[order_id].steps or []
        return [attempt for view in steps if view.path == step for attempt in view.attempts]

    def steps(self) -> Iterator[tuple[str, str]]:
        """Every step of every order."""
        return ((order_id, step) for order_id in self.executions for step in SERVICE_OF)


def read_calls(log: sqlite3.Connection) -> list[Call]:
    """The services' log, oldest call first."""
    found = log.execute("select number, service, order_id, caller, answer from call order by number")
    return [Call(*row) for row in found]


def read_charges(log: sqlite3.Connection) -> list[tuple[str, int]]:
    """What the payment service has taken, for which order."""
    return list(log.execute("select order_id, amount from charge"))


# --- The judgement --------------------------------------------------------------------------------------------------


def worker_names(evidence: Evidence) -> dict[UUID, str]:
    """Which worker id is which worker: the engine records ids and the services log names, of the same bodies."""
    names: dict[UUID, str] = {}
    for order_id, step in evidence.steps():
        calls, attempts = evidence.calls_of(order_id, step), evidence.attempts_of(order_id, step)
        if len(calls) == len(attempts):
            names.update({attempt.worker_id: call.caller for call, attempt in zip(calls, attempts, strict=True)})
    return names


def unrecorded(evidence: Evidence, names: Mapping[UUID, str], order_id: str, step: str) -> list[Call]:
    """The calls of one step that no recorded attempt accounts for."""
    recorded = Counter(names.get(attempt.worker_id, "?") for attempt in evidence.attempts_of(order_id, step))
    extra: list[Call] = []
    for call in evidence.calls_of(order_id, step):
        if call.answer != "gone" and recorded[call.caller]:
            recorded[call.caller] -= 1
        else:
            extra.append(call)
    return extra


def judge(evidence: Evidence) -> list[Promise]:
    """The promises, each with what speaks against it."""
    unfinished = [f"{id} is {found.status}" for id, found in evidence.executions.items() if found.status != "completed"]
    steps = sum(1 for _ in evidence.steps())
    return [
        Promise(
            f"All {len(evidence.executions)} orders are completed, those of the killed worker included.", unfinished
        ),
        Promise(f"All {steps} steps are recorded, each once, and no body ran after its record.", _repeated(evidence)),
        Promise("The crash used up no attempt: what the records count are real tries.", _miscounted(evidence)),
        Promise("Every customer paid once, and the right amount.", _mischarged(evidence)),
    ]


def _repeated(evidence: Evidence) -> list[str]:
    names = worker_names(evidence)
    broken: list[str] = []
    for order_id, step in evidence.steps():
        done = [attempt for attempt in evidence.attempts_of(order_id, step) if attempt.status == "completed"]
        if len(done) != 1:
            broken.append(f"{order_id} {step} is recorded as done {len(done)} times")
            continue
        again = evidence.calls_of(order_id, step)[-1:]
        in_flight = [call for call in unrecorded(evidence, names, order_id, step) if call.answer != "gone"]
        for call in in_flight:
            # One body may have been lost with the killed worker, if another worker has then run and recorded it.
            lost = call.caller == evidence.killed != names.get(done[0].worker_id) and [call] != again
            if not lost or len(in_flight) > 1:
                broken.append(f"{order_id} {step} was run by {call.caller} (call {call.number}) without a record")
    return broken


def _miscounted(evidence: Evidence) -> list[str]:
    return [
        f"{order_id} {step} has attempts numbered {numbers}"
        for order_id, step in evidence.steps()
        if (numbers := [attempt.number for attempt in evidence.attempts_of(order_id, step)])
        != list(range(1, len(numbers) + 1))
    ]


def _mischarged(evidence: Evidence) -> list[str]:
    broken: list[str] = []
    for order_id, execution in evidence.executions.items():
        taken = [amount for charged, amount in evidence.charges if charged == order_id]
        due = execution.result["total"] if execution.result else None
        if taken != [due]:
            broken.append(f"{order_id} owed {due} cents and was charged {taken}")
    return broken


# --- How it looks ---------------------------------------------------------------------------------------------------


def worker(name: str) -> str:
    """A worker's name in its colour, as rich markup."""
    return f"[bold {COLOURS.get(name, 'white')}]{name}[/]"


def live_table(
    orders: Iterable[Mapping[str, Any]], calls: Sequence[Call], ended: Iterable[str], dead: str, width: int
) -> Table:
    """The orders while they run, as the services see them."""
    table = _table(width)
    done = set(ended)
    for order in orders:
        seen = [(call.service, call.caller, _seen(call, dead)) for call in calls if call.order_id == order["id"]]
        cells = [
            _cell((caller, mark) for called, caller, mark in seen if called == service)
            for service in SERVICE_OF.values()
        ]
        status = Text("ended", "green") if order["id"] in done else Text("")
        table.add_row(*_named(order["id"], order, width), *cells, "", status)
    return table


def final_table(evidence: Evidence, width: int) -> Table:
    """The orders when all is over, as the engine has recorded them."""
    names = worker_names(evidence)
    table = _table(width)
    for order_id, execution in evidence.executions.items():
        cells = [_recorded(evidence, names, order_id, step) for step in SERVICE_OF]
        total = f"{execution.result['total'] / 100:.2f}" if execution.result else ""
        status = Text(execution.status, "green" if execution.status == "completed" else "bold red")
        table.add_row(*_named(order_id, execution.input, width), *cells, total, status)
    return table


def _table(width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if wide else 0))
    table.add_column("order", no_wrap=True)
    if wide:
        table.add_column("customer", no_wrap=True)
    for step in SERVICE_OF:
        table.add_column(step.replace("_", "_\n"), no_wrap=True)
    table.add_column("total\nEUR", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True, min_width=9)
    return table


def _named(order_id: str, order: Mapping[str, Any], width: int) -> list[str]:
    return [order_id, order["customer"]["name"]] if width >= WIDE else [order_id]


def _recorded(evidence: Evidence, names: Mapping[UUID, str], order_id: str, step: str) -> Text:
    extra = unrecorded(evidence, names, order_id, step)
    lost = [(call.caller, "†") for call in extra]
    tries = [
        (names.get(attempt.worker_id, "?"), "✓" if attempt.status == "completed" else "✗")
        for attempt in evidence.attempts_of(order_id, step)
    ]
    # A body that was lost came before the attempt that took its place, which is the last.
    return _cell([*tries[:-1], *lost, *tries[-1:]])


def _seen(call: Call, dead: str) -> str:
    if call.answer is None:
        return "†" if call.caller == dead else "…"
    return {"ok": "✓", "gone": "†"}.get(call.answer, "✗")


def _cell(marks: Iterable[tuple[str, str]]) -> Text:
    cell = Text()
    for name, mark in marks:
        cell.append(f"{name} ", f"bold {COLOURS.get(name, 'white')}")
        cell.append(f"{mark} ", {"✓": "green", "✗": "yellow", "†": "bold red"}.get(mark, "dim"))
    return cell
