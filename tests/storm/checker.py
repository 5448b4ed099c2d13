"""The laws that a history of a storm must keep. Each is a function of values alone, so that a test may make up a history that
breaks it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from durable.ids import execution_uuid
from tests.storm.history import Body, Frozen, History
from tests.storm.program import GLOBALLY, PER_KEY, RATE, RATE_SECONDS

CLOCKS = 0.000_01  # seconds: instants are kept as floats, and read from microseconds


def faults(history: History) -> Iterator[str]:
    """Everything that is wrong with it."""
    yield from owners(history)
    yield from overlaps(history)
    yield from early_timers(history)
    yield from unpaid(history)
    yield from lost(history)
    yield from limits(history)
    yield from missed_instants(history)


def owners(history: History) -> Iterator[str]:
    """Law 2: an execution has one owner at a time, and only its owner writes."""
    holds: dict[str, tuple[str, str]] = {}  # by execution: owner and token
    given_up: dict[tuple[str, int], str] = {}  # by execution and transaction: the owner until then
    for moment in history.moments:
        execution = moment.row.get("execution_id", "")
        if moment.place == "claim":
            claim = (moment.row["owner"], moment.row["token"])
            if moment.op == "INSERT":
                if execution in holds:
                    yield f"{execution} was claimed by {claim[0]} while {holds[execution][0]} had it"
                holds[execution] = claim
            elif holds.get(execution) != claim:
                yield f"{execution} was given up by {claim[0]}, who had not claimed it"
            else:
                given_up[execution, moment.tx] = holds.pop(execution)[0]
        elif moment.place == "journal":
            writer = moment.row["worker_id"]
            holder = holds[execution][0] if execution in holds else given_up.get((execution, moment.tx))
            if holder != writer:
                what = f"record {moment.row['seq']} ({moment.row['path']!r}, {moment.row['kind']})"
                yield f"{what} of {execution} was written by {writer} while {holder or 'nobody'} had it"


def overlaps(history: History) -> Iterator[str]:
    """Law 2: bodies of one attempt overlap only across a frozen process."""
    by_attempt: defaultdict[tuple[str, str, int], list[Body]] = defaultdict(list)
    for body in history.bodies:
        by_attempt[body.execution, body.path, body.attempt].append(body)
    for key, bodies in by_attempt.items():
        bodies.sort(key=lambda body: body.began)
        for number, earlier in enumerate(bodies):
            for later in bodies[number + 1 :]:
                if later.began < earlier.ended and not _stood_still(history.frozen, earlier, later):
                    over = f"{earlier.ended - later.began:.3f} s before that of process {earlier.pid} had ended"
                    yield f"{key} began in process {later.pid} {over}"


def _stood_still(frozen: list[Frozen], earlier: Body, later: Body) -> bool:
    """Whether the process of the earlier one was frozen when it was overtaken, or had been while it ran."""
    return any(f.pid == earlier.pid and f.began < later.began and f.ended > earlier.began for f in frozen)


def early_timers(history: History) -> Iterator[str]:
    """Law 6: no timer fires early."""
    for timer in history.timers:
        if timer.at < timer.due - CLOCKS:
            early = f"{timer.due - timer.at:.3f} s early"
            yield f"{timer.what} of {timer.execution} ({timer.path!r}) was over {early}"


def unpaid(history: History) -> Iterator[str]:
    """Law 1: what the body of a transactional step writes and its result are there together, and once. Which steps are
    transactional is known by what was written."""
    recorded: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for moment in history.moments:
        if moment.place == "journal" and moment.row["kind"] == "completed":
            recorded[moment.row["execution_id"], moment.row["path"]].append(moment.tx)
    for paid in history.paid:
        found = recorded[paid.execution, paid.path]
        if found.count(paid.tx) != 1:
            yield f"{paid.path!r} of {paid.execution} (attempt {paid.attempt}) was paid in {paid.tx}, and recorded in {found}"
    for (execution, path), times in Counter((paid.execution, paid.path) for paid in history.paid).items():
        if times > 1:
            yield f"{path!r} of {execution} was paid {times} times"


def lost(history: History) -> Iterator[str]:
    """Law 3: nothing that was acknowledged is lost, and nothing arrives twice."""
    arrived = Counter[tuple[str, str, str]]()
    for moment in history.moments:
        if moment.place == "message":
            kind, _, name = moment.row["topic"].partition(":")
            if kind == "input":  # of one question, by its number
                name = name.partition(":")[2]
            arrived[kind, execution_uuid(moment.row["execution_id"]).hex, name] += 1
        elif moment.place == "emission":
            payload = moment.row["payload"]
            arrived["emission", "", payload["who"]] += 1
    for acked in history.acked:
        if acked.kind == "start":
            if execution_uuid(acked.execution).hex not in history.started:
                yield f"the start of {acked.execution} is lost"
            continue
        if acked.kind == "cancel":  # that is judged by how it has ended
            continue
        execution = "" if acked.kind == "emission" else execution_uuid(acked.execution).hex
        times = arrived[acked.kind, execution, acked.name]
        if not times:
            yield f"{acked.kind} {acked.name!r} to {acked.execution} is lost"
        elif times > 1:
            yield f"{acked.kind} {acked.name!r} to {acked.execution} has arrived {times} times"


def limits(history: History) -> Iterator[str]:
    """Law 11: limits hold globally."""
    running: defaultdict[str, set[str]] = defaultdict(set)
    granted: list[tuple[float, int]] = []
    for moment in history.moments:
        if moment.place == "claim" and moment.row["queue"] is not None:
            queue, key, execution = moment.row["queue"], moment.row["key"], moment.row["execution_id"]
            lane, most = (queue, GLOBALLY) if queue == "narrow" else (f"{queue} {key}", PER_KEY)
            if queue == "rated":
                continue
            if moment.op == "DELETE":
                running[lane].discard(execution)
                continue
            running[lane].add(execution)
            if len(running[lane]) > most:
                yield f"{len(running[lane])} executions of queue {lane!r} were claimed at once, and {most} may be"
        elif moment.place == "permit":
            granted.append((datetime.fromisoformat(moment.row["granted_at"]).timestamp(), moment.row["count"]))
    granted.sort()
    times = [at for at, _ in granted]
    for number, (at, _) in enumerate(granted):
        taken = sum(count for _, count in granted[bisect_right(times, at - RATE_SECONDS) : number + 1])
        if taken > RATE:
            yield f"{taken} executions were taken up in {RATE_SECONDS} s, and {RATE} may be"


def missed_instants(history: History) -> Iterator[str]:
    """A schedule fires once for each of its instants, which are whole seconds here."""
    if history.scheduled_at is not None:
        first = min(history.instants, default=math.inf)
        if first - history.scheduled_at > 1.0:
            yield f"of the schedule of {history.scheduled_at}, the first firing is {first}"
    for before, after in pairwise(history.instants):
        if after - before != 1.0:
            yield f"of the schedule, the firing after {before} is {after}"
