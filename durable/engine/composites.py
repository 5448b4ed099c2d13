"""What the nodes mean that have blocks inside and run one at a time: branch and loop.

Each asks the journal first and records its own result, so that whoever resumes does not go inside again.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from durable.codec import JsonCodec
from durable.engine import rules
from durable.engine.journal import Blocked, Record, Value
from durable.engine.strands import Strand
from durable.errors import EncodeError, LoopExhausted, NoMatchingCase
from durable.model.definition import OTHERWISE, Block, Branch, Loop, Step
from durable.model.paths import node_at

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter, Jump

_plain = JsonCodec()


# --- Branch ---------------------------------------------------------------------------------------------------------


async def branch(
    run: Interpreter, node: Branch, path: str, value: Value, strand: Strand, hold: bool
) -> Value | Blocked:
    """Choose once, record the choice, then run the case."""
    past = run.past(path)
    if past.note is None:
        said = await rules.ask(run, path, strand, node.on, value)
        label = await _label(run, node, path, strand, said)
        await run.write(strand, Record(run.subject.history.take_seq(), path, "chosen", target=label))
    else:
        label = past.note.target or ""
    return await run.block(_case(node, label), f"{path}/{label}/", value, strand, hold=hold)


async def _label(run: Interpreter, node: Branch, path: str, strand: Strand, said: Any) -> str:
    try:
        encoded = _plain.encode(said, node.on.signature.output_type)
    except EncodeError as error:
        raise await rules.failed(run, path, strand, error) from error
    for case in node.cases:
        if case.value == encoded:
            return case.label
    if node.otherwise is not None:
        return OTHERWISE
    cases = ", ".join(case.value for case in node.cases)
    error = NoMatchingCase(f"{path!r} chose {encoded}, and has no such case ({cases}) and no otherwise.")
    raise await rules.failed(run, path, strand, error)


def _case(node: Branch, label: str) -> Block:
    for case in node.cases:
        if case.label == label:
            return case.block
    assert node.otherwise is not None
    return node.otherwise


# --- Loop -----------------------------------------------------------------------------------------------------------


async def loop(
    run: Interpreter, node: Loop, path: str, value: Value, strand: Strand, hold: bool
) -> Value | Blocked | Jump:
    """Run the block until the rule says so. Each iteration leaves one record, which replaces all that it recorded itself."""
    past = run.past(path)
    if past.completed is not None:
        return run.after(past.completed, value, strand)
    note = past.note
    count = 0 if note is None else note.attempt
    data = value if note is None or note.value is None else Value(note.value, note.seq)
    while True:
        done = await run.block(node.block, f"{path}[{count}]/", data, strand, hold=True)
        if isinstance(done, Blocked):
            return done
        count += 1
        # It may take long, and a crash must not repeat the last step.
        if inspect.iscoroutinefunction(node.until.function):
            await run.write(strand)
        ready = await rules.ask(run, path, strand, node.until, done)
        if ready:
            text = None if done.seq == value.seq else done.text
            record = Record(run.subject.history.take_seq(), path, "completed", value=text)
            return await run.settle(record, value, strand, hold)
        if node.max_iterations is not None and count >= node.max_iterations:
            error = LoopExhausted(f"{path!r} did not come to its end within its {count} iterations")
            raise await rules.failed(run, path, strand, error)
        data = await _iterated(run, path, value, done, count, strand)


async def _iterated(run: Interpreter, path: str, value: Value, done: Value, count: int, strand: Strand) -> Value:
    """Record the data after an iteration, in the place of what it recorded. What may have to be undone is kept."""
    history = run.subject.history
    strand.pending = []  # the last step's record: the iteration's holds its data
    gone = [p for p in history.within(f"{path}[{count - 1}]") if not _can_be_undone(run, p)]
    drops = [record.seq for p in gone for record in history.by_path[p].records()]
    if (before := run.past(path).note) is not None:
        drops.append(before.seq)
    drops = [seq for seq in drops if seq not in history.pinned]
    text = None if done.seq == value.seq else done.text
    record = Record(history.take_seq(), path, "iterated", count, text, drops=tuple(drops))
    record.takes_back = history.open_at(set(gone))
    await run.write(strand, record)
    history.forget(gone)
    for seq in drops:
        run.dues.pop(seq, None)
    return value if text is None else Value(text, record.seq)


def _can_be_undone(run: Interpreter, path: str) -> bool:
    node = node_at(run.definition, path)
    return isinstance(node, Step) and node.compensation is not None
