-- One execution as it stands now.
--
-- $1 execution_id uuid
-- Returns execution_id uuid, name text, workflow text, version int4, shape_id int8, queue text, priority int2, status text, tags text, input json, result json, error json, reason text, created_at timestamptz, due_at timestamptz, deadline_at timestamptz, ended_at timestamptz, claimed_at timestamptz, worker_id uuid, crashes int2, wake_at timestamptz, hold text, hold_reason text, held_by int8[], undo text, topics text[], parent_id uuid, parent_name text
-- Locks   nothing
-- Index   execution_pkey, claim_pkey, ready_pkey, wake_pkey, journal_pkey
select e.execution_id, e.name, e.workflow, e.version, e.shape_id, e.queue, e.priority,
       case when c.execution_id is not null and e.status = 'pending' then 'running' else e.status end as status,
       e.tags::text as tags, e.input,
       case when e.status <> 'completed' then null when e.result_seq = 0 then e.input else j.value end as result,
       e.error, e.reason, e.created_at, e.due_at, e.deadline_at, e.ended_at, c.claimed_at, c.owner as worker_id,
       coalesce(c.crashes, r.crashes, 0::smallint) as crashes, nullif(w.due_at, 'infinity') as wake_at,
       case when e.paused and e.ended_at is null and e.undo is null and e.status <> 'compensating' then 'paused' when r.held_by <> '{}' then 'definition' end as hold,
       case when r.held_by = '{}' or r.held_by is null
            then (select a.reason from durable.act a where e.paused and a.execution_id = e.execution_id and a.kind = 'pause' order by a.acted_at desc limit 1)
            else r.hold_reason end as hold_reason,
       r.held_by, e.undo, w.topics, e.parent_id, p.name as parent_name
  from durable.execution e
  left join durable.execution p on p.execution_id = e.parent_id
  left join durable.claim c on c.execution_id = e.execution_id
  left join durable.ready r on r.execution_id = e.execution_id
  left join durable.wake w on w.execution_id = e.execution_id
  left join durable.journal j on j.execution_id = e.execution_id and j.seq = e.result_seq
 where e.execution_id = $1::uuid
