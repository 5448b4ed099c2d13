-- All that one execution has asked, in order.
--
-- $1 execution_id uuid
-- Returns execution_id uuid, execution_name text, seq int4, name text, kind text, workflow text, path text, status text, requested_at timestamptz, due_at timestamptz, closed_at timestamptz, answered_by text, reminded int4, request json, answer json
-- Locks   nothing
-- Index   input_pkey, execution_pkey
select i.execution_id, e.name as execution_name, i.seq, i.name, i.kind, i.workflow, i.path,
       case when i.status = 'pending' and e.ended_at is not null then 'withdrawn' else i.status end as status,
       i.requested_at, i.due_at, i.closed_at, i.answered_by, i.reminded, i.request, i.answer
  from durable.input i
  join durable.execution e on e.execution_id = i.execution_id
 where i.execution_id = $1::uuid
 order by i.seq
