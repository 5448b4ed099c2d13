"""The transaction of one attempt of a transactional step: its record is the last thing in it, under the claim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import asyncpg

from durable.engine.journal import Record, Refused
from durable.errors import ClaimLost, NonRetryable
from durable.store.connection import AGAIN, LOST, Connection
from durable.store.queries import load
from durable.store.transactions import Transaction, Transactions


class OwnedTransaction:
    """See `durable.engine.journal.Transaction`. *given_up*: that what is not committed yet may be left to the next worker."""

    def __init__(
        self,
        transactions: Transactions,
        transaction: Transaction,
        held_by: tuple[UUID, UUID],
        worker_id: UUID,
        given_up: Callable[[], bool],
        on_commit: Callable[[], None],
    ) -> None:
        self._transactions = transactions
        self._transaction = transaction
        self._held_by = held_by
        self._worker_id = worker_id
        self._given_up = given_up
        self._on_commit = on_commit

    @property
    def connection(self) -> Connection:
        """See `durable.engine.journal.Transaction`."""
        return self._transaction.connection

    @property
    def is_lost(self) -> bool:
        """See `durable.engine.journal.Transaction`."""
        return self._transaction.is_lost

    async def commit(self, record: Record) -> bool:
        """See `durable.engine.journal.Transaction`."""
        committing = asyncio.ensure_future(self._commit(record))
        while True:
            try:
                return await asyncio.shield(committing)
            except asyncio.CancelledError:
                if committing.cancelled() or self._given_up():
                    committing.cancel()
                    await asyncio.wait({committing})
                    if not committing.cancelled():
                        committing.exception()  # nobody's any more
                    raise

    async def _commit(self, r: Record) -> bool:
        if not self.is_lost and not self._transaction.is_open:
            raise Refused(
                NonRetryable(
                    f"the body of {r.path!r} has ended its transaction, which is to end with the step's record. Leave out "
                    "COMMIT and ROLLBACK; around a part that may fail, use `async with context().connection.transaction():`."
                )
            )
        row = (*self._held_by, r.seq, r.path, r.attempt, r.value, r.seconds, r.data_seq, self._worker_id)
        try:
            if not await self._transaction.fetch(load("transaction/record"), *row):
                raise ClaimLost(f"the claim under which {r.path!r} was run is gone")
            await self._transaction.commit()
        except AGAIN:
            return False
        except LOST as error:
            if isinstance(error, ValueError):  # asyncpg could not encode an argument: nothing was sent
                raise Refused(error) from error
            self._transaction.drop()
            found = await self._transactions.is_recorded(self._held_by, (self._held_by[0], r.seq))
            if found is None:
                raise ClaimLost(f"the claim under which {r.path!r} was run is gone") from error
            if not found:
                return False
        except asyncpg.PostgresError as error:
            raise Refused(error) from error
        self._on_commit()
        return True

    async def close(self) -> None:
        """See `durable.engine.journal.Transaction`."""
        await self._transaction.close()
