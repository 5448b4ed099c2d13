-- How many executions sleep, about: as PostgreSQL has counted them last. To count a million is not for every scrape.
--
-- Returns n int8
-- Locks   nothing
-- Index   none
select case when c.reltuples < 10000 then (select count(*) from durable.wake) else c.reltuples::int8 end as n
  from pg_catalog.pg_class c
 where c.oid = 'durable.wake'::regclass
