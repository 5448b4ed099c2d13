-- Make the executions of a dead worker ready again, and count the crash: against those that were suspects already, else
-- against all that were in flight. Claiming them is a second transaction: a fused one would read their journals from a
-- snapshot older than the dead worker's last commit. Suspects go last: whoever goes on for a reaper that died halfway still
-- finds that there was one.
--
-- $1 owner uuid            a worker marked dead
-- $2 suspects_only bool    a suspect was in flight: the crash counts against suspects alone
-- $3 limit int4
-- $4 crashed bool          false for a worker that had signed off, or is forgotten: nothing is counted
-- Returns execution_id uuid, queue text
-- Locks   execution rows in ascending order, then their claims; waits for a record that is being written
-- Index   claim_by_owner, execution_pkey, claim_pkey
with page as (
    select execution_id from durable.claim where owner = $1::uuid order by crashes, execution_id limit $3::int4
), given as materialized (
    select execution_id from page order by execution_id
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
    select execution_id, durable.clock(), shape_id, priority,
           case when not $4::bool then crashes when $2::bool and crashes = 0 then 0 else crashes + 1 end, true, queue, key from held
)
select execution_id, queue from held
