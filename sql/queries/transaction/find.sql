-- Whether a record is there. After `transaction/hold`, in a statement of its own: what was committed during that wait is seen.
--
-- $1 execution_id uuid
-- $2 seq int4
-- Returns found bool
-- Locks   nothing
-- Index   journal_pkey
select exists (select from durable.journal where execution_id = $1::uuid and seq = $2::int4) as found
