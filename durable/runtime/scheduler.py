"""Fires schedules: starts what is due, once, with any number of workers and no leader. Says what the code here declares.

The database's clock decides what is due, and a compare-and-set in it who fires. What is reckoned here, from the instants that
the database has told, is the same on every worker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from durable.ids import execution_uuid, new_token
from durable.model.cron import RuleOf, read, written
from durable.model.definition import Definition
from durable.model.firing import Plan, Policy, Standing, plan, utc
from durable.paging import Row as AnyRow
from durable.runtime.alarm import Alarm
from durable.store.connection import AGAIN, LOST, REFUSED, Link, Row, backoff, log_lost
from durable.store.queries import load

log = logging.getLogger("durable.runtime")

ROWS = 50
LOCK_WAIT = "250ms"  # for somebody's transaction that starts the very same execution
PUT_OFF_SECONDS = 1.0  # until that is tried again
BROKEN_SECONDS = 60.0  # until a schedule that cannot be fired here is tried again
DECLARE_EVERY = 60.0  # seconds
AWAY_AFTER = 150.0  # seconds after which a declaration counts no more, when there is another one
ORPHANED_AFTER = 300.0  # seconds after which what no worker declares any more counts as taken out of the code
ENDED_SECONDS = 0.05  # how soon to look after an end: many may come at once
TRIES = 10  # of taking a declaration up, while others do so

SCHEDULE_TAG = "durable.schedule"
INSTANT_TAG = "durable.scheduled_for"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A schedule as code declares it. `digest` names all of it."""

    name: str
    digest: str
    workflow: str
    version: int
    rule: RuleOf
    policy: Policy
    input: str
    tags: str | None


def policy_of(row: AnyRow) -> Policy:
    """How a stored schedule fires: a row of ``schedule/due`` or ``schedule/get``."""
    return Policy(row["overlap"], row["catch_up"], _seconds(row["catch_up_window"]), _seconds(row["jitter"]))


def tags_of(name: str, instant: datetime, tags: str | None) -> str:
    """The tags of an execution that a schedule starts."""
    own = {SCHEDULE_TAG: name, INSTANT_TAG: utc(instant)}
    return json.dumps({**(json.loads(tags) if tags else {}), **own})


def newest_of(definitions: Mapping[tuple[str, int], Definition]) -> dict[str, Definition]:
    """By name, the newest version of each workflow: schedules start that."""
    return {name: definitions[name, version] for name, version in sorted(definitions)}


@dataclass(frozen=True, slots=True)
class _Firing:
    """A schedule with what is to be done about it, and the rows of the executions that it starts."""

    row: Row
    plan: Plan
    starts: list[tuple[Any, ...]]


