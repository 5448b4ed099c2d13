"""Which code an execution can go on with: our definitions, judged against the shapes that executions were begun under."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from durable.engine.journal import History
from durable.model.definition import Definition
from durable.model.evolution import resumes, resumes_after
from durable.model.fingerprint import Tree, shape_of
from durable.store.claims import Claimable

log = logging.getLogger("durable.runtime")


@dataclass(frozen=True, slots=True)
class Code:
    """The definition for executions of one stored shape. `changed` is that shape, when it depends on how far an execution has
    come whether it can go on."""

    definition: Definition
    changed: Tree | None = None

    def refuses(self, history: History) -> str | None:
        """Why an execution with this history cannot go on with the definition; None if it can."""
        if self.changed is None:
            return None
        chosen = [
            f"{path}/{past.note.target}"
            for path, past in history.by_path.items()
            if past.note is not None and past.note.kind == "chosen"
        ]
        return resumes_after(self.changed, shape_of(self.definition), [*history.by_path, *chosen])


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
        codes[shape] = Code(definition, None if reason is None else tree)
        if reason is not None:
            log.info(
                "workflow %r version %d was changed: %s. Executions begun before go on where they can, and are held where "
                "they cannot.",
                workflow,
                version,
                reason,
            )
    return codes


def claimable(codes: Mapping[int, Code]) -> Claimable:
    """What of it a worker may claim."""
    return Claimable(
        shapes=sorted(codes),
        known=sorted(shape for shape, code in codes.items() if code.changed is None),
        own=sorted({code.definition.shape for code in codes.values()}),
    )
