-- Put an execution aside that is ready, after `execution/lock`: it stays so, and nobody takes it up. A claim that is being made at this moment is
-- waited for, and can be seen by the next statement of the transaction.
--
-- $1 execution_id uuid
-- $2 operation uuid   names this very act: sent again, it does nothing
-- Returns nothing
-- Locks   the execution row (held already), then its ready row
-- Index   execution_pkey, ready_pkey, act_pkey
update durable.ready r
   set held_by = '{}', hold_reason = 'paused'
  from durable.execution e
 where r.execution_id = $1::uuid and e.execution_id = $1::uuid and r.held_by is null and e.undo is null and e.status = any (array['pending', 'waiting'])
   and not exists (select from durable.act a where a.execution_id = $1::uuid and a.operation = $2::uuid)
