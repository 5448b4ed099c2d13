-- The statement that vacuums one of our tables. It can take no parameters itself.
--
-- $1 table_name text
-- Returns statement text
-- Locks   nothing
-- Index   none
select format('vacuum (analyze) durable.%I', $1::text) as statement
