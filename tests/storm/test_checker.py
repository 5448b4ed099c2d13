"""The checker can fail: each kind of violation, planted in a history that has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from durable import Retry, Workflow, seconds
from durable.engine.journal import Record
from durable.ids import execution_uuid
from durable.testing import run
from tests.engine.trees import INPUT, Plan, payload_of, planned
from tests.storm import checker, judge, oracle
from tests.storm.history import Acked, Body, Frozen, History, Moment, Paid, Timer, read_bodies
from tests.storm.oracle import Expected, foretell
from tests.storm.program import Start
from tests.support.calls import Call, Traces

ID = "00000000-0000-0000-0000-000000000001"
OTHER = "00000000-0000-0000-0000-000000000002"


class Story:
    """A history that is told moment by moment."""

    def __init__(self) -> None:
        self.history = History()
        self._tx = 0

    def moment(self, place: str, op: str = "INSERT", *, same: bool = False, **row: Any) -> Story:
        self._tx += not same
        row.setdefault("execution_id", ID)
        self.history.moments.append(Moment(len(self.history.moments), self._tx, place, op, row))
        return self

    def claim(self, owner: str, op: str = "INSERT", *, same: bool = False, **row: Any) -> Story:
        limits = {"queue": None, "key": ""}
        return self.moment("claim", op, same=same, owner=owner, token=f"token of {owner}", **{**limits, **row})

    def gives_up(self, owner: str, *, same: bool = False, **row: Any) -> Story:
        return self.claim(owner, "DELETE", same=same, **row)

    def record(self, worker: str, *, same: bool = False) -> Story:
        return self.moment("journal", same=same, worker_id=worker, seq=1, path="step", kind="completed")

    def faults(self) -> list[str]:
        return [*checker.faults(self.history)]


# --- Owners -----------------------------------------------------------------------------------------------------------


def test_owners_that_follow_one_another_are_in_order() -> None:
    story = Story().claim("a").record("a").gives_up("a").claim("b").record("b", same=True).gives_up("b")
    assert story.faults() == []


def test_the_record_that_rides_with_the_end_of_a_claim_is_in_order() -> None:
    assert Story().claim("a").gives_up("a").record("a", same=True).faults() == []


def test_two_owners_at_a_time_are_noticed() -> None:
    assert Story().claim("a").claim("b").faults() == [f"{ID} was claimed by b while a had it"]


def test_a_claim_that_somebody_else_gives_up_is_noticed() -> None:
    assert Story().claim("a").gives_up("b").faults() == [f"{ID} was given up by b, who had not claimed it"]


def test_a_record_of_a_worker_that_was_overtaken_is_noticed() -> None:
    (fault,) = Story().claim("a").gives_up("a").claim("b").record("a").faults()
    assert fault == f"record 1 ('step', completed) of {ID} was written by a while b had it"


def test_a_record_after_the_end_of_a_claim_is_noticed() -> None:
    (fault,) = Story().claim("a").gives_up("a").record("a").faults()
    assert fault.endswith("was written by a while nobody had it")


# --- Bodies -----------------------------------------------------------------------------------------------------------


def bodies(*spans: tuple[int, float, float], frozen: Frozen | None = None) -> list[str]:
    history = History(bodies=[Body(ID, "step", 1, *span) for span in spans])
    history.frozen = [] if frozen is None else [frozen]
    return [*checker.faults(history)]


def test_bodies_that_follow_one_another_are_in_order() -> None:
    assert bodies((1, 0, 1), (2, 1, 2)) == []


def test_bodies_of_one_attempt_that_overlap_are_noticed() -> None:
    assert bodies((1, 0, 3), (2, 1, 2)) == [
        f"{(ID, 'step', 1)} began in process 2 2.000 s before that of process 1 had ended"
    ]


def test_a_process_may_be_overtaken_while_it_stands_still_and_not_before() -> None:
    assert bodies((1, 0, 3), (2, 1.5, 2), frozen=Frozen(1, 1, 2.5)) == []
    assert bodies((1, 0, 3), (2, 0.5, 2), frozen=Frozen(1, 1, 2.5)) != []
    assert bodies((1, 0, 3), (2, 1.5, 2), frozen=Frozen(2, 1, 2.5)) != []


def test_a_body_goes_on_until_its_process_has_died(tmp_path: Any) -> None:
    file = tmp_path / "bodies"
    file.write_text(f'["begin", "{ID}", "step", 1, 7, 1.0]\n["begin", "{ID}", "step", 1, 8, 2.0]\n')
    assert [*checker.overlaps(History(bodies=read_bodies(file, {7: 1.5})))] == []
    assert [*checker.overlaps(History(bodies=read_bodies(file, {7: 2.5})))] != []
    assert [*checker.overlaps(History(bodies=read_bodies(file, {})))] != []


# --- What was paid ------------------------------------------------------------------------------------------------------


def paid(*transactions: int, recorded: int = 7) -> list[str]:
    row = {"execution_id": ID, "path": "step", "kind": "completed"}
    history = History(moments=[Moment(1, recorded, "journal", "INSERT", row)])
    history.paid = [Paid(ID, "step", 1, transaction) for transaction in transactions]
    return [*checker.unpaid(history)]


def test_what_is_paid_in_another_transaction_than_that_of_its_record_is_noticed() -> None:
    assert paid() == paid(7) == []
    assert paid(8) == [f"'step' of {ID} (attempt 1) was paid in 8, and recorded in [7]"]
    assert paid(7, recorded=8) != []


def test_what_is_paid_twice_is_noticed() -> None:
    assert paid(7, 7) == [f"'step' of {ID} was paid 2 times"]


# --- Timers, messages, limits, schedules ------------------------------------------------------------------------------


def test_a_timer_that_is_early_is_noticed() -> None:
    late, early = Timer(ID, "step", "sleep", due=5.0, at=5.0), Timer(ID, "step", "sleep", due=5.0, at=4.99)
    assert [*checker.faults(History(timers=[late]))] == []
    (fault,) = checker.faults(History(timers=[late, early]))
    assert fault == f"sleep of {ID} ('step') was over 0.010 s early"


ACKED = [
    Acked("start", "order", ""),
    Acked("event", "order", "paid"),
    Acked("input", "order", "manager"),
    Acked("emission", "order", "order step 0"),
]


def told() -> Story:
    story, order = Story(), str(execution_uuid("order"))
    story.history.acked, story.history.started = [*ACKED], {execution_uuid("order").hex}
    story.moment("message", execution_id=order, topic="event:paid")
    story.moment("message", execution_id=order, topic="input:7:manager")
    return story.moment("emission", payload={"who": "order step 0"})


def test_what_was_acknowledged_and_is_there_is_in_order() -> None:
    assert told().faults() == []


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_message_that_is_lost_is_noticed(kind: int) -> None:
    story = told()
    del story.history.moments[kind]
    acked = ACKED[kind + 1]
    assert story.faults() == [f"{acked.kind} {acked.name!r} to order is lost"]


def test_a_start_that_is_lost_is_noticed() -> None:
    story = told()
    story.history.started.clear()
    assert story.faults() == ["the start of order is lost"]


def test_an_event_that_arrives_twice_is_noticed() -> None:
    story = told().moment("message", execution_id=str(execution_uuid("order")), topic="event:paid")
    assert story.faults() == ["event 'paid' to order has arrived 2 times"]


def test_more_claims_than_a_queue_allows_are_noticed() -> None:
    ids = [str(execution_uuid(str(number))) for number in range(4)]
    story = Story()
    for id in ids[:3]:
        story.claim("a", queue="narrow", execution_id=id)
    assert story.faults() == []
    story.gives_up("a", queue="narrow", execution_id=ids[0]).claim("b", queue="narrow", execution_id=ids[3])
    assert story.faults() == []
    story.claim("b", queue="narrow", execution_id=ids[0])
    assert story.faults() == ["4 executions of queue 'narrow' were claimed at once, and 3 may be"]


def test_more_claims_of_a_key_than_a_queue_allows_are_noticed() -> None:
    story = Story().claim("a", queue="keyed", key="x").claim("b", queue="keyed", key="y", execution_id=OTHER)
    assert story.faults() == []
    story = Story().claim("a", queue="keyed", key="x").claim("b", queue="keyed", key="x", execution_id=OTHER)
    assert story.faults() == ["2 executions of queue 'keyed x' were claimed at once, and 1 may be"]


def test_more_grants_than_a_rate_allows_are_noticed() -> None:
    def grants(*given: tuple[str, int]) -> list[str]:
        story = Story()
        for second, count in given:
            story.moment("permit", granted_at=f"2026-01-01T00:00:{second}+00:00", count=count)
        return story.faults()

    assert grants(("01.0", 10), ("01.5", 5), ("02.0", 10), ("02.5", 5)) == []
    assert grants(("01.0", 10), ("01.5", 5), ("01.999", 1)) == ["16 executions were taken up in 1.0 s, and 15 may be"]


def test_a_firing_that_is_missed_or_doubled_is_noticed() -> None:
    assert [*checker.faults(History(instants=[1.0, 2.0, 3.0]))] == []
    assert len([*checker.faults(History(instants=[1.0, 3.0]))]) == 1
    assert len([*checker.faults(History(instants=[1.0, 1.0, 2.0]))]) == 1


def test_a_schedule_that_begins_late_or_not_at_all_is_noticed() -> None:
    assert [*checker.faults(History(scheduled_at=1.5, instants=[2.0, 3.0]))] == []
    assert len([*checker.faults(History(scheduled_at=0.5, instants=[2.0, 3.0]))]) == 1
    assert len([*checker.faults(History(scheduled_at=0.5))]) == 1


# --- How executions end -----------------------------------------------------------------------------------------------


def body(name: str, failures: int = 0, *effects: str) -> Any:
    plan = Plan(name, 0, failures, None, silent=False, effects=effects)

    async def run_plan(data: Any) -> Any:
        return await plan.run(None, data, -1)

    return planned(run_plan, plan)


def saga() -> Workflow[Any, Any]:
    """Two steps that are undone, because the third fails; the first waits for an event, and the second, which is
    tried twice, calls a child that fails."""
    workflow = Workflow[Any, Any]("saga")
    twice = Retry(2, delay=seconds(0))
    undo = workflow.compensation(name="undo")(body("undo"))
    workflow.step(name="first", compensate=undo)(body("first", 0, "event"))
    workflow.step(name="second", retry=twice, compensate=undo)(body("second", 1, "broken child"))
    workflow.step(name="third", retry=twice)(body("third", 2))
    return workflow


class End:
    """How an execution of `saga` has ended that nothing has befallen."""

    def __init__(self, records: list[Record]) -> None:
        self.workflow = saga()
        self.expected = foretell(self.workflow, INPUT, "x")
        self.row: dict[str, Any] = {"status": "compensated", "result": None, "children": 2}
        self.row["error"] = '{"type": "builtins.ValueError", "message": "third: attempt 2"}'
        self.records = records
        self.calls = [Call(r.path, r.attempt, 1, frozenset()) for r in records if r.attempt and r.key is None]

    @classmethod
    async def of_saga(cls) -> End:
        (name,) = (name for _, name in foretell(saga(), INPUT, "x").awaited)
        return cls((await run(saga(), INPUT, events_before=[(name, payload_of(name))])).records)

    def faults(self) -> str:
        traces = Traces(self.records, self.records, [], self.calls)
        return "; ".join(judge.faults_of(self.workflow.definition, self.row, traces, self.expected))

    def number(self, path: str, kind: str = "completed") -> int:
        return next(n for n, record in enumerate(self.records) if (record.path, record.kind) == (path, kind))


async def test_an_end_as_it_was_foretold_is_in_order() -> None:
    assert (await End.of_saga()).faults() == ""


async def test_another_status_is_noticed() -> None:
    end = await End.of_saga()
    end.row["status"] = "failed"
    assert "it is failed, and was to be compensated" in end.faults()


async def test_an_execution_that_has_not_ended_is_noticed() -> None:
    end = await End.of_saga()
    end.row["status"] = "waiting"
    assert end.faults() == "it is still waiting"


async def test_another_failure_is_noticed() -> None:
    end = await End.of_saga()
    end.row["error"] = '{"type": "builtins.ValueError", "message": "second: attempt 2"}'
    assert "its failure is ('ValueError', 'second: attempt 2')" in end.faults()


def test_another_result_is_noticed() -> None:
    expected = Expected({"completed"}, {"one": 1})
    assert [*oracle.differences(expected, "completed", {"one": 1}, None)] == []
    assert [*oracle.differences(expected, "completed", {"one": 2}, None)] != []


async def test_compensations_in_the_wrong_order_are_noticed() -> None:
    end = await End.of_saga()
    first, second = end.number("first/undo"), end.number("second/undo")
    early, late = end.records[second], end.records[first]
    end.records[second], end.records[first] = changed(late, seq=early.seq), changed(early, seq=late.seq)
    assert "were not undone in this order" in end.faults()


async def test_a_compensation_that_is_left_out_is_noticed() -> None:
    end = await End.of_saga()
    del end.records[end.number("first/undo")]
    assert "'first' was not undone" in end.faults()


async def test_a_step_with_two_results_is_noticed() -> None:
    end = await End.of_saga()
    end.records.append(changed(end.records[end.number("second")], seq=99))
    assert "'second' has 2 results" in end.faults()


async def test_a_step_without_a_result_is_noticed() -> None:
    end = await End.of_saga()
    del end.records[end.number("first")]
    assert "'first' has 0 results" in end.faults()


async def test_a_crash_that_is_counted_as_an_attempt_is_noticed() -> None:
    end = await End.of_saga()
    end.records.append(Record(99, "first", "failed", 2, error="{}", delay=0.0))
    assert "'first' has records of 2 tries instead of 1" in end.faults()


async def test_an_attempt_that_was_recorded_and_not_made_is_noticed() -> None:
    end = await End.of_saga()
    end.calls = [call for call in end.calls if (call.path, call.attempt) != ("second", 2)]
    assert end.faults() == "'second' has left no effect of its tries [2]"


async def test_a_body_that_was_not_to_run_is_noticed() -> None:
    end = await End.of_saga()
    end.calls.append(Call("third/undo", 1, 1, frozenset()))
    assert end.faults() == "'third/undo' was run, and was not to be"


CANCEL = Start("x", 0, INPUT, "default", cancel_after=1.0)
UNDO = replace(CANCEL, undo=True)


async def cancelled(start: Start, status: str, *, undone: bool) -> str:
    """How an execution has ended that was cancelled behind its second step."""
    end = await End.of_saga()
    failing = end.number("", "failing")
    end.records = [r for n, r in enumerate(end.records) if r.path != "third" and (undone or n < failing)]
    row = {**end.row, "status": status, "error": None}
    if status == "compensated":
        row["error"] = '{"type": "durable.errors.ExecutionCancelled", "message": "enough"}'
    traces = Traces(end.records, end.records, [], end.calls)
    return "; ".join(judge.faults_of_start(start, True, end.workflow.definition, row, traces, end.expected))


async def test_a_cancel_that_is_undone_as_was_asked_for_is_in_order() -> None:
    assert await cancelled(CANCEL, "cancelled", undone=False) == ""
    assert await cancelled(UNDO, "compensated", undone=True) == ""


async def test_a_cancel_that_was_to_undo_and_has_not_is_noticed() -> None:
    assert "what had to be undone was not" in await cancelled(UNDO, "cancelled", undone=False)


async def test_a_cancel_that_was_not_to_undo_and_has_is_noticed() -> None:
    assert (
        await cancelled(CANCEL, "compensated", undone=True) == "it was cancelled, not to be undone, and is compensated"
    )


@pytest.mark.parametrize("start", [CANCEL, UNDO])
async def test_a_cancel_that_said_so_and_did_nothing_is_noticed(start: Start) -> None:
    assert "it was cancelled, and is completed" in await cancelled(start, "completed", undone=False)


async def test_what_fails_while_it_is_cancelled_to_be_undone_may_end_by_its_failure() -> None:
    end = await End.of_saga()
    traces = Traces(end.records, end.records, [], end.calls)
    given = (end.workflow.definition, end.row, traces, end.expected)
    assert [*judge.faults_of_start(UNDO, True, *given)] == []
    assert [*judge.faults_of_start(CANCEL, True, *given)] == ["it was cancelled, and is compensated"]


async def test_a_child_that_was_begun_twice_is_noticed() -> None:
    end = await End.of_saga()
    end.row["children"] += 1
    assert end.faults() == "it has begun 3 children, and was to begin 2"


async def test_an_event_that_was_not_given_is_noticed() -> None:
    end = await End.of_saga()
    del end.records[end.number("first", "answered")]
    assert "event 'first 0' was given 0 times" in end.faults()


async def test_an_event_that_was_given_twice_is_noticed() -> None:
    end = await End.of_saga()
    end.records.append(changed(end.records[end.number("first", "answered")], seq=99, path="second"))
    assert "event 'first 0' was given 2 times" in end.faults()
