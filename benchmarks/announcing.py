"""A worker that tells when it waits for work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable import Durable


class Announcing(Durable):
    """Calls *on_work* when it has begun to work."""

    def __init__(self, dsn: str, on_work: Callable[[], None], **options: Any) -> None:
        super().__init__(dsn, **options)
        self._on_work = on_work

    async def __aenter__(self) -> Durable:
        engine = await super().__aenter__()
        self._on_work()
        return engine
