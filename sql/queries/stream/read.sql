-- What the bodies of an execution have told, in order, a page at a time.
--
-- $1 execution_id uuid
-- $2 after int8           the last position of the page before
-- $3 limit int4
-- Returns position int8, run uuid, attempt int4, sent_at timestamptz, kind text, path text, message text, value json
-- Locks   nothing
-- Index   stream_in_order
select s.position, s.run, s.attempt, s.sent_at, s.kind, s.path, s.message, s.value
  from durable.stream s
 where s.execution_id = $1::uuid and s.position > $2::int8
 order by s.position
 limit $3::int4
