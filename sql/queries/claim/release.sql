-- Give claims back unharmed: what was not finished here is ready for another worker. Repeating it changes nothing.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- Returns n int8, queue text
-- Locks   execution rows in ascending order, then their claims
-- Index   execution_pkey, claim_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[]) with ordinality as g(execution_id, token, n)
), locked as materialized (
    select g.n, g.token, g.execution_id, e.queue, e.key, e.priority, e.shape_id
      from given g
     cross join lateral (
           select e.queue, e.key, e.priority, e.shape_id from durable.execution e where e.execution_id = g.execution_id for no key update
     ) e
), held as materialized (
    select l.*, c.crashes
      from locked l
     cross join lateral (
           select c.crashes from durable.claim c where c.execution_id = l.execution_id and c.token = l.token for update
     ) c
), freed as (
    delete from durable.claim where execution_id = any (array(select execution_id from held))
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, crashes, true, queue, key from held
)
select n, queue from held
