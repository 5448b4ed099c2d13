-- Ask that an execution be ended and undone. Its worker is told; one that nobody runs is made ready, so that a worker hears of it. The
-- last statement of its transaction, after `lock` and `displace`: only then does it see a claim that was made before. Sent
-- again, it finds itself done.
--
-- $1 execution_id uuid
-- $2 operation uuid       names this very request
-- $3 reason text
-- $4 from_status text[]   the stored statuses in which it can be asked for
-- Returns changed bool, status text, claimed bool, queue text
-- Locks   the execution row (held already)
-- Index   execution_pkey, claim_pkey
with target as materialized (
    select e.execution_id, e.shape_id, e.priority, e.queue, e.key,
           exists (select from durable.claim c where c.execution_id = e.execution_id) as claimed
      from durable.execution e
     where e.execution_id = $1::uuid and e.status = any ($4::text[]) and e.undo is null
), changed as (
    update durable.execution e
       set undo = $3::text, undo_by = $2::uuid, status = 'pending'
     where e.execution_id = (select execution_id from target)
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, 0, true, queue, key from target where not claimed
)
select t.execution_id is not null or e.undo_by is not distinct from $2::uuid or (e.undo is not null and e.status = any ($4::text[])) as changed,
       e.status, exists (select from durable.claim c where c.execution_id = e.execution_id) as claimed, e.queue
  from durable.execution e
  left join target t on t.execution_id = e.execution_id
 where e.execution_id = $1::uuid
