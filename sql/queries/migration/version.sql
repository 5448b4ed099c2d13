-- The newest migration that was applied.
--
-- Returns version int4
-- Locks   nothing
-- Index   migration_pkey
select coalesce(max(version), 0) as version from durable.migration
