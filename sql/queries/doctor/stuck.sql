-- Executions that have been ready for long, and that nobody has taken, by queue; but for queues that are paused.
--
-- $1 seconds float8
-- $2 limit int4
-- Returns queue text, executions int8, seconds float8, ids text[]
-- Locks   nothing
-- Index   ready_in_order
select r.queue, count(*) as executions, extract(epoch from durable.clock() - min(r.ready_at))::float8 as seconds,
       (array_agg(coalesce(e.name, e.execution_id::text) order by r.ready_at))[1:$2::int4] as ids
  from durable.ready r
  join durable.execution e on e.execution_id = r.execution_id
 where r.held_by is null and r.ready_at < durable.clock() - make_interval(secs => $1::float8)
   and not exists (select from durable.queue q where q.queue = r.queue and q.paused)
 group by r.queue
 order by r.queue
