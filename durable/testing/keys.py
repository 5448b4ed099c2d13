"""Which bodies ask for their idempotency key. What a worker process asks for in its own memory is not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable.codec import Codec
from durable.engine.context import Context
from durable.engine.step_runner import Reply
from durable.model.definition import Decision, Step
from durable.testing.memory import CountingRunner


class _Watched(Context):
    """A context that tells when it is asked for its key."""

    _asked: Callable[[str], object] = len

    @property
    def idempotency_key(self) -> str:
        self._asked(self.path)
        return super().idempotency_key

    @classmethod
    def of(cls, context: Context, asked: Callable[[str], object]) -> _Watched:
        return cls(**msgspec.structs.asdict(context), _asked=asked)


class WatchingRunner(CountingRunner):
    """A step runner that tells of each body it is about to call, by its path of each that *asked* for its key, and of each
    call that is to be made *once*: path and key."""

    def __init__(
        self,
        codec: Codec,
        called: Callable[[Context], None],
        asked: Callable[[str], object],
        once: Callable[[str, str], None],
    ) -> None:
        super().__init__(codec, called)
        self._asked = asked
        self._once = once

    async def attempt(self, step: Step | Decision, data: str, context: Context, *more: Any, **options: Any) -> Reply:
        return await super().attempt(step, data, _Watched.of(context, self._asked), *more, **options)

    async def call(self, function: Callable[..., Any], args: Sequence[Any], path: str, key: str) -> Any:
        self._once(path, key)
        return await super().call(function, args, path, key)
