-- Have an execution that has failed go on from where it failed, with new attempts: it is recorded, and the execution is made ready. The last
-- statement of its transaction, after `execution/lock`. Sent again, it finds itself done. A parent that was told of the end will be told of the next.
--
-- $1 execution_id uuid
-- $2 operation uuid       names this very act
-- $3 acted_by text
-- $4 reason text
-- $5 from_status text[]   the stored statuses from which it can be retried
-- Returns changed bool, status text, queue text, called bool
--         called: its parent waited for it, and was told that it has failed; it is not retried
-- Locks   the execution row (held already), then its row in ended
-- Index   execution_pkey, act_pkey, ended_by_creation, journal_pkey, shape_pkey
with target as materialized (
    select e.execution_id, e.workflow, e.status, e.created_at, e.shape_id, e.priority, e.queue, e.key, e.parent_id
      from durable.execution e
     where e.execution_id = $1::uuid and e.status = any ($5::text[]) and not e.called and not e.given_up
       and not exists (select from durable.act a where a.execution_id = $1::uuid and a.operation = $2::uuid)
), unlisted as (
    delete from durable.ended d
     using target t
     where d.workflow = t.workflow and d.status = t.status and d.created_at = t.created_at and d.execution_id = t.execution_id
), changed as (
    update durable.execution e
       set status = 'pending', ended_at = null, error = null, reason = null, result_seq = null, watchers = null, undo = null, paused = false,
           deadline_at = durable.clock() + make_interval(secs => (select s.timeout from durable.shape s where s.shape_id = t.shape_id))
      from target t
     where e.execution_id = t.execution_id
), untold as (
    update durable.message m set once = m.once || ':' || $2::uuid
      from target t
     where m.execution_id = t.parent_id and m.once = 'c:' || t.execution_id
), recorded as (
    insert into durable.journal (execution_id, seq, attempt, recorded_at, worker_id, seconds, kind, path)
    select t.execution_id, coalesce((select max(j.seq) from durable.journal j where j.execution_id = t.execution_id), 0) + 1, 0, durable.clock(), $2::uuid, 0,
           'retried', ''
      from target t
), readied as (
    insert into durable.ready (execution_id, ready_at, shape_id, priority, crashes, begun, queue, key)
    select execution_id, durable.clock(), shape_id, priority, 0, true, queue, key from target
), noted as (
    insert into durable.act (execution_id, operation, acted_at, kind, acted_by, reason)
    select execution_id, $2::uuid, durable.clock(), 'retry', $3::text, $4::text from target
)
select exists (select from target) or exists (select from durable.act a where a.execution_id = $1::uuid and a.operation = $2::uuid) as changed,
       e.status, e.queue, e.called or e.given_up as called
  from durable.execution e
 where e.execution_id = $1::uuid
