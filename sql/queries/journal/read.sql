-- Read journals of several executions, a page at a time, in order.
--
-- $1 execution_id uuid[]
-- $2 after_execution_id uuid   the last row of the page before; the zero UUID to begin
-- $3 after_seq int4
-- $4 limit int4
-- Returns execution_id uuid, seq int4, path text, kind text, attempt int4, target text, data_seq int4, key text, value json, error json, run_in float8, seconds float4, worker_id uuid, recorded_at timestamptz, run_at timestamptz
-- Locks   nothing
-- Index   journal_pkey
select j.execution_id, j.seq, j.path, j.kind, j.attempt, j.target, j.data_seq, j.key, j.value, j.error, extract(epoch from j.run_at - durable.clock())::float8 as run_in,
       j.seconds, j.worker_id, j.recorded_at, j.run_at
  from durable.journal j
 where j.execution_id = any ($1::uuid[]) and (j.execution_id, j.seq) > ($2::uuid, $3::int4)
 order by j.execution_id, j.seq
 limit $4::int4
