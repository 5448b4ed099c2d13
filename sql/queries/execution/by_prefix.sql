-- Executions whose id begins like this: by UUID all, by the caller's own name those in flight and the latest that have ended.
--
-- $1 prefix text
-- $2 low uuid           the first and last UUID that begin so; null when none can
-- $3 high uuid
-- $4 recent int4        how many of each workflow and ending are looked at by name
-- $5 limit int4
-- Returns execution_id uuid, name text, workflow text, status text
-- Locks   nothing
-- Index   execution_pkey, ended_by_creation
with named as (
    select execution_id from durable.ready union all select execution_id from durable.claim union all select execution_id from durable.wake
    union all
    (select x.execution_id
       from (select distinct workflow from durable.shape) as w
      cross join unnest(array['completed', 'failed', 'cancelled', 'compensated', 'compensation_failed']) as s(status)
      cross join lateral (
            select x.execution_id from durable.ended x where x.workflow = w.workflow and x.status = s.status order by x.created_at desc limit $4::int4
      ) x)
), found as (
    select e.execution_id from named n join durable.execution e on e.execution_id = n.execution_id where starts_with(e.name, $1::text)
    union
    (select e.execution_id from durable.execution e where e.execution_id between $2::uuid and $3::uuid order by e.execution_id limit $5::int4)
)
select e.execution_id, e.name, e.workflow, e.status
  from found f join durable.execution e on e.execution_id = f.execution_id
 where e.name is null or starts_with(e.name, $1::text)
 order by e.created_at desc, e.execution_id
 limit $5::int4
