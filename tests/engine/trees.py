"""Random workflows of every kind of node, to be crashed. `tree(seed)` is the same wherever it is made, in any process.

The data is an object of counters; each step counts in one of its own, so that arms seldom conflict. Bodies depend on their data
and `context()` alone. What each decides is drawn when the tree is made: how often a step fails, whether it returns something,
which case is chosen after how many visits. Most trees complete; many fail on the way and are undone.

Each body carries what was drawn for it in its attribute `plan`, so that somebody else may tell what is to come of it (see
`tests.storm.oracle`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

import durable
from durable import (
    ArmResults,
    ChildFailed,
    Context,
    Goto,
    ItemResults,
    Retry,
    Workflow,
    context,
    hours,
    minutes,
    seconds,
)

INPUT: dict[str, Any] = {"start": 1}
DEPTH_MAX = 4
BUDGET = 16  # nodes of one tree, about
FAR = hours(1)

# What bodies may do durably: sleep, make a call once, one that fails, several at once; wait for children that were called or
# started, for an event and for a person that never come, and for what is in none.
EFFECTS = ("sleep", "call", "fail", "both", "child", "started", "nothing", "nobody", "unmatched")
# And what needs somebody outside, who sends events, answers questions and emits: see `Plan.awaited`.
OUTSIDE = (*EFFECTS, "broken child", "event", "any", "all", "input")
EMITTED = (*OUTSIDE, "matched", "work")
# What the body of a transactional step writes: that it was paid, in the transaction of its record.
PAY = "insert into public.paid (execution_id, path, attempt) values (durable.execution_id($1), $2, $3)"
WORK = 4.0  # seconds for which a body works that takes its time: longer than the lease of a storm

Data: TypeAlias = dict[str, Any]
Log: TypeAlias = Callable[[Context], Awaitable[None]]
Tell: TypeAlias = Callable[[Context, str], Awaitable[None]]


def tree(
    seed: int,
    *,
    far: timedelta = FAR,
    log: Log | None = None,
    waits: bool = False,
    effects: Sequence[str] = EFFECTS,
    slept: Tell | None = None,
    postscript: bool = False,
    pays: bool = False,
) -> Workflow[Any, Any]:
    """The workflow of *seed*, to be run on `INPUT`. A retry waits either next to nothing or *far*. *log* is awaited at the
    beginning of each body, those of compensations included. With *waits*, many bodies wait, in the ways of *effects*; workers
    must know `CHILDREN`. *slept* is told of each sleep that is over, by the key of its record. With *pays*, many of the steps
    that do not wait, and of the compensations, are transactional: their bodies do what `PAY` says. A *postscript* is a last
    step more, which changes nothing: as a compatible new version of the code has it."""
    grower = _Grower(random.Random(seed), far, log, waits, effects, slept, pays)
    on_failure = grower.undoing("told", 0, sleeps=grower.sleeps()) if grower.chance(0.3) else None
    workflow: Workflow[Any, Any] = Workflow(f"tree{seed}", on_failure=on_failure)
    grower.workflow = workflow
    grower.block(workflow, depth=1, items=False)
    if postscript:
        workflow.step(name=POSTSCRIPT)(grower.body(Plan(POSTSCRIPT, 0, 0, None, silent=True), items=False))
    return workflow


def function(
    seed: int, *, far: timedelta, log: Log | None = None, effects: Sequence[str], slept: Tell | None = None
) -> Workflow[Any, Any]:
    """A code-first workflow of *seed*: one body, with many effects."""
    rng = random.Random(seed)
    attempts = rng.choice((1, 2))
    drawn = tuple(rng.choice(effects) for _ in range(rng.randint(3, 8)))
    plan = Plan(
        "code", rng.randrange(3), rng.randrange(attempts), None, silent=False, effects=drawn, far=far, slept=slept
    )
    retry = Retry(attempts, backoff="constant", delay=far)

    async def code(data: Data) -> Data | None:
        return await plan.run(log, data, -1)

    return durable.workflow(f"code{seed}", retry=retry)(planned(code, plan))


def storm_tree(seed: int, far: timedelta, waits: bool, log: Log | None = None) -> Workflow[Any, Any]:
    """The workflow of *seed*; with *waits*, the bodies of every fourth one wait."""
    return tree(seed, far=far, log=log, waits=waits and seed % 4 == 1)


def _is_first(path: str) -> bool:
    """Whether *path* repeats nothing: else what takes its time would, in loops within loops, take minutes."""
    return "#" not in path and set(re.findall(r"\[(\d+)\]", path)) <= {"0"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a body does. `far` is how long its sleeps are and the time limits of waits that get nothing."""

    key: str
    turns: int  # of the loop, until it goes on
    failures: int  # attempts that fail
    bad_item: int | None  # an item that fails always
    silent: bool
    effects: tuple[str, ...] = ()  # of EMITTED
    far: timedelta = FAR
    slept: Tell | None = None
    pays: bool = False

    async def run(self, log: Log | None, data: Data, item: int) -> Data | None:
        here = context()
        if log is not None:
            await log(here)
        if self.pays:
            await here.connection.execute(PAY, here.execution_id, here.path, here.attempt)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        for number, effect in enumerate(self.effects):
            await self.do(here, effect, number)
        if "work" in self.effects and _is_first(here.path):
            await asyncio.sleep(WORK)
        if here.attempt <= self.failures or item == self.bad_item:
            raise ValueError(f"{here.path}: attempt {here.attempt}")
        return self.returns(data, item)

    def fails(self, attempt: int, item: int) -> bool:
        """Whether this attempt fails, of that item (-1 outside of items)."""
        return attempt <= self.failures or item == self.bad_item

    def returns(self, data: Data, item: int) -> Data | None:
        """What an attempt returns that does not fail."""
        return None if self.silent else counted(data, self.key, 1 + max(item, 0))

    def awaited(self, execution: str, path: str) -> Iterator[tuple[str, str]]:
        """What an attempt at *path* gets from outside, as (kind, name): it is to be sent once, with `payload_of` that name."""
        for number, effect in enumerate(self.effects):
            name = f"{path} {number}"
            match effect:
                case "event" | "input":
                    yield effect, name
                case "any":
                    yield "event", f"{name} {_chosen(name)}"
                case "all":
                    yield from (("event", f"{name} {side}") for side in _SIDES)
                case "matched":
                    yield "emission", f"{execution} {name}"
                case _:
                    pass

    async def do(self, here: Context, effect: str, number: int) -> None:
        name = f"{here.path} {number}"
        match effect:
            case "sleep":
                await durable.sleep(self.far, key=str(number))
                if self.slept is not None:
                    await self.slept(here, f'sleep:"{number}"#1')
            case "work":
                pass  # at the end: what stands before a wait is done again behind it
            case "broken child":
                with contextlib.suppress(ChildFailed):
                    await durable.call_workflow(breaking, number)
                    raise AssertionError("a child that fails has not failed")
            case "event":
                assert await durable.wait_for_event(name) == payload_of(name)
            case "any":
                sent = f"{name} {_chosen(name)}"
                got = await durable.wait_for_any([f"{name} {side}" for side in _SIDES])
                assert got == (sent, payload_of(sent))
            case "all":
                names = [f"{name} {side}" for side in _SIDES]
                assert await durable.wait_for_all(names) == {name: payload_of(name) for name in names}
            case "input":
                assert await durable.wait_for_text(name) == str(payload_of(name))
            case "matched":
                who = f"{here.execution_id} {name}"
                got = await durable.wait_for_event("emitted", match={"who": who}, lookback=minutes(50))
                assert got == {"who": who, "n": payload_of(who)}
            case "call":
                assert await durable.run(twice, number) == 2 * number
            case "fail":
                with contextlib.suppress(durable.RunFailed):
                    await durable.run(never, number, retry=Retry(2, backoff="constant", delay=self.far))
            case "child":
                assert await durable.call_workflow(doubling, number) == 2 * number
            case "started":
                child = await durable.start_workflow(doubling, number)
                await durable.sleep(self.far)
                assert await child.result() == 2 * number
            case "nothing":
                said = await durable.wait_for_event("nothing", timeout=self.far, timeout_value="late")
                assert said == "late"
            case "nobody":
                assert await durable.wait_for_approval("nobody", timeout=self.far, on_timeout="resume") is None
            case "unmatched":
                match = {"number": number}
                assert await durable.wait_for_event("x", match=match, timeout=self.far, timeout_value=5) == 5
            case _:
                async with asyncio.TaskGroup() as group:
                    group.create_task(durable.sleep(self.far, key=f"{number}a"))
                    called = group.create_task(durable.run(twice, number))
                    group.create_task(durable.sleep(self.far / 2, key=f"{number}b"))
                assert called.result() == 2 * number


