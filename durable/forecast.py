"""What would become of the executions in flight if these definitions were deployed now. It reads, and changes nothing.

Owns the judgement of one execution and the sum of many. How it judges is not its own: `durable.runtime.code` says whether
code can go on, as it does for a worker, and the interpreter itself, which calls nothing, says what is read next
(`durable.engine.probe`). The database is paged through, so that memory does not grow with what is in flight.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from durable.authoring import Workflow, collect
from durable.codec import Codec, JsonCodec
from durable.engine.journal import History, Record, Subject
from durable.engine.probe import Look, look_ahead
from durable.ids import shown_id
from durable.model.definition import Definition
from durable.model.paths import plain
from durable.runtime.code import Code, judged, record_from
from durable.store.connection import Row
from durable.store.executions import Executions

Outcome: TypeAlias = Literal["resumes", "held", "fails"]
Progress: TypeAlias = Callable[[int, int], None]
Definitions: TypeAlias = Mapping[tuple[str, int], Definition]

PAGE = 200  # executions
JOURNAL_PAGE = 500  # records
GROUPS_MAX = 50  # of one workflow: what is beyond is counted together
ZERO = UUID(int=0)
_NUMBERS = re.compile(r"\[\d+\]")


class Misfit(msgspec.Struct, frozen=True):
    """Stored data that the code at *path* cannot read; *reason* names the place in it. *later*: it would be read only to undo a
    step, or to tell of a failure."""

    path: str
    reason: str
    later: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """What would become of one execution. It `resumes` as if nothing had been changed; or is `held`, for *reason*; or `fails`
    when it is its turn, for the first of its *misfits*. *at* is the step where it stands. One that resumes may have misfits
    that matter later."""

    id: str
    execution_id: UUID
    workflow: str
    version: int
    status: str
    outcome: Outcome
    at: str
    reason: str | None = None
    misfits: list[Misfit] = []


class Group(msgspec.Struct):
    """Executions of which the same is to be said. *ids* are the first of them."""

    at: str
    reason: str
    later: bool = False
    executions: int = 0
    ids: list[str] = []


class WorkflowForecast(msgspec.Struct):
    """One version of a workflow: how many of its executions are in flight and what becomes of them, those that are held by
    reason, and what data cannot be read, by place. *released* are held now and would go on."""

    workflow: str
    version: int
    in_flight: int = 0
    resume: int = 0
    held: int = 0
    fail: int = 0
    released: int = 0
    holds: list[Group] = []
    unreadable: list[Group] = []


class Forecast(msgspec.Struct):
    """What a deploy would do. `ok` when every execution resumes and all that it may have to read can be read."""

    ok: bool
    in_flight: int
    resume: int
    held: int
    fail: int
    workflows: list[WorkflowForecast]


async def forecast(
    dsn: str,
    workflows: Sequence[Workflow[Any, Any] | ModuleType],
    *,
    codec: Codec | None = None,
    elsewhere: Iterable[str] = (),
    examples: int = 10,
    progress: Progress | None = None,
    each: Callable[[Verdict], None] | None = None,
) -> Forecast:
    """Compare *workflows*, as an engine would be given them, with all executions in flight in the database of *dsn*.

    *codec* is that of the engine. Workflows named in *elsewhere* are run by other programs and passed over. Each group names
    as many as *examples* executions; *each* is called with every verdict, *progress* with how many were judged and how many
    there are.

    What the bodies of steps do is not looked at: whether they still wait for the same events, and as what they read the
    payloads of those, of answers, and of `durable.run`. Raises `DefinitionError`, and `StoreUnavailable` when PostgreSQL does
    not answer for about eight seconds. If cancelled, nothing has been changed, as ever.
    """
    definitions = {key: workflow.definition for key, workflow in collect(workflows).items()} if workflows else {}
    executions = Executions(dsn)
    found: dict[tuple[str, int], WorkflowForecast] = {}
    try:
        judge = _Judge(executions, definitions, codec or JsonCodec(), frozenset(elsewhere))
        async for verdict, was_held in judge.verdicts(progress):
            if each is not None:
                each(verdict)
            key = verdict.workflow, verdict.version
            if key not in found:
                found[key] = WorkflowForecast(*key)
            _count(found[key], verdict, was_held, examples)
    finally:
        await executions.close()
    ordered = [found[key] for key in sorted(found)]
    resume, held, fail = (sum(getattr(w, name) for w in ordered) for name in ("resume", "held", "fail"))
    ok = not held and not any(w.unreadable for w in ordered)
    return Forecast(ok, resume + held + fail, resume, held, fail, ordered)


class _Judge:
    def __init__(
        self, executions: Executions, definitions: Definitions, codec: Codec, elsewhere: frozenset[str]
    ) -> None:
        self._executions = executions
        self._definitions = definitions
        self._codec = codec
        self._elsewhere = elsewhere
        self._codes: dict[int, Code] = {}

    async def verdicts(self, progress: Progress | None) -> AsyncIterator[tuple[Verdict, bool]]:
        """Every execution in flight, with whether it is held now."""
        (count,) = await self._executions.fetch("forecast/count")
        await self._read_shapes()
        done, after = 0, ZERO
        while rows := await self._executions.fetch("forecast/live", after, PAGE):
            after = rows[-1]["execution_id"]
            ours = [row for row in rows if row["workflow"] not in self._elsewhere]
            async for row, journal in self._with_journals(ours):
                yield await self._verdict(row, journal), row["is_held"]
            done += len(rows)
            if progress is not None:
                progress(done, max(done, count["executions"]))

    async def _read_shapes(self) -> None:
        names = sorted({name for name, _ in self._definitions})
        rows = await self._executions.fetch("shape/read", names)
        stored = ((r["shape_id"], r["workflow"], r["version"], msgspec.json.decode(r["tree"])) for r in rows)
        self._codes = judged(self._definitions, stored)

    async def _with_journals(self, rows: Sequence[Row]) -> AsyncIterator[tuple[Row, list[Record]]]:
        """Executions, in the order of their ids, each with its journal: of one at a time."""
        left = iter(rows)
        row = next(left, None)
        journal: list[Record] = []
        async for record in self._records([row["execution_id"] for row in rows]):
            while row is not None and row["execution_id"] != record["execution_id"]:
                yield row, journal
                row, journal = next(left, None), []
            journal.append(record_from(record))
        while row is not None:
            yield row, journal
            row, journal = next(left, None), []

    async def _records(self, ids: list[UUID]) -> AsyncIterator[Row]:
        place, seq = ZERO, 0
        while ids:
            page = await self._executions.fetch("journal/read", ids, place, seq, JOURNAL_PAGE)
            for row in page:
                yield row
            if len(page) < JOURNAL_PAGE:
                return
            place, seq = page[-1]["execution_id"], page[-1]["seq"]

    async def _verdict(self, row: Row, journal: list[Record]) -> Verdict:
        history = History(journal)
        known = (row["workflow"], row["version"]) in self._definitions
        if known and row["shape_id"] not in self._codes:
            await self._read_shapes()  # it was stored since
        code = self._codes.get(row["shape_id"])
        if code is None or not known:
            return _told(row, "held", _stands_at(journal), _no_code(row, self._definitions))
        ending = row["overdue"] or row["undo"] is not None or history.failing is not None
        if (reason := code.refuses(history, ending=ending)) is not None:
            return _told(row, "held", _stands_at(journal), reason)
        id = shown_id(row["execution_id"], row["name"])
        subject = Subject(
            id, code.definition.name, row["input"], history, deadline_passed=row["overdue"], undo=row["undo"]
        )
        looks = await look_ahead(code.definition, subject, self._codec)
        misfits = [Misfit(look.path, look.problem, look.later) for look in looks if look.problem is not None]
        broken = next((misfit for misfit in misfits if not misfit.later), None)
        if broken is not None:
            return _told(row, "fails", broken.path, broken.reason, misfits)
        return _told(row, "resumes", _next(looks, journal), None, misfits)


def _told(row: Row, outcome: Outcome, at: str, reason: str | None, misfits: Sequence[Misfit] = ()) -> Verdict:
    id = shown_id(row["execution_id"], row["name"])
    named = id, row["execution_id"], row["workflow"], row["version"], row["status"]
    return Verdict(*named, outcome, at, reason, list(misfits))


def _no_code(row: Row, definitions: Definitions) -> str:
    versions = sorted(version for name, version in definitions if name == row["workflow"])
    has = f"version {', '.join(map(str, versions))} of it" if versions else "no workflow of that name"
    return f'expected workflow "{row["workflow"]}" version {row["version"]}, found {has}'


def _next(looks: Sequence[Look], journal: Sequence[Record]) -> str:
    return next((look.path for look in looks if not look.later), _stands_at(journal))


def _stands_at(journal: Sequence[Record]) -> str:
    """Where the records end, whatever the definition is."""
    last = next((record for record in reversed(journal) if record.path), None)
    if last is None:
        return "its beginning"
    return f"after {last.path}" if last.kind == "completed" else last.path


def _count(sums: WorkflowForecast, verdict: Verdict, was_held: bool, examples: int) -> None:
    sums.in_flight += 1
    match verdict.outcome:
        case "resumes":
            sums.resume += 1
            sums.released += was_held
        case "held":
            sums.held += 1
            _put(sums.holds, verdict.at, verdict.reason or "", verdict.id, examples)
        case "fails":
            sums.fail += 1
    places = {(plain(misfit.path), _NUMBERS.sub("[n]", misfit.reason), misfit.later) for misfit in verdict.misfits}
    for path, reason, later in sorted(places):
        _put(sums.unreadable, path, reason, verdict.id, examples, later=later)


def _put(groups: list[Group], at: str, reason: str, id: str, examples: int, *, later: bool = False) -> None:
    at, reason = _NUMBERS.sub("[n]", at), _NUMBERS.sub("[n]", reason)
    same = next((g for g in groups if (g.at, g.reason, g.later) == (at, reason, later)), None)
    if same is None:
        if len(groups) > GROUPS_MAX:
            same = groups[-1]
        else:
            rest = len(groups) == GROUPS_MAX
            same = Group("elsewhere", "other reasons", later) if rest else Group(at, reason, later)
            groups.append(same)
    same.executions += 1
    if len(same.ids) < examples:
        same.ids.append(id)
