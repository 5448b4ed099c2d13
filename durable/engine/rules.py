"""Asking the functions of the author that decide about the flow: `on`, `items`, `until`, `into`.

They are called once for each recorded answer, and not tried again. What they raise is the failure of their node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable.engine.journal import Record, Value
from durable.engine.strands import NodeFailed, Strand
from durable.errors import EncodeError, Interruption
from durable.model.definition import Rule
from durable.model.failure import Failure
from durable.model.results import ArmResults, ItemResults

if TYPE_CHECKING:
    from durable.engine.interpreter import Interpreter, Jump


async def ask(run: Interpreter, path: str, strand: Strand, rule: Rule, value: Value) -> Any:
    """What *rule* says of the data."""
    return await decide(run, path, strand, rule, lambda: run.runner.values(rule.signature, value.text, strand.item))


async def decide(run: Interpreter, path: str, strand: Strand, rule: Rule, values: Callable[[], tuple[Any, ...]]) -> Any:
    """What a function of the author's says. Raises `NodeFailed` when it raises: it is not tried again."""

    async def called() -> Any:
        return await run.runner.decide(rule, *values())

    try:
        run.may_begin(strand)
        run.refuse_killers(path)
        said, error = await run.guarded(called(), strand)
    except (Interruption, asyncio.CancelledError):
        await run.write(strand)  # the step before has ended, and whoever goes on must not repeat it
        raise
    if error is not None:
        raise await failed(run, path, strand, error)
    return said


async def into(
    run: Interpreter,
    path: str,
    value: Value,
    strand: Strand,
    hold: bool,
    rule: Rule,
    results: Callable[[], ArmResults | ItemResults],
) -> Value | Jump:
    """Let the author make the data that goes on out of the results, and record it."""
    codec = run.runner.codec
    said = await decide(
        run, path, strand, rule, lambda: (codec.decode(value.text, rule.signature.input_type), results())
    )
    try:
        reply = run.runner.reply(said, rule.signature.output_type)
    except EncodeError as error:
        raise await failed(run, path, strand, error) from error
    record = Record(run.subject.history.take_seq(), path, "completed", value=reply.value, target=reply.target)
    return await run.settle(record, value, strand, hold)


async def failed(run: Interpreter, path: str, strand: Strand, error: Exception) -> NodeFailed:
    """The failure of the node at *path* itself. What its strand has pending is recorded before."""
    await run.write(strand)
    failure = Failure.of(error)
    return NodeFailed(failure, run.failed_record(path, failure))
