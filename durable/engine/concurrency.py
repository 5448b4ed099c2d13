"""What the nodes mean that run several things at the same time: parallel and foreach.

Each asks the journal first and records its own result, so that whoever resumes does not go inside again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from durable.engine import rules
from durable.engine.journal import Blocked, Past, Record, Value
from durable.engine.strands import NodeFailed, Strand
from durable.errors import DecodeError, EncodeError, MergeConflict, TooManyFailures
from durable.model.definition import UNANNOTATED, Block, Foreach, Parallel, Step
from durable.model.failure import Failure
from durable.model.merge import merge
from durable.model.results import ArmResults, Err, ItemResults, Ok
from durable.model.signature import listed_type

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter, Jump

REPLAYED_AT_ONCE = 500  # items, which may all be found done, until other tasks of the process get their turn

_UNUSABLE = (MergeConflict, DecodeError, EncodeError)  # what has come of the parts cannot be put together


@dataclass(slots=True)
class _Part:
    """How an arm or an item has ended: what its last step returned, as JSON text, or why it failed; and the data of an arm,
    if any step of it has changed that."""

    text: str | None = None
    failure: Failure | None = None
    changed: str | None = None


@dataclass(slots=True)
class _Items:
    """What the strands of a foreach share: the items as JSON text, the numbers of those not begun, and how the others ended."""

    texts: list[str]
    left: Iterator[int]
    parts: list[_Part | None]
    blocked: list[Blocked] = field(default_factory=list[Blocked])
    failed: int = 0


# --- Parallel -------------------------------------------------------------------------------------------------------


async def parallel(
    run: Interpreter, node: Parallel, path: str, value: Value, strand: Strand, hold: bool
) -> Value | Blocked | Jump:
    """Run the arms in strands of their own, then combine their results and record that."""
    past = run.past(path)
    if past.completed is not None:
        return run.after(past.completed, value, strand)
    parts: dict[str, _Part] = {}
    blocked: list[Blocked] = []

    async def work(number: int, own: Strand) -> None:
        arm = node.arms[number]
        prefix = f"{path}/" if arm.single else f"{path}/{arm.name}/"
        try:
            done = await run.block(arm.block, prefix, value, own, hold=False)
        except NodeFailed as failed:
            if node.on_error == "fail_fast":
                raise
            await run.write(own, *reversed(failed.records))
            parts[arm.key] = _Part(failure=failed.failure)
            return
        if isinstance(done, Blocked):
            blocked.append(done)
        else:
            changed = None if done.seq == value.seq else done.text
            parts[arm.key] = _Part(None if own.silent else done.text, changed=changed)

    await _together(run, path, strand, len(node.arms), work)
    if blocked:
        return _earliest(blocked)
    ended = {arm.key: parts[arm.key] for arm in node.arms}
    if node.into is not None:
        types = {arm.key: _result_type(arm.block) for arm in node.arms}

        def results() -> ArmResults:
            return ArmResults({key: _result(run, part, types[key]) for key, part in ended.items()})

        return await rules.into(run, path, value, strand, hold, node.into, results)
    failure = next((part.failure for part in ended.values() if part.failure is not None), None)
    if failure is not None:
        raise NodeFailed(failure, run.failed_record(path, failure))
    try:
        text = _combined(run, node, value, ended)
    except _UNUSABLE as error:
        raise await rules.failed(run, path, strand, error) from error
    record = Record(run.subject.history.take_seq(), path, "completed", value=text)
    return await run.settle(record, value, strand, hold)


def _combined(run: Interpreter, node: Parallel, value: Value, ended: dict[str, _Part]) -> str | None:
    codec = run.runner.codec
    if node.merge == "collect":
        return codec.encode({key: None if p.text is None else codec.decode(p.text) for key, p in ended.items()})
    changed = [(key, codec.decode(part.changed)) for key, part in ended.items() if part.changed is not None]
    if not changed:
        return None
    return codec.encode(merge(codec.decode(value.text), changed, deep=node.merge == "deep"))


# --- Foreach --------------------------------------------------------------------------------------------------------


async def foreach(
    run: Interpreter, node: Foreach, path: str, value: Value, strand: Strand, hold: bool
) -> Value | Blocked | Jump:
    """Run the block for each item in at most `concurrency` strands, then put the results together and record that."""
    past = run.past(path)
    if past.completed is not None:
        return run.after(past.completed, value, strand)
    texts = await _items(run, node, path, value, strand, past)
    items = _Items(texts, iter(range(len(texts))), [None] * len(texts))

    async def work(_: int, own: Strand) -> None:
        await _some_items(run, node, path, value, own, items)

    count = min(node.concurrency, len(texts))
    if count > 1:
        await _together(run, path, strand, count, work)
    elif count:
        outer = strand.item
        try:
            await work(0, strand)
        except NodeFailed as failed:
            failed.records.append(run.failed_record(path, failed.failure))
            raise
        finally:
            strand.item = outer
    if items.blocked:
        return _earliest(items.blocked)
    ended = [part for part in items.parts if part is not None]
    if node.into is not None:
        kind = _result_type(node.block)
        return await rules.into(
            run, path, value, strand, hold, node.into, lambda: ItemResults([_result(run, p, kind) for p in ended])
        )
    try:
        text = None if node.collect_as is None else _collected(run, node.collect_as, value, ended)
    except _UNUSABLE as error:
        raise await rules.failed(run, path, strand, error) from error
    record = Record(run.subject.history.take_seq(), path, "completed", value=text)
    return await run.settle(record, value, strand, hold)


async def _items(run: Interpreter, node: Foreach, path: str, value: Value, strand: Strand, past: Past) -> list[str]:
    """Each item as JSON text. Asked for once: what comes later is read from the record."""
    codec, kind = run.runner.codec, listed_type(node.items.signature.output_type)
    note = past.note
    if note is None:
        said = await rules.ask(run, path, strand, node.items, value)
        try:
            text = codec.encode(_listed(said), kind)
        except Exception as error:
            raise await rules.failed(run, path, strand, error) from error
        note = Record(run.subject.history.take_seq(), path, "items", value=text)
        await run.write(strand, note)
    return [codec.encode(item) for item in codec.decode(note.value or "[]")]


def _listed(said: Any) -> Any:
    if isinstance(said, list | tuple | set | frozenset):
        return cast("Any", said)
    if isinstance(said, str | bytes | Mapping) or not isinstance(said, Iterable):
        raise TypeError(f"items() returned {type(cast('Any', said)).__name__}. Return a list.")
    return list(cast("Iterable[Any]", said))


async def _some_items(run: Interpreter, node: Foreach, path: str, value: Value, strand: Strand, items: _Items) -> None:
    """Take item after item, until there are none left or one has to wait for longer than anything else is busy."""
    for index in items.left:
        if index % REPLAYED_AT_ONCE == 0:
            await asyncio.sleep(0)
        strand.item = (items.texts[index], index)
        try:
            done = await run.block(node.block, f"{path}[{index}]/", value, strand, hold=False)
        except NodeFailed as failed:
            if node.on_error == "fail_fast":
                raise
            items.parts[index] = _Part(failure=failed.failure)
            items.failed += 1
            if _too_many(node, items):
                failed.failure = _refusal(node, items, failed.failure)
                raise
            await run.write(strand, *reversed(failed.records))
            continue
        if isinstance(done, Blocked):
            items.blocked.append(done)
            return
        items.parts[index] = _Part(None if strand.silent else done.text)


def _too_many(node: Foreach, items: _Items) -> bool:
    match node.tolerate:
        case None:
            return False
        case int(most):
            return items.failed > most
        case share:  # divided, because 0.29 * 100 is less than 29
            return items.failed / len(items.parts) > share


def _refusal(node: Foreach, items: _Items, last: Failure) -> Failure:
    failed, whole = items.failed, len(items.parts)
    return Failure.of(
        TooManyFailures(
            f"{failed} of {whole} items failed, and tolerate={node.tolerate} allows fewer. The last one: {last}"
        )
    )


def _collected(run: Interpreter, key: str, value: Value, ended: list[_Part]) -> str:
    codec = run.runner.codec
    data = codec.decode(value.text)
    if not isinstance(data, dict):
        raise MergeConflict(f"collect_as={key!r} needs data that is an object with keys. Use into= for other data.")
    values = [None if part.text is None else codec.decode(part.text) for part in ended if part.failure is None]
    return codec.encode({**data, key: values})


# --- Shared ---------------------------------------------------------------------------------------------------------


async def _together(
    run: Interpreter, path: str, strand: Strand, count: int, work: Callable[[int, Strand], Any]
) -> None:
    """Run strands; a failure that ends them all is the node's as well."""
    try:
        await run.activity.run(strand, count, work, run.journal.stopping)
    except NodeFailed as failed:
        failed.records.append(run.failed_record(path, failed.failure))
        raise


def _result(run: Interpreter, part: _Part, kind: Any) -> Ok[Any] | Err:
    if part.failure is not None:
        return Err(part.failure)
    return Ok(None if part.text is None else run.runner.codec.decode(part.text, kind))


def _result_type(block: Block) -> Any:
    """As what the result of *block* is read: what its last step's annotation says, or its JSON form."""
    last = block.nodes[-1]
    return last.signature.output_type if isinstance(last, Step) else UNANNOTATED


def _earliest(blocked: list[Blocked]) -> Blocked:
    """What puts the execution to sleep: the first of its strands to go on wakes it. Only one that is alone has a record."""
    return min(blocked, key=lambda b: b.delay)
