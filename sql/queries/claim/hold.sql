-- Give claims back on executions that the code here cannot go on with: they wait for a worker whose code can. One that was asked
-- to be undone since it was judged waits for anyone, for to undo it another code may do. Repeating it changes nothing.
--
-- $1 execution_id uuid[]   in ascending order
-- $2 token uuid[]
-- $3 held_by text[]        the shapes of all definitions that were found unable, each as an array: {1,2}
-- $4 reason text[]         what was expected, and what was found
-- $5 ending bool[]         whether it was judged as one that is to be ended, or undone
-- Returns n int8, queue text, stays bool
-- Locks   execution rows in ascending order, then their claims
-- Index   execution_pkey, claim_pkey
with given as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bool[]) with ordinality as g(execution_id, token, held_by, reason, ending, n)
), locked as materialized (
    select g.*, e.queue, e.key, e.priority, e.shape_id, ending or e.undo is null as stays
      from given g
     cross join lateral (
           select e.queue, e.key, e.priority, e.shape_id, e.undo from durable.execution e where e.execution_id = g.execution_id for no key update
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
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key, held_by, hold_reason)
    select execution_id, durable.clock(), shape_id, priority, crashes, true, queue, key,
           case when stays then held_by::int8[] end, case when stays then reason end
      from held
)
select n, queue, stays from held
