-- Wait until no other program migrates, until the end of the transaction.
--
-- $1 lock int8
-- Returns pg_advisory_xact_lock void
-- Locks   an advisory lock
-- Index   none
select pg_advisory_xact_lock($1::int8)
