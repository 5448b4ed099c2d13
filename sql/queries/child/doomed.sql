-- What is to be cancelled, in the order in which that was decided.
--
-- $1 limit int4
-- Returns execution_id uuid, undo bool, reason text
-- Locks   nothing
-- Index   doomed_in_order
select execution_id, undo, reason from durable.doomed order by doomed_at, execution_id limit $1::int4
