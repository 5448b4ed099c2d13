"""A link over a pooler, which lends a server connection for one transaction."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import asyncpg
import pytest

from durable.errors import UsageError
from durable.store.connection import Link, Pooled
from durable.store.executions import Executions
from durable.store.queries import load

BEYOND = datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))


async def test_what_cannot_be_encoded_leaves_no_transaction_open_in_which_later_statements_would_be_lost(
    database: str,
) -> None:
    link, other = Link(Pooled(database), "test"), await asyncpg.connect(database)
    for _ in range(2):
        with pytest.raises(asyncpg.DataError):
            await link.fetch(load("clock/until"), BEYOND)
    await link.fetch(load("queue/pause"), "default", True, "why", None)
    assert await other.fetchval("select paused from durable.queue where queue = 'default'")
    await link.close()
    await other.close()


@pytest.mark.parametrize("kind", [str, Pooled])
async def test_a_question_with_what_cannot_be_encoded_is_refused_at_once(database: str, kind: type[str]) -> None:
    executions = Executions(kind(database))
    with pytest.raises(UsageError, match="cannot take what was given"):
        await executions.fetch("clock/until", BEYOND)
    assert (await executions.fetch("clock/now"))[0]["now"]
    await executions.close()
