-- Forget what was to be cancelled: it is.
--
-- $1 execution_id uuid[]
-- Returns nothing
-- Locks   rows of doomed
-- Index   doomed_pkey
delete from durable.doomed where execution_id = any ($1::uuid[])
