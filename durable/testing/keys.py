"""Which bodies ask for their idempotency key. What a worker process asks for in its own memory is not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.codec import Codec
from durable.engine.context import Context
from durable.engine.step_runner import Reply
from durable.model.definition import Decision, Step
from durable.testing.memory import CountingRunner


class _Watched(Context):
    """A context that tells when it is asked for its key."""

    __slots__ = ("_asked",)

    _asked: Callable[[str], object]

    @property
    def idempotency_key(self) -> str:
        self._asked(self.path)
        return super().idempotency_key

    @classmethod
    def of(cls, context: Context, asked: Callable[[str], object]) -> _Watched:
        _, arguments = context.__reduce__()
        watched = cls(*arguments)
        watched.engine = context.engine
        watched._asked = asked
        return watched


class WatchingRunner(CountingRunner):
    """A step runner that tells of each body it is about to call, and by its path of each that *asked* for its key."""

    def __init__(self, codec: Codec, called: Callable[[Context], None], asked: Callable[[str], object]) -> None:
        super().__init__(codec, called)
        self._asked = asked

    async def attempt(self, step: Step | Decision, data: str, context: Context, *more: Any, **options: Any) -> Reply:
        return await super().attempt(step, data, _Watched.of(context, self._asked), *more, **options)
