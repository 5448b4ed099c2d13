-- Executions that are held because code was changed under them, by workflow and reason.
--
-- $1 limit int4
-- Returns workflow text, reason text, executions int8, ids text[]
-- Locks   nothing
-- Index   ready_held, execution_pkey
select e.workflow, r.hold_reason as reason, count(*) as executions, (array_agg(coalesce(e.name, e.execution_id::text) order by r.ready_at))[1:$1::int4] as ids
  from durable.ready r
  join durable.execution e on e.execution_id = r.execution_id
 where cardinality(r.held_by) > 0
 group by e.workflow, r.hold_reason
 order by e.workflow, r.hold_reason
