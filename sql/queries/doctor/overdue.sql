-- Executions that should have been woken long ago.
--
-- $1 seconds float8
-- $2 limit int4
-- Returns executions int8, seconds float8, ids text[]
-- Locks   nothing
-- Index   wake_by_time, execution_pkey
select count(*) as executions, extract(epoch from durable.clock() - min(w.due_at))::float8 as seconds,
       (array_agg(coalesce(e.name, e.execution_id::text) order by w.due_at))[1:$2::int4] as ids
  from durable.wake w
  join durable.execution e on e.execution_id = w.execution_id
 where w.due_at < durable.clock() - make_interval(secs => $1::float8)
having count(*) > 0
