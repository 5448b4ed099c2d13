-- What time it is, by the clock of the database.
--
-- Returns now timestamptz
-- Locks   nothing
-- Index   none
select durable.clock() as now
