-- Law 9: the narrow copy of what has ended says the same as the execution.
--
-- Returns execution_id uuid, status text, copied text
select e.execution_id, e.status, x.status as copied
  from durable.ended x
  join durable.execution e on e.execution_id = x.execution_id
 where (e.status, e.workflow, e.created_at, e.ended_at) is distinct from (x.status, x.workflow, x.created_at, x.ended_at)
