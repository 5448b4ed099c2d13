-- Cancel an execution and take its claim away, unless it is to be undone. Sent again, it finds itself done. The last statement of its
-- transaction, after `lock` and `displace`: only then does it see a claim that was made before the execution was out of every
-- other place.
--
-- $1 execution_id uuid
-- $2 operation uuid       names this very cancel
-- $3 reason text
-- $4 from_status text[]   the stored statuses from which it may be cancelled
-- Returns changed bool, status text, claimed bool, watchers uuid[]
-- Locks   the execution row (held already), then its claim and what it has asked
-- Index   execution_pkey, claim_pkey, input_pkey
with target as materialized (
    select execution_id, workflow, created_at
      from durable.execution
     where execution_id = $1::uuid and status = any ($4::text[]) and undo is null
), unclaimed as (
    delete from durable.claim where execution_id = (select execution_id from target) returning execution_id
), changed as (
    update durable.execution
       set status = 'cancelled', released_by = $2::uuid, reason = $3::text, ended_at = durable.clock()
     where execution_id = (select execution_id from target)
), withdrawn as (
    update durable.input
       set status = 'withdrawn', closed_at = durable.clock(), remind_at = null
     where execution_id = (select execution_id from target) and status = 'pending'
), unsubscribed as (
    delete from durable.subscription where execution_id = (select execution_id from target)
), listed as (
    insert into durable.ended (created_at, ended_at, execution_id, workflow, status)
    select created_at, durable.clock(), execution_id, workflow, 'cancelled' from target
)
select t.execution_id is not null or e.released_by is not distinct from $2::uuid as changed, e.status,
       exists (select from unclaimed) or e.released_by is not distinct from $2::uuid as claimed, e.watchers
  from durable.execution e
  left join target t on t.execution_id = e.execution_id
 where e.execution_id = $1::uuid
