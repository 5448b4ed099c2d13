-- Which run has told something last, for each step of an execution, up to a position, in the life that it had at a record.
--
-- $1 execution_id uuid
-- $2 until int8
-- $3 seq int4
-- Returns path text, run uuid, attempt int4
-- Locks   nothing
-- Index   stream_in_order, journal_pkey, past_pkey
select distinct on (s.path) s.path, s.run, s.attempt
  from durable.stream s
 where s.execution_id = $1::uuid and s.position <= $2::int8 and s.kind = 'chunk'
   and s.sent_at > coalesce((select max(j.recorded_at) from (select * from durable.journal union all select * from durable.past) j
                              where j.execution_id = $1::uuid and j.kind = 'continued' and j.seq <= $3::int4), '-infinity')
 order by s.path, s.position desc