class Scheduler:
    """Runs as a task. *turn_of(queue, definition, input)* says with whom an execution takes turns in its queue. *link* is for
    what waits for nobody; *on_ready(queues)* is called when something was started, *on_doomed()* when something is to be
    cancelled, *on_queued()* when other workers are to know that something waits for an end."""

    def __init__(
        self,
        dsn: str,
        link: Link,
        definitions: Mapping[tuple[str, int], Definition],
        declarations: Sequence[Declaration],
        *,
        turn_of: Callable[[str, Definition, str], str | None],
        on_ready: Callable[[list[str]], None],
        on_doomed: Callable[[], None],
        on_queued: Callable[[], None],
        on_resent: Callable[[], None],
        poll_seconds: Callable[[], float],
    ) -> None:
        self._link = link
        self._firing_link = Link(dsn, "scheduler", on_resent=on_resent, more={"lock_timeout": LOCK_WAIT})
        self._on_resent = on_resent
        self._newest = newest_of(definitions)
        self._declarations = {declaration.name: declaration for declaration in declarations}
        self._turn_of = turn_of
        self._on_ready = on_ready
        self._on_doomed = on_doomed
        self._on_queued = on_queued
        self._poll_seconds = poll_seconds
        self._alarm = Alarm()
        self._put_off: dict[str, float] = {}  # until when, on the loop's clock
        self._queueing = False
        self._declare_at = 0.0
        self._declared = False

    def look(self) -> None:
        """Some schedule was changed, or may be due."""
        self._alarm.consider(0.0)

    def ended(self) -> None:
        """An execution has ended: an instant may have waited for that."""
        if self._queueing:
            self._alarm.consider(ENDED_SECONDS)

    async def close(self) -> None:
        """Close the connection."""
        await self._firing_link.close()

    async def run(self) -> None:
        """Fire until cancelled. There must be workflows."""
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= self._declare_at:
                await self.declare()
            # Twice as seldom as others look: only a change of a schedule that nobody has told of waits for it.
            self._alarm.set(2 * self._poll_seconds())
            rows = await self._due(loop.time())
            self._queueing = rows[0]["queueing"]
            if rows[0]["name"] is not None:
                await self._fire(self._planned(rows))
                continue
            if rows[0]["next_in"] is not None:
                self._alarm.consider(max(rows[0]["next_in"], 0.0))
            for until in self._put_off.values():
                self._alarm.consider(until - loop.time())
            await self._alarm.sleep()

    # --- Firing ----------------------------------------------------------------------------------------------------

    async def _due(self, now: float) -> list[Row]:
        self._put_off = {name: until for name, until in self._put_off.items() if until > now}
        return await self._link.fetch_surely(
            load("schedule/due"),
            list(self._newest),
            [definition.version for definition in self._newest.values()],
            [declaration.digest for declaration in self._declarations.values()],
            list(self._put_off),
            ROWS,
        )

    def _planned(self, rows: Sequence[Row]) -> list[_Firing]:
        firings: list[_Firing] = []
        for row in rows:
            try:
                made = plan(_standing(row), row["now"])
                firings.append(_Firing(row, made, [self._start(row, instant) for instant in made.started]))
            except Exception as error:  # a rule that is not known here, or a codec that fails: others may do better
                self._set_aside(row["name"], error, BROKEN_SECONDS)
        return sorted(firings, key=lambda firing: firing.row["name"].encode())

    async def _fire(self, firings: Sequence[_Firing]) -> None:
        """Write what is planned. If one of it cannot be written, the rest is, all the same."""
        attempt = 0
        while firings:
            try:
                rows = await self._firing_link.fetch(load("schedule/fire"), *self._arguments(firings))
            except (asyncpg.LockNotAvailableError, *REFUSED) as error:
                if len(firings) > 1:
                    for firing in firings:
                        await self._fire([firing])
                else:
                    blocked = isinstance(error, asyncpg.LockNotAvailableError)
                    self._set_aside(firings[0].row["name"], error, PUT_OFF_SECONDS if blocked else BROKEN_SECONDS)
                return
            except (*LOST, *AGAIN) as error:
                attempt += 1
                log_lost("scheduler", attempt, error)
                await asyncio.sleep(backoff(attempt))
            else:
                if attempt:
                    self._on_resent()
                self._tell(firings, rows)
                return

    def _arguments(self, firings: Sequence[_Firing]) -> list[Any]:
        starts = [start for firing in firings for start in firing.starts]
        plans = [
            (
                firing.row["name"],
                firing.row["revision"],
                firing.plan.next_at,
                firing.plan.due_at,
                max(firing.row["handled_at"], firing.row["now"]),
                "{" + ",".join(f'"{instant.isoformat()}"' for instant in firing.plan.queued) + "}",
                firing.plan.skipped,
                firing.plan.cancelled,
            )
            for firing in firings
        ]
        columns = [list(column) for column in zip(*plans, strict=True)]
        columns += [list(column) for column in zip(*starts, strict=True)] if starts else [[] for _ in range(11)]
        return [*columns, new_token(), "the next firing of its schedule has taken its place"]

    def _start(self, row: Row, instant: datetime) -> tuple[Any, ...]:
        definition = self._newest[row["workflow"]]
        name = f"{row['name']}@{utc(instant)}"
        return (
            row["name"],
            execution_uuid(name),
            name,
            instant,
            definition.shape,
            definition.version,
            row["queue"] or definition.queue,
            definition.priority if row["priority"] is None else row["priority"],
            tags_of(row["name"], instant, row["tags"]),
            None if definition.timeout is None else definition.timeout.total_seconds(),
            self._turn_of(row["queue"] or definition.queue, definition, row["input"]),
        )

    def _tell(self, firings: Sequence[_Firing], rows: Sequence[Row]) -> None:
        """Tell whom it concerns what was done, and the log what was left out. What is missing in *rows* somebody else has
        done."""
        done = {row["name"]: row for row in rows}
        for firing in firings:
            row, made = done.get(firing.row["name"]), firing.plan
            if row is None:
                continue
            name = firing.row["name"]
            if made.missed is not None:
                log.warning("schedule %r has missed firings since %s, which are not caught up", name, made.missed)
            if made.skipped:
                log.info("schedule %r has left out %d firings, for the one before is not over", name, made.skipped)
            if row["started"] < len(made.started):
                log.warning("schedule %r did not start executions that were there already: %s", name, made.started)
        if queues := sorted({queue for row in rows for queue in row["queues"] or ()}):
            self._on_ready(queues)
        if any(row["doomed"] for row in rows):
            self._on_doomed()
        if any(firing.plan.queued and firing.row["name"] in done for firing in firings):
            self._on_queued()

    def _set_aside(self, name: str, error: Exception, seconds: float) -> None:
        log.error("schedule %r cannot be fired here, and is tried again in %.0f s: %s", name, seconds, error)
        self._put_off[name] = asyncio.get_running_loop().time() + seconds * random.uniform(0.5, 1.0)

    # --- What the code declares --------------------------------------------------------------------------------------

    async def declare(self) -> None:
        """Say what our code declares, and take up of it what counts. Others may do the same meanwhile: whoever comes first."""
        self._declare_at = asyncio.get_running_loop().time() + DECLARE_EVERY * random.uniform(0.5, 1.0)
        names = sorted(self._declarations, key=str.encode)
        for _ in range(TRIES if names else 0):
            digests = [self._declarations[name].digest for name in names]
            rows = await self._link.fetch_surely(
                load("schedule/declare"), names, digests, AWAY_AFTER, not self._declared
            )
            self._declared = True
            counting = [row for row in rows if row["counts"]]
            if not counting:
                break
            for row in counting:
                declaration = self._declarations[row["name"]]
                if row["workflow"] not in (None, declaration.workflow):
                    log.error(
                        "the schedule of workflow %r is not kept: one of workflow %r has that name. Delete that one.",
                        declaration.workflow,
                        row["workflow"],
                    )
                    names.remove(row["name"])
                    continue
                await self._take_up(declaration, row)
        self.look()

    async def _take_up(self, declaration: Declaration, row: Row) -> None:
        """Make a declaration of ours the one that counts. A rule that stays goes on where it stands; another one begins now, or
        when the last worker that had the other one was there."""
        policy, stored = declaration.policy, written(declaration.rule)
        next_at, handled_at = row["next_at"], row["handled_at"]
        if row["rule"] is None or json.loads(row["rule"]) != stored:
            begin = row["other_seen_at"] or row["now"]
            handled_at = begin if handled_at is None else max(begin, handled_at)
            next_at = declaration.rule.next_after(handled_at)
        await self._link.fetch_surely(
            load("schedule/put"),
            declaration.name,
            row["revision"],
            new_token(),
            declaration.workflow,
            declaration.version,
            json.dumps(stored),
            declaration.input,
            policy.overlap,
            policy.catch_up,
            policy.catch_up_window and policy.catch_up_window.total_seconds(),
            policy.jitter and policy.jitter.total_seconds(),
            None,
            None,
            declaration.tags,
            declaration.digest,
            False,
            next_at,
            next_at and policy.due_at(declaration.name, next_at),
            handled_at,
        )


def _standing(row: Row) -> Standing:
    rule = read(json.loads(row["rule"]))
    return Standing(row["name"], rule, policy_of(row), row["next_at"], tuple(row["queued"]), row["live"])


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
