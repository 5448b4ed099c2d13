-- Lock an execution, the first statement of a transaction that acts on it: from then on it stays in its place.
--
-- $1 execution_id uuid
-- Returns workflow text, status text, name text, undo text
-- Locks   the execution row
-- Index   execution_pkey
select workflow, status, name, undo from durable.execution where execution_id = $1::uuid for no key update
