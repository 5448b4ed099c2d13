-- Write down that a migration was applied, in its transaction.
--
-- $1 version int4
-- $2 name text
-- Returns nothing
-- Locks   the new row
-- Index   migration_pkey
insert into durable.migration (version, name, applied_at) values ($1::int4, $2::text, durable.clock())
