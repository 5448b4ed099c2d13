"""What the body of a step may ask people: `durable.wait_for_input` and its siblings. How a body waits is in `durable.body`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

from durable.body import NOTHING_GIVEN, duration_seconds
from durable.engine.effects import effects
from durable.engine.journal import Asked
from durable.engine.waits import Wait, wait
from durable.errors import DecodeError, NonRetryable, UsageError
from durable.model.answers import INPUT
from durable.model.definition import UNANNOTATED
from durable.model.inputs import Choice, Field, InputType, Request, request
from durable.model.names import check_name

T = TypeVar("T")
Choices: TypeAlias = Sequence[str | int | Choice | dict[str, Any]]
Fields: TypeAlias = Sequence[Field | dict[str, Any]]


class Asking(TypedDict, total=False):
    """How anything may be asked; see `wait_for_input`."""

    prompt: str | None
    metadata: Any
    timeout: timedelta | None
    timeout_value: Any
    on_timeout: Literal["resume", "fail"] | None
    remind_every: timedelta | None
    key: str | None


async def wait_for_input(
    name: str,
    *,
    type: InputType = "text",
    choices: Choices | None = None,
    multiple: bool = False,
    fields: Fields | None = None,
    form: Any = None,
    **asking: Unpack[Asking],
) -> Any:
    """Ask people, and wait for the answer: it stands in `Client.list_pending_inputs` until somebody gives it by
    `Client.provide_input`, which refuses what does not answer the question.

    An ``"approval"`` is answered by "approved" or "rejected"; a ``"choice"`` by one of *choices*, or with *multiple* by a list
    of them; a ``"text"`` by a string; a ``"form"`` by an object with *fields* (`Field` or a dict of its attributes), or one
    that *form* (a dataclass, Struct, TypedDict or Pydantic model) can be made of: such a one is what the body gets. *prompt*
    and *metadata* (JSON) are for who answers.

    Each wait is a question of its own, and gets its own answer: one that was given before, or to another of the same name,
    never answers it. *timeout* counts from when it is asked first; after it, with *on_timeout* ``"resume"`` the wait returns
    *timeout_value* (default: None), with ``"fail"`` it raises `WaitTimeout`, and the step's next attempt asks anew. Without
    *on_timeout*, it is to resume when there is a *timeout_value*. An answer whose call has returned beats the timeout.
    *remind_every* has the engine's ``on_reminder`` called that often while nobody answers. *key* tells apart the waits of
    several tasks of one body for the same name.

    It occupies no slot, see `sleep`. Raises `UsageError` outside a step's body and for a question that cannot be asked,
    `AmbiguousEffect`, and `NonRetryable` when *form* refuses what its schema has let pass. If cancelled, the question stays
    for the next run of the body.
    """
    asked = request(type, asking.get("prompt"), choices, multiple, fields, form, asking.get("metadata"))
    pairs, fallback = await _ask(name, asked, asking)
    if pairs is None:
        return fallback
    try:
        return effects().codec.decode(pairs[0][1], UNANNOTATED if form is None else form)
    except DecodeError as error:
        raise NonRetryable(f"the answer to {name!r} is not what the form takes: {error}") from error


async def wait_for_approval(name: str, **asking: Unpack[Asking]) -> Any:
    """Ask for an approval: "approved" or "rejected". See `wait_for_input`."""
    return await wait_for_input(name, type="approval", **asking)


async def wait_for_choice(name: str, *, choices: Choices, multiple: bool = False, **asking: Unpack[Asking]) -> Any:
    """Let somebody choose: one of *choices*, or with *multiple* a list of them. See `wait_for_input`."""
    return await wait_for_input(name, type="choice", choices=choices, multiple=multiple, **asking)


async def wait_for_text(name: str, **asking: Unpack[Asking]) -> Any:
    """Ask for a text. See `wait_for_input`."""
    return await wait_for_input(name, type="text", **asking)


@overload
async def wait_for_form(name: str, *, form: type[T], **asking: Unpack[Asking]) -> T: ...
@overload
async def wait_for_form(name: str, *, fields: Fields, **asking: Unpack[Asking]) -> Any: ...
async def wait_for_form(name: str, *, fields: Fields | None = None, form: Any = None, **asking: Unpack[Asking]) -> Any:
    """Let somebody fill in a form: a dict of its *fields*, or a *form* as the class makes it. See `wait_for_input`."""
    return await wait_for_input(name, type="form", fields=fields, form=form, **asking)


async def _ask(name: str, asked: Request, asking: Asking) -> tuple[list[tuple[str, str]] | None, Any]:
    """The answer, or what stands for it when none came in time."""
    check_name(name, "the name of an input")
    if unknown := asking.keys() - Asking.__annotations__.keys():
        raise UsageError(f"nobody can be asked with {', '.join(sorted(unknown))}. See wait_for_input().")
    reminding, timeout = asking.get("remind_every"), asking.get("timeout")
    remind_every = None if reminding is None else duration_seconds(reminding, "remind_every")
    if remind_every is not None and remind_every < 1:
        raise UsageError("remind_every is less than a second.")
    fallback, on_timeout = asking.get("timeout_value", NOTHING_GIVEN), asking.get("on_timeout")
    if on_timeout not in (None, "resume", "fail"):
        raise UsageError(f'on_timeout is {on_timeout!r}. Give "resume" or "fail".')
    if on_timeout == "fail" and fallback is not NOTHING_GIVEN:
        raise UsageError('on_timeout="fail" raises WaitTimeout: there is no use for a timeout_value.')
    resumes = on_timeout == "resume" or fallback is not NOTHING_GIVEN
    if timeout is None and (resumes or on_timeout):
        raise UsageError("on_timeout and timeout_value say what a timeout= does. Give one.")
    question = Wait(
        INPUT + json.dumps(name, ensure_ascii=False),
        asking.get("key"),
        timeout=None if timeout is None else duration_seconds(timeout, "timeout"),
        lenient=resumes,
        asked=Asked(name, asked, effects().codec.encode(asked), remind_every),
    )
    pairs = await wait(effects(), question)
    return pairs, None if fallback is NOTHING_GIVEN else fallback
