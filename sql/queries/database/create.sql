-- The statement that makes a database from a template. It can take no parameters itself.
--
-- $1 name text
-- $2 template text
-- Returns statement text
-- Locks   nothing
-- Index   none
select format('create database %I template %I', $1::text, $2::text) as statement
