-- How long it is to an instant, by the clock of the database.
--
-- $1 instant timestamptz
-- Returns seconds float8
-- Locks   nothing
-- Index   none
select extract(epoch from $1::timestamptz - durable.clock())::float8 as seconds
