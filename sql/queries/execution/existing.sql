-- What is known of executions that were found to exist when they were to be started.
--
-- $1 execution_id uuid
-- Returns workflow text, started_by uuid
-- Locks   nothing
-- Index   execution_pkey
select workflow, started_by from durable.execution where execution_id = $1::uuid
