-- Which run has told something last, for each step of an execution, up to a position.
--
-- $1 execution_id uuid
-- $2 until int8
-- Returns path text, run uuid, attempt int4
-- Locks   nothing
-- Index   stream_in_order
select distinct on (s.path) s.path, s.run, s.attempt
  from durable.stream s
 where s.execution_id = $1::uuid and s.position <= $2::int8 and s.kind = 'chunk'
 order by s.path, s.position desc
