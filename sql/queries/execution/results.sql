-- How executions ended. No row for one that does not exist: what is retried at this moment has a row, whatever it tells.
--
-- $1 execution_id uuid[]
-- Returns execution_id uuid, ended bool, status text, result json, error json, reason text, parent_id uuid
-- Locks   nothing
-- Index   execution_pkey, journal_pkey
select e.execution_id, e.ended_at is not null as ended, e.status, case when e.status <> 'completed' then null when e.result_seq = 0 then e.input else j.value end as result,
       e.error, e.reason, e.parent_id
  from durable.execution e
  left join durable.journal j on j.execution_id = e.execution_id and j.seq = e.result_seq
 where e.execution_id = any ($1::uuid[])
