"""The transaction of one attempt of a transactional step: its record is the last thing in it, under the claim."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from durable.engine.journal import NotCommitted, Record, Refused
from durable.errors import NonRetryable
from durable.store.connection import AGAIN, LOST, Connection
from durable.store.queries import load
from durable.store.transactions import Transaction, Transactions

if TYPE_CHECKING:
    from durable.runtime.owned import Owned


class OwnedTransaction:
    """See `durable.engine.journal.Transaction`."""

    def __init__(self, owned: Owned, transactions: Transactions, transaction: Transaction) -> None:
        self._owned = owned
        self._transactions = transactions
        self._transaction = transaction

    @property
    def connection(self) -> Connection:
        """See `durable.engine.journal.Transaction`."""
        return self._transaction.connection

    @property
    def is_lost(self) -> bool:
        """See `durable.engine.journal.Transaction`."""
        return self._transaction.is_lost

    async def commit(self, record: Record) -> None:
        """See `durable.engine.journal.Transaction`."""
        committing = asyncio.ensure_future(self._commit(record))
        while True:
            try:
                return await asyncio.shield(committing)
            except asyncio.CancelledError:
                if committing.cancelled() or self._owned.goes_on_elsewhere():
                    committing.cancel()
                    committing.add_done_callback(_nobodys)  # for this wait may be cancelled, too
                    await asyncio.wait({committing})
                    raise

    async def _commit(self, r: Record) -> None:
        owned = self._owned
        if not self.is_lost and not self._transaction.is_open:
            raise Refused(
                NonRetryable(
                    f"the body of {r.path!r} has ended its transaction, which is to end with the step's record. Leave out "
                    "COMMIT and ROLLBACK; around a part that may fail, use `async with context().connection.transaction():`."
                )
            )
        row = (owned.execution_id, owned.token, r.seq, r.path, r.attempt, r.value, r.seconds, r.data_seq)
        try:
            if not await self._transaction.fetch(load("transaction/record"), *row, owned.writes.worker_id):
                raise owned.lost()
            await self._transaction.commit()
        except AGAIN as error:
            raise NotCommitted(error) from error
        except LOST as error:
            if isinstance(error, asyncpg.InterfaceError) and self._transaction.is_open:
                why = f"the body of {r.path!r} has left a statement behind that still runs. Await all that it begins."
                raise Refused(NonRetryable(f"{why} ({error})")) from error
            self._transaction.drop()
            if (
                owned.goes_on_elsewhere()
            ):  # whoever goes on with it reads the journal; this task was cancelled as it broke
                raise asyncio.CancelledError from error
            found = await self._transactions.is_recorded(owned.execution_id, owned.token, r.seq)
            if found is None:
                raise owned.lost() from error
            if not found:
                raise NotCommitted(error) from error
        except asyncpg.PostgresError as error:
            raise Refused(error) from error
        owned.moved()

    async def close(self) -> None:
        """See `durable.engine.journal.Transaction`."""
        await self._transaction.close()


def _nobodys(committing: asyncio.Future[None]) -> None:
    """Its error is of no interest any more."""
    if not committing.cancelled():
        committing.exception()
