-- Executions that have not ended, in the order of their ids, a page at a time, with what a worker would be given of them.
--
-- $1 after uuid     the last one of the page before; the zero UUID to begin
-- $2 limit int4
-- Returns execution_id uuid, name text, workflow text, version int4, shape_id int8, status text, input json, undo text, is_held bool, overdue bool
-- Locks   nothing
-- Index   ready_pkey, claim_pkey, wake_pkey, execution_pkey
with page as (
    (select execution_id, coalesce(cardinality(held_by) > 0, false) as is_held, false as claimed from durable.ready where execution_id > $1::uuid order by execution_id limit $2::int4)
    union all
    (select execution_id, false, true from durable.claim where execution_id > $1::uuid order by execution_id limit $2::int4)
    union all
    (select execution_id, false, false from durable.wake where execution_id > $1::uuid order by execution_id limit $2::int4)
    order by execution_id
    limit $2::int4
)
select e.execution_id, e.name, e.workflow, e.version, e.shape_id,
       case when p.claimed and e.status = 'pending' then 'running' else e.status end as status, e.input, e.undo, p.is_held,
       coalesce(e.deadline_at <= durable.clock(), false) as overdue
  from page p
 cross join lateral (select * from durable.execution e where e.execution_id = p.execution_id offset 0) e
 order by e.execution_id
