-- Take an execution out of the places where it waits, after `lock`. A claim that is being made at this moment is waited for,
-- and can be seen by the next statement of the transaction.
--
-- $1 execution_id uuid
-- $2 from_status text[]   the stored statuses in which it may be displaced
-- Returns nothing
-- Locks   the execution row (held already), then its ready and wake rows
-- Index   execution_pkey, ready_pkey, wake_pkey
with target as materialized (
    select execution_id from durable.execution where execution_id = $1::uuid and status = any ($2::text[])
), unreadied as (
    delete from durable.ready where execution_id = (select execution_id from target)
)
delete from durable.wake where execution_id = (select execution_id from target)
