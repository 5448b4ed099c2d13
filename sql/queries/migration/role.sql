-- Whether there is a role, and whether it is above all rules.
--
-- $1 role text
-- Returns superuser bool
-- Locks   nothing
-- Index   none of ours
select rolsuper as superuser from pg_catalog.pg_roles where rolname = $1::text
