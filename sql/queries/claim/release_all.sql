-- Give back every claim of a worker that had to stop its work without losing its identity (PostgreSQL was away longer than
-- the lease). An outage is no crash: nothing is counted.
--
-- $1 owner uuid
-- $2 limit int4
-- $3 except_for uuid[]   whose bodies still run, though they were cancelled
-- Returns execution_id uuid, queue text
-- Locks   execution rows in ascending order, then their claims
-- Index   claim_by_owner, execution_pkey, claim_pkey
with given as materialized (
    select execution_id from durable.claim where owner = $1::uuid and execution_id <> all ($3::uuid[]) order by execution_id limit $2::int4
), locked as materialized (
    select g.execution_id, e.queue, e.key, e.priority, e.shape_id
      from given g
     cross join lateral (
           select e.queue, e.key, e.priority, e.shape_id from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*, c.crashes
      from locked l
     cross join lateral (
           select c.crashes from durable.claim c where c.execution_id = l.execution_id and c.owner = $1::uuid for update
     ) c
), freed as (
    delete from durable.claim where execution_id = any (array(select execution_id from held))
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, crashes, true, queue, key from held
)
select execution_id, queue from held
