-- Wait for a transaction of this claim whose reply was lost: it holds the row until it has ended. The wait is all that is wanted; the
-- lock may go at once.
--
-- $1 execution_id uuid
-- $2 token uuid
-- Returns held bool
-- Locks   the claim row
-- Index   claim_pkey
select true as held from durable.claim where execution_id = $1::uuid and token = $2::uuid for update