POSTSCRIPT = "postscript"
_SIDES = ("left", "right")


def payload_of(name: str) -> int:
    """What is sent under *name*."""
    return zlib.crc32(name.encode()) % 1000


def _chosen(name: str) -> str:
    return _SIDES[payload_of(name) % 2]


doubling = Workflow[int, int]("doubling")
breaking = Workflow[int, int]("breaking")
CHILDREN = (doubling, breaking)


@doubling.step
async def doubled(number: int) -> int:
    await durable.sleep(seconds(0.3))
    return 2 * number


@breaking.step
async def broken(number: int) -> int:
    await durable.sleep(seconds(0.3))
    raise ValueError(f"child {number}")


async def twice(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def never(number: int) -> int:
    raise ValueError(f"call {number}")


def planned(body: Any, plan: Any) -> Any:
    """*body*, which tells its plan: a `Plan`, or of a decision what it returns."""
    body.plan = plan
    return body


def counted(data: Data, key: str, by: int = 1) -> Data:
    return {**data, key: data.get(key, 0) + by}


@dataclass(slots=True)
class _Grower:
    rng: random.Random
    far: timedelta
    log: Log | None
    waits: bool
    draws: Sequence[str]
    slept: Tell | None
    pays: bool
    left: int = BUDGET
    names: int = 0
    workflow: Workflow[Any, Any] = field(init=False)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def block(self, block: Any, depth: int, *, items: bool) -> None:
        """Fill *block*. In one of *items*, bodies and rules are given the item as well."""
        kinds = [self.kind(depth) for _ in range(self.rng.randint(1, max(5 - depth, 2)))]
        nodes = [(kind, self.name(kind)) for kind in kinds]
        self.left -= len(nodes)
        for kind, name in nodes:
            others = [other for _, other in nodes]
            match kind:
                case "branch":
                    self.branch(block, name, depth, items)
                case "parallel":
                    self.parallel(block, name, depth, items, others)
                case "foreach":
                    self.foreach(block, name, depth, items)
                case "loop":
                    self.loop(block, name, depth, items)
                case "decision":
                    self.decision(block, name, others)
                case _:
                    self.step(block, name, items)

    def kind(self, depth: int) -> str:
        if depth >= DEPTH_MAX or self.left <= 0 or self.chance(0.45):
            return "decision" if self.chance(0.15) else "step"
        return self.rng.choice(("branch", "parallel", "foreach", "loop"))

    # --- Steps ------------------------------------------------------------------------------------------------------

    def step(self, block: Any, name: str, items: bool) -> None:
        attempts = self.rng.choice((1, 1, 2, 3))
        fails_for_good = self.chance(0.04)
        plan = Plan(
            key="shared" if self.chance(0.04) else name,
            turns=self.rng.randrange(3),
            failures=attempts if fails_for_good else self.rng.randrange(attempts),
            bad_item=self.rng.randrange(3) if items and self.chance(0.1) else None,
            silent=self.chance(0.2),
            effects=self.effects(),
            far=self.far,
            slept=self.slept,
        )
        if not plan.effects and self.is_paid(name):
            plan = replace(plan, pays=True)
        options: dict[str, Any] = {"name": name, "retry": self.retry(attempts), "transactional": plan.pays}
        if self.chance(0.4):
            options["compensate"] = self.compensation(name)
            options["compensate_on"] = self.rng.choice(("completed", "started"))
        block.step(**options)(self.body(plan, items))

    def is_paid(self, name: str) -> bool:
        """Whether a step is transactional; nothing is drawn for that, so that the tree is the same if none is."""
        return self.pays and zlib.crc32(name.encode()) % 2 == 0

    def effects(self) -> tuple[str, ...]:
        if not self.waits or self.chance(0.4):
            return ()
        return tuple(self.rng.choice(self.draws) for _ in range(self.rng.randint(1, 3)))

    def body(self, plan: Plan, items: bool) -> Any:
        log = self.log

        async def of_data(data: Data) -> Data | None:
            return await plan.run(log, data, -1)

        async def of_item(data: Data, item: int) -> Data | None:
            return await plan.run(log, data, item)

        return planned(of_item if items else of_data, plan)

    def retry(self, attempts: int) -> Retry:
        delay = self.far if self.chance(0.3) else seconds(0)
        return Retry(attempts, backoff="constant", delay=delay, max_delay=max(delay, hours(1)))

    def compensation(self, name: str) -> Any:
        attempts = self.rng.choice((1, 1, 2))
        failures = attempts if self.chance(0.1) else self.rng.randrange(attempts)
        sleeps = self.sleeps()
        pays = not sleeps and self.is_paid(f"undo {name}")
        undo = self.undoing(name, failures, sleeps=sleeps, pays=pays)
        return self.workflow.compensation(name="undo", retry=self.retry(attempts), transactional=pays)(undo)

    def sleeps(self) -> bool:
        return self.waits and self.chance(0.5)

    def undoing(self, name: str, failures: int, *, sleeps: bool, pays: bool = False) -> Any:
        log = self.log

        async def undo(data: Data) -> Data:
            here = context()
            if log is not None:
                await log(here)
            if pays:
                await here.connection.execute(PAY, here.execution_id, here.path, here.attempt)
            await (durable.sleep(self.far) if sleeps else asyncio.sleep(0))
            if here.attempt <= failures:
                raise ValueError(f"{here.path} cannot be undone")
            return {"name": name, "saw": data}

        return planned(undo, Plan(name, 0, failures, None, silent=False))

    def decision(self, block: Any, name: str, others: list[str]) -> None:
        target = "nowhere" if self.chance(0.02) else self.rng.choice(others)
        jumps, log = self.rng.randrange(3), self.log

        async def decide(data: Data) -> Data | Goto | None:
            if log is not None:
                await log(context())
            return decided(data)

        def decided(data: Data) -> Data | Goto | None:
            return _jump(data, name, jumps, target) or (None if jumps else data)

        block.decision(name=name, max_visits=4)(planned(decide, decided))

    # --- Composites ---------------------------------------------------------------------------------------------------

    def branch(self, block: Any, name: str, depth: int, items: bool) -> None:
        values = self.rng.choice(((0, 1, 2), (False, True), ("zero", "one", "two"), (None, 1)))
        key = f"step{self.rng.randint(1, max(self.names, 1))}"

        def on(data: Data) -> Any:
            return values[data.get(key, 0) % len(values)]

        branch = block.branch(name, on=on)
        cases = [value for value in values if self.chance(0.7)] or values[:1]
        for value in cases:
            self.block(branch.case(value, name=f"is_{value}"), depth + 1, items=items)
        if len(cases) < len(values) and self.chance(0.8):
            self.block(branch.otherwise, depth + 1, items=items)

    def parallel(self, block: Any, name: str, depth: int, items: bool, others: list[str]) -> None:
        options: dict[str, Any] = {"on_error": self.rng.choice(("fail_fast", "complete_all"))}
        target, jumps = self.rng.choice(others), 1 if self.chance(0.1) else 0

        def into(data: Data, results: ArmResults) -> Any:
            values = [value for value in results.ok.values() if value is not None]
            merged = {**data, **{key: value for each in values for key, value in each.items()}}
            return _jump(merged, name, jumps, target) or {**merged, f"{name} failed": sorted(results.errors)}

        if self.chance(0.5):
            options["into"] = into
        else:
            options["merge"] = self.rng.choice(("deep", "deep", "last_wins"))
        parallel = block.parallel(name, **options)
        for _ in range(self.rng.randint(1, 3)):
            if self.chance(0.4):
                self.step(parallel, self.name("step"), items)
            else:
                self.block(parallel.arm(self.name("arm")), depth + 1, items=items)

    def foreach(self, block: Any, name: str, depth: int, items: bool) -> None:
        options: dict[str, Any] = {"concurrency": self.rng.choice((1, 2, 3, 50))}
        count = self.rng.randint(0, 4)
        if self.chance(0.6):
            options["on_error"] = "continue"
            options["tolerate"] = self.rng.choice((None, None, 1, 0.5))
        if self.chance(0.6):
            options["into"] = lambda data, results: {**data, name: _summary(results)}
        foreach = block.foreach(name, items=lambda: list(range(count)), **options)
        self.block(foreach, depth + 1, items=True)

    def loop(self, block: Any, name: str, depth: int, items: bool) -> None:
        times = self.rng.randint(1, 3)
        most = 2 if self.chance(0.1) else 9
        loop = block.loop(name, until=lambda data: data.get(f"{name} rounds", 0) % times == 0, max_iterations=most)
        plan = Plan(f"{name} rounds", turns=0, failures=0, bad_item=None, silent=False)
        loop.step(name="round")(self.body(plan, items=False))
        self.block(loop, depth + 1, items=items)


def _jump(data: Data, name: str, jumps: int, target: str) -> Goto | None:
    """A Goto, for the first *jumps* times."""
    key = f"{name} jumps"
    return Goto(target, counted(data, key)) if data.get(key, 0) < jumps else None


def _summary(results: ItemResults) -> list[Any]:
    counts = [sum(value for value in each.values() if type(value) is int) for each in results.ok if each is not None]
    return [len(results), len(results.errors), *counts]
