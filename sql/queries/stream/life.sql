-- What has happened in an execution, and what its bodies have told, after a place of each: as of one moment, for what is told after a
-- record must not be seen without it. Each of both in its order, and at most so many of it.
--
-- $1 execution_id uuid
-- $2 after_seq int4        the record up to which all were seen
-- $3 after_position int8   what was told last
-- $4 records int4          at most
-- $5 tellings int4         at most
-- Returns told bool, number int8, at timestamptz, kind text, path text, attempt int4, value json, message text, key text, error json, run_at timestamptz, run uuid
-- Locks   nothing
-- Index   journal_pkey, stream_in_order
(select false as told, j.seq::int8 as number, j.recorded_at as at, j.kind, j.path, j.attempt, j.value, null::text as message, j.key, j.error, j.run_at,
        null::uuid as run
   from durable.journal j
  where j.execution_id = $1::uuid and j.seq > $2::int4
  order by j.seq
  limit $4::int4)
union all
(select true, s.position, s.sent_at, s.kind, s.path, s.attempt, s.value, s.message, null, null, null, s.run
   from durable.stream s
  where s.execution_id = $1::uuid and s.position > $3::int8
  order by s.position
  limit $5::int4)
