-- The statement that drops a database, whoever is still connected. It can take no parameters itself.
--
-- $1 name text
-- Returns statement text
-- Locks   nothing
-- Index   none
select format('drop database if exists %I with (force)', $1::text) as statement
