-- What executions ask and nobody has answered, the oldest first, a page at a time.
--
-- $1 workflow text        null for any
-- $2 name text            null for any
-- $3 kind text            null for any
-- $4 due_before timestamptz   only what expires before; null for any
-- $5 after timestamptz    the last row of the page before: null to begin
-- $6 after_execution_id uuid
-- $7 after_seq int4
-- $8 limit int4
-- Returns execution_id uuid, execution_name text, seq int4, name text, kind text, workflow text, path text, status text, requested_at timestamptz, due_at timestamptz, closed_at timestamptz, answered_by text, reminded int4, request json, answer json
-- Locks   nothing
-- Index   input_pending, execution_pkey
select i.execution_id, e.name as execution_name, i.seq, i.name, i.kind, i.workflow, i.path, i.status, i.requested_at, i.due_at, i.closed_at, i.answered_by,
       i.reminded, i.request, i.answer
  from durable.input i
  join durable.execution e on e.execution_id = i.execution_id
 where i.status = 'pending' and e.ended_at is null
   and ($1::text is null or i.workflow = $1::text) and ($2::text is null or i.name = $2::text) and ($3::text is null or i.kind = $3::text)
   and ($4::timestamptz is null or i.due_at < $4::timestamptz)
   and (i.requested_at, i.execution_id, i.seq) > (coalesce($5::timestamptz, '-infinity'), coalesce($6::uuid, '00000000-0000-0000-0000-000000000000'), coalesce($7::int4, 0))
 order by i.requested_at, i.execution_id, i.seq
 limit $8::int4
