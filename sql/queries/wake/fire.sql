-- Make ready what is due, and tell when the next one is, and whether something was posted that nobody has delivered, or is to be cancelled.
--
-- $1 limit int4
-- $2 from_status text[]   the stored statuses that a wake-up changes to pending; others stay
-- Returns fired int8, more bool, queues text[], next_in float8, posted bool, doomed bool
--         more: there may be more that is due; a page that others have taken from meanwhile is no short one
-- Locks   execution rows in ascending order, then their wake rows
-- Index   wake_by_time, execution_pkey, wake_pkey
with given as materialized (
    select execution_id
      from (select execution_id from durable.wake where due_at <= durable.clock() order by due_at limit $1::int4) as due
     order by execution_id
), locked as materialized (
    select g.execution_id, e.queue, e.key, e.priority, e.shape_id, e.status <> 'pending' as begun, e.status = any ($2::text[]) as waiting
      from given g
     cross join lateral (
           select e.queue, e.key, e.priority, e.shape_id, e.status from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), woken as materialized (
    select l.*, w.due_at
      from locked l
     cross join lateral (
           select w.due_at from durable.wake w where w.execution_id = l.execution_id for update
     ) w
), removed as (
    delete from durable.wake where execution_id = any (array(select execution_id from woken))
), changed as (
    update durable.execution set status = 'pending'
     where execution_id = any (array(select execution_id from woken where waiting))
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, due_at, shape_id, priority, 0, begun, queue, key from woken
)
select (select count(*) from woken) as fired,
       (select count(*) from given) = $1::int4 as more,
       (select array_agg(distinct queue) from woken) as queues,
       extract(epoch from (select min(due_at) from durable.wake where due_at > durable.clock() and due_at < 'infinity') - durable.clock())::float8 as next_in,
       exists (select from durable.posted where refused is null) or exists (select from durable.emission where not spread) as posted,
       exists (select from durable.doomed) as doomed
