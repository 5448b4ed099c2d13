"""Which code an execution can go on with: our definitions, judged against the shapes that executions were begun under."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from durable.engine.journal import History, Record
from durable.model.definition import Definition
from durable.model.evolution import can_be_undone, resumes, resumes_after
from durable.model.fingerprint import Tree, shape_of
from durable.model.paths import name_in
from durable.store.claims import Claimable
from durable.store.connection import Named

log = logging.getLogger("durable.runtime")


@dataclass(frozen=True, slots=True)
class Code:
    """The definition for executions of one shape. `stored` is that shape, when it is not the definition's own. Then nodes were
    only added at the end; or it `depends` on how far an execution has come whether it can go on."""

    definition: Definition
    stored: Tree | None = None
    depends: bool = False

    def refuses(self, history: History, *, ending: bool) -> str | None:
        """Why an execution with this history cannot go on with the definition; None if it can. *ending*: nothing is done any
        more but to end it, so that only what may have to be undone must be there."""
        if self.stored is None or not self.depends:
            return None
        current = shape_of(self.definition)
        if ending:
            return can_be_undone(self.stored, current, history.by_path)
        over = {path for path in history.by_path if history.is_over(path)}
        chosen = [
            f"{path}/{past.note.target}"
            for path, past in history.by_path.items()
            if past.note is not None and past.note.kind == "chosen" and path not in over
        ]
        left = [path for path in history.by_path if path not in over]
        return can_be_undone(self.stored, current, over) or resumes_after(self.stored, current, [*left, *chosen])

    def leaves_behind(self, path: str, target: str | None = None) -> bool:
        """Whether code of the stored shape may not know how to go on after *path*, whose result leads to *target*."""
        if self.stored is None:
            return False
        if self.depends:
            return True
        names = {node["name"] for node in self.stored["nodes"]}
        first, _, inner = path.partition("/")
        return name_in(first) not in names or not (target is None or inner or target in names)


def judged(
    definitions: Mapping[tuple[str, int], Definition], stored: Iterable[tuple[int, str, int, Tree]]
) -> dict[int, Code]:
    """The code for each shape: ours, and the *stored* ones (id, workflow, version, tree) of the same workflows and versions."""
    codes = {definition.shape: Code(definition) for definition in definitions.values()}
    for shape, workflow, version, tree in stored:
        definition = definitions.get((workflow, version))
        if definition is None or shape in codes:
            continue
        reason = resumes(tree, shape_of(definition))
        codes[shape] = Code(definition, tree, depends=reason is not None)
        if reason is not None:
            log.info(
                "workflow %r version %d was changed: %s. Executions begun before go on where they can, and are held where "
                "they cannot.",
                workflow,
                version,
                reason,
            )
    return codes


class Shapes:
    """The stored shapes of our workflows, judged. `codes` has what an execution of each goes on with, `count` how many of all
    workflows there were when they were read."""

    def __init__(self, definitions: Mapping[tuple[str, int], Definition]) -> None:
        self._definitions = definitions
        self.names = sorted({name for name, _ in definitions})
        self.codes: dict[int, Code] = {}
        self.count = 0

    def judge(self, rows: Sequence[Named]) -> None:
        """Judge what is new in rows of ``shape/read``."""
        new = ((r["shape_id"], r["workflow"], r["version"], msgspec.json.decode(r["tree"])) for r in rows)
        self.codes.update(judged(self._definitions, (one for one in new if one[0] not in self.codes)))
        if rows:
            self.count = rows[0]["shapes"]


def claimable(codes: Mapping[int, Code]) -> Claimable:
    """What of it a worker may claim."""
    return Claimable(
        shapes=sorted(codes),
        known=sorted(shape for shape, code in codes.items() if not code.depends),
        own=sorted({code.definition.shape for code in codes.values()}),
    )


def record_from(row: Named) -> Record:
    """A row of ``journal/read`` as the interpreter knows it."""
    delay = row["run_in"]
    return Record(
        row["seq"],
        row["path"],
        row["kind"],
        row["attempt"],
        row["value"],
        row["error"],
        None if delay is None else max(delay, 0.0),
        row["seconds"],
        row["target"],
        row["data_seq"],
        key=row["key"],
    )
