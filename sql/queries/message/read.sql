-- The messages of several executions that nobody has consumed, in the order in which they were sent, a page at a time.
--
-- $1 execution_id uuid[]
-- $2 after_execution_id uuid   the last row of the page before; the zero UUID to begin
-- $3 after_number int4
-- $4 limit int4
-- Returns execution_id uuid, number int4, topic text, payload json
-- Locks   nothing
-- Index   message_unread
select m.execution_id, m.number, m.topic, m.payload
  from durable.message m
 where m.execution_id = any ($1::uuid[]) and (m.execution_id, m.number) > ($2::uuid, $3::int4) and m.consumed_by is null
 order by m.execution_id, m.number
 limit $4::int4
