-- How many executions have not ended.
--
-- Returns executions int8
-- Locks   nothing
-- Index   none: it counts the narrow tables where they stand
select (select count(*) from durable.ready) + (select count(*) from durable.claim) + (select count(*) from durable.wake) as executions
