-- Whether this database was ever migrated.
--
-- Returns found bool
-- Locks   nothing
-- Index   none
select to_regclass('durable.migration') is not null as found
