-- Let an execution that is paused go on. The last statement of its transaction, after `execution/lock` and `act/unpark`. Sent again, it finds itself
-- done.
--
-- $1 execution_id uuid
-- $2 operation uuid   names this very act
-- $3 acted_by text
-- $4 reason text
-- Returns changed bool, status text, claimed bool, queue text, paused bool
-- Locks   the execution row (held already)
-- Index   execution_pkey, act_pkey, claim_pkey
with target as materialized (
    select execution_id from durable.execution where execution_id = $1::uuid and paused and ended_at is null
       and not exists (select from durable.act a where a.execution_id = $1::uuid and a.operation = $2::uuid)
), changed as (
    update durable.execution set paused = false where execution_id = (select execution_id from target)
), noted as (
    insert into durable.act (execution_id, operation, acted_at, kind, acted_by, reason)
    select execution_id, $2::uuid, durable.clock(), 'resume', $3::text, $4::text from target
)
select exists (select from target) or exists (select from durable.act a where a.execution_id = $1::uuid and a.operation = $2::uuid) as changed,
       e.status, exists (select from durable.claim c where c.execution_id = e.execution_id) as claimed, e.queue, e.paused
  from durable.execution e
 where e.execution_id = $1::uuid
