-- Settings for the rest of a transaction, where the session belongs to somebody else.
--
-- $1 name text[]
-- $2 value text[]
-- Returns n int8
-- Locks   nothing
-- Index   none
select count(set_config(name, value, true)) as n from unnest($1::text[], $2::text[]) as s(name, value)
