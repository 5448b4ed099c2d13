-- What is known of an execution that was found to exist, or to have existed, when it was to be started.
--
-- $1 execution_id uuid
-- Returns workflow text, started_by uuid
-- Locks   nothing
-- Index   execution_pkey, kept_pkey
select workflow, started_by from durable.execution where execution_id = $1::uuid
union all
select workflow, null from durable.kept where execution_id = $1::uuid
 limit 1
