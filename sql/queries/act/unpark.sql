-- Have an execution that was put aside taken up again, after `execution/lock`. One that is being put aside at this moment is waited for.
--
-- $1 execution_id uuid
-- $2 operation uuid   names this very act: sent again, it does nothing
-- Returns nothing
-- Locks   the execution row (held already), then its ready row
-- Index   ready_pkey, act_pkey
update durable.ready
   set held_by = case when held_by = '{}' then null else held_by end, hold_reason = case when held_by = '{}' then null else hold_reason end
 where execution_id = $1::uuid
   and not exists (select from durable.act a where a.execution_id = $1::uuid and a.operation = $2::uuid)
