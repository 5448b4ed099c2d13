-- Executions that were in flight when workers died, more than once.
--
-- $1 limit int4
-- Returns executions int8, crashes int2, ids text[]
-- Locks   nothing
-- Index   execution_pkey
select count(*) as executions, max(s.crashes) as crashes, (array_agg(coalesce(e.name, e.execution_id::text) order by s.crashes desc))[1:$1::int4] as ids
  from (select execution_id, crashes from durable.ready where crashes >= 2
        union all select execution_id, crashes from durable.claim where crashes >= 2) as s
  join durable.execution e on e.execution_id = s.execution_id
having count(*) > 0
