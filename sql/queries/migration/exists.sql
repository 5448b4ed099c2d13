-- Whether this database was ever migrated. Asked of the catalog's rows: `to_regclass` may answer from a cache that is older
-- than the lock which was just waited for.
--
-- Returns found bool
-- Locks   nothing
-- Index   none of ours
select exists (select from pg_catalog.pg_tables where schemaname = 'durable' and tablename = 'migration') as found
