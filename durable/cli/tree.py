"""An execution as a tree of its steps, with their attempts, times, waits and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from durable.cli.output import COLOURS, ago, short, spent, status_text
from durable.inbox import Input
from durable.view import Attempt, EffectView, Execution, LogLine, StepView

MARKS = {
    "completed": "✓",
    "failed": "✗",
    "retrying": "↻",
    "running": "…",
    "chosen": "◇",
    "waiting": "⏸",
    "answered": "✓",
    "expired": "⏱",
    "ran": "✓",
    "tried": "✗",
}
_DIM = "dim"


def head_of(execution: Execution) -> Text:
    """What is to be said of the whole, in lines."""
    text = Text.assemble(
        (execution.id, "bold"),
        "  ",
        f"{execution.workflow} v{execution.version}  ",
        status_text(execution.status.value),
    )
    facts: list[tuple[str, str]] = [("queue", f"{execution.queue}, priority {execution.priority}")]
    if execution.id != str(execution.execution_id):
        facts.append(("uuid", str(execution.execution_id)))
    facts.append(("created", f"{execution.created_at:%Y-%m-%d %H:%M:%S} UTC ({ago(execution.created_at)})"))
    if execution.ended_at is not None:
        facts.append(("ended", f"{execution.ended_at:%Y-%m-%d %H:%M:%S} UTC ({ago(execution.ended_at)})"))
    elif execution.deadline_at is not None:
        facts.append(("deadline", ago(execution.deadline_at)))
    if execution.worker_id is not None:
        facts.append(("worker", str(execution.worker_id)))
    if execution.waits_for or execution.wake_at is not None:
        until = (
            []
            if execution.wake_at is None
            else [f"until {execution.wake_at:%Y-%m-%d %H:%M:%S} ({ago(execution.wake_at)})"]
        )
        facts.append(("waits for", "; ".join([*execution.waits_for, *until])))
    if execution.parent is not None:
        facts.append(("parent", execution.parent))
    if execution.tags:
        facts.append(("tags", short(execution.tags, 200)))
    if execution.crashes:
        facts.append(("crashes", f"{execution.crashes} workers died with it in flight"))
    if execution.hold is not None:
        facts.append(("held", execution.hold_reason or execution.hold))
    if execution.reason is not None:
        facts.append(("reason", execution.reason))
    facts.append(("input", short(execution.input, 300)))
    if execution.error is not None:
        facts.append(("error", str(execution.error)))
    elif execution.ended_at is not None and execution.status.value == "completed":
        facts.append(("result", short(execution.result, 300)))
    for name, value in facts:
        style = "red" if name in ("error", "held") else ""
        text.append(f"\n  {name:<10}", _DIM).append(value, style)
    return text


def tree_of(execution: Execution, children: Iterable[Execution] = ()) -> Tree:
    """The steps of *execution*, which was asked for with them."""
    root = Tree(Text("steps", style="bold"), guide_style=_DIM)
    branches: dict[str, Tree] = {}
    for step in execution.steps or ():
        if step.path in branches:  # what is inside was recorded before it was over itself
            branches[step.path].label = _label(step)
        else:
            branches[step.path] = _place(root, branches, step.path).add(_label(step))
        _add_details(branches[step.path], step)
    for asked in execution.inputs or ():
        if asked.status == "pending":
            _place(root, branches, f"{asked.path}/?").add(_question(asked))
    for child in children:
        line = Text.assemble(("child ", _DIM), f"{child.workflow} {child.id} ", status_text(child.status.value))
        root.add(line)
    if not root.children:
        root.add(Text("nothing is recorded yet", style=_DIM))
    return root


def _place(root: Tree, branches: dict[str, Tree], path: str) -> Tree:
    """Where what stands at *path* is to be hung: under what it stands inside, which may have no record of its own."""
    place, known = root, ""
    for segment in path.split("/")[:-1]:
        name, bracket, index = segment.partition("[")
        for part in (name, bracket + index) if bracket else (name,):
            known = known + part if part.startswith("[") else f"{known}/{part}".removeprefix("/")
            if known not in branches:
                branches[known] = place.add(Text(part, style=_DIM))
            place = branches[known]
    segment = path.rpartition("/")[2]
    if "[" in segment:
        outer = path[: path.rindex("[")]
        return branches.setdefault(outer, place)
    return place


def _label(step: StepView) -> Text:
    name = step.path.rpartition("/")[2]
    mark = MARKS.get(step.status, "•")
    open_waits = [effect for effect in step.effects if effect.kind == "waiting" and not _answered(step.effects, effect)]
    status = "waiting" if step.status == "running" and open_waits else step.status
    text = Text.assemble((f"{MARKS.get(status, mark)} ", COLOURS.get(status, "")), (name, "bold"))
    if status not in ("completed", "chosen"):
        text.append(f"  {status}", COLOURS.get(status, ""))
    if step.choice is not None:
        text.append(f"  → {step.choice}")
    if step.goto is not None:
        text.append(f"  → goes to {step.goto}")
    if step.iterations is not None:
        text.append(f"  {step.iterations} iterations")
    if step.compensates is not None:
        text.append(f"  undoes {step.compensates}", "magenta")
    if len(step.attempts) > 1:
        text.append(f"  {len(step.attempts)} attempts")
    if step.attempts:
        last = step.attempts[-1]
        text.append(f"  {spent(last.seconds)}", _DIM).append(f"  {last.recorded_at:%H:%M:%S}", _DIM)
    if step.result is not None:
        text.append(f"  {short(step.result, 60)}", _DIM)
    return text


def _add_details(branch: Tree, step: StepView) -> None:
    for attempt in step.attempts:
        if attempt.error is not None:
            branch.add(_failed(attempt))
    for effect in _latest(step.effects):
        if effect.kind == "waiting" and effect.key.startswith("input:"):
            continue  # the question itself says more
        branch.add(_effect(effect))
    for line in step.logs:
        branch.add(_logged(line))


def _logged(line: LogLine) -> Text:
    colour = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}.get(line.level, "")
    return Text.assemble(
        (f"{line.at:%H:%M:%S} ", _DIM), (f"{line.level} ", colour), (f"{line.logger}: ", _DIM), line.text
    )


def _failed(attempt: Attempt) -> Text:
    text = Text.assemble(
        (f"✗ attempt {attempt.number}", "red"),
        (f"  {attempt.recorded_at:%H:%M:%S}  {spent(attempt.seconds)}  ", _DIM),
        short(str(attempt.error), 300),
    )
    if attempt.next_run_at is not None and attempt.next_run_at > datetime.now(UTC):
        text.append(f"  next {ago(attempt.next_run_at)}", "yellow")
    return text


def _answered(effects: Sequence[EffectView], wait: EffectView) -> bool:
    return any(effect.key == wait.key and effect is not wait and effect.kind != "waiting" for effect in effects)


def _latest(effects: Sequence[EffectView]) -> list[EffectView]:
    """Of each effect what was recorded last."""
    return list({effect.key: effect for effect in effects}.values())


def _effect(effect: EffectView) -> Text:
    text = Text.assemble(
        (f"{MARKS.get(effect.kind, '•')} ", COLOURS.get(effect.kind, "")),
        effect_name(effect.key),
        (f"  {effect.kind}", _DIM),
    )
    if effect.kind == "waiting" and effect.until is not None:
        text.append(f"  until {effect.until:%Y-%m-%d %H:%M:%S} ({ago(effect.until)})", "yellow")
    if effect.error is not None:
        text.append(f"  {short(str(effect.error), 200)}", "red")
    elif effect.result is not None:
        text.append(f"  {short(_given(effect.result), 60)}", _DIM)
    return text


def effect_name(key: str) -> str:
    """An effect's key for people: without the digest of a call's arguments, and without a number that tells nothing."""
    name, _, count = key.rpartition("#")
    kind, _, rest = name.partition(":")
    if kind == "run":
        rest = rest.rpartition(":")[0]
    again = "" if count == "1" else f" #{count}"
    return f"{kind} {rest}".strip().replace('"', "") + again


def _given(result: Any) -> Any:
    return next(iter(result.values())) if isinstance(result, dict) and len(result) == 1 else result  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _question(asked: Input) -> Text:
    text = Text.assemble(("? ", "yellow"), (asked.name, "bold"), f"  {asked.type}  {asked.prompt or ''}")
    if asked.due_at is not None:
        text.append(f"  until {asked.due_at:%Y-%m-%d %H:%M:%S}", "yellow")
    return text
